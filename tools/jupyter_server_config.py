"""Settings of `make lab`: what is saved in JupyterLab is what git keeps.

Notebooks are saved without volatile metadata (nbdev's hook), experiments also without outputs. The open page keeps
them. Of a widget that has a picture beside it the picture is saved: a widget lives as long as its kernel. Progress bars
and warnings (stderr) are not saved. A cell that was only run again keeps the outputs of the last commit, where the new
ones differ by rounding, or in times and memory if it is flagged volatile (tools/check.py says how far): then "Run All"
leaves nothing to commit but what an edit changed. To renew the times of a cell, run
`python tools/check.py --renew NOTEBOOK`.
"""
import json
import subprocess
import sys
from pathlib import Path

import nbformat
from nbdev.clean import clean_jupyter

sys.path.insert(0, str(Path(__file__).resolve().parent))
from compare_outputs import compare_cell, flagged  # noqa: E402


def drop_widgets(nb):
    "Remove widgets that have a picture beside them, and the state of all"
    nb["metadata"].pop("widgets", None)
    for output in [o for cell in nb["cells"] for o in cell.get("outputs", [])]:
        if "image/png" in output.get("data", {}):
            output["data"].pop("application/vnd.jupyter.widget-view+json", None)


def committed_cells(path):
    "The code cells of a notebook in the last commit: id -> cell; none of a new notebook, or outside of git"
    command = ["git", "show", f"HEAD:./{path.name}"]
    run = subprocess.run(command, cwd=path.parent, capture_output=True, text=True)
    cells = nbformat.reads(run.stdout, 4).cells if run.returncode == 0 else []
    return {cell.id: cell for cell in cells if cell.cell_type == "code"}


def keep_committed(nb, path):
    "Give cells that were only run again the outputs of the last commit"
    before, read = committed_cells(path), nbformat.reads(json.dumps(nb), 4) # with lines joined, as they are compared
    for cell, now in ((cell, now) for cell, now in zip(nb["cells"], read.cells) if now.cell_type == "code"):
        cell["outputs"] = [o for o in cell["outputs"] if o.get("name") != "stderr"]
        old = before.get(now.get("id"))
        if old and old.source == now.source:
            result, _ = compare_cell(old.outputs, now.outputs, flagged(old, "volatile"))
            if result != "different":
                cell["outputs"] = old.outputs


def clean(model, path, contents_manager, **kwargs):
    "Clean a notebook before it is saved"
    file = Path(contents_manager.root_dir)/path.strip("/")
    clean_jupyter(path=str(file) if file.exists() else None, model=model) # it reads the file, which a new one has not
    if model["type"] != "notebook":
        return
    drop_widgets(model["content"])
    if file.parent.name != "experiments":
        keep_committed(model["content"], file)
        return
    for cell in model["content"]["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)


c = get_config() # noqa: F821 (Jupyter defines it)
c.FileContentsManager.pre_save_hook = clean
