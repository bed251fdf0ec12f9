"""Settings of `make lab`: what is saved in JupyterLab is what git keeps.

Notebooks are saved without volatile metadata (nbdev's hook), experiments also without outputs. The open page keeps
them.
"""
from pathlib import PurePath

from nbdev.clean import clean_jupyter


def clean(model, path, **kwargs):
    "Clean a notebook before it is saved"
    clean_jupyter(path=path, model=model)
    if model["type"] != "notebook" or PurePath(path).parent.name != "experiments":
        return
    for cell in model["content"]["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)


c = get_config() # noqa: F821 (Jupyter defines it)
c.FileContentsManager.pre_save_hook = clean
