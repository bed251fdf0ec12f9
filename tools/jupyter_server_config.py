"""Settings of `make lab`: what is saved in JupyterLab is what git keeps.

Notebooks are saved without volatile metadata (nbdev's hook), experiments also without outputs. The open page keeps
them. Of a widget that has a picture beside it the picture is saved: a widget lives as long as its kernel.
"""
from pathlib import PurePath

from nbdev.clean import clean_jupyter


def drop_widgets(nb):
    "Remove widgets that have a picture beside them, and the state of all"
    nb["metadata"].pop("widgets", None)
    for output in [o for cell in nb["cells"] for o in cell.get("outputs", [])]:
        if "image/png" in output.get("data", {}):
            output["data"].pop("application/vnd.jupyter.widget-view+json", None)


def clean(model, path, **kwargs):
    "Clean a notebook before it is saved"
    clean_jupyter(path=path, model=model)
    if model["type"] != "notebook":
        return
    drop_widgets(model["content"])
    if PurePath(path).parent.name != "experiments":
        return
    for cell in model["content"]["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)


c = get_config() # noqa: F821 (Jupyter defines it)
c.FileContentsManager.pre_save_hook = clean
