"Every library notebook runs from top to bottom; experiments are parameterized and kept without outputs."
import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from nbdev.test import test_nb as run_nb
from nbformat.v4 import new_code_cell, new_notebook, new_output
from traitlets.config import PyFileConfigLoader

ROOT = Path(__file__).parents[1]
COMPARED = ("10_attention", "11_simpool") # their outputs too: tests/test_check.py runs them again
MINUTES = ("15_kernels",) # it interprets the GPU's kernels on the CPU
LIBRARY = sorted((ROOT/"nbs").glob("[0-9i]*.ipynb"))
EXPERIMENTS = sorted((ROOT/"nbs"/"experiments").glob("*.ipynb"))


def run_alone(path, skip_flags):
    "Run a notebook in a process of its own, as a reader's kernel does"
    call = f"test_nb({str(path)!r}, skip_flags={skip_flags})"
    code = f"from nbdev.test import test_nb; raise SystemExit(not {call}[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900)
    print(done.stdout[-5000:], done.stderr[-20_000:])
    return done.returncode == 0


@pytest.mark.parametrize("path", [
    pytest.param(p, id=p.stem, marks=[pytest.mark.slow]*(p.stem in MINUTES)) for p in LIBRARY])
def test_library(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("MPLBACKEND", "agg")
    skip_flags = ["slow"] if torch.cuda.is_available() else ["gpu", "slow"]
    forks = re.search(r"\b(launch|train_together)\(\d", path.read_text()) # not after autograd's threads of other tests
    ok = run_alone(path, skip_flags) if forks else run_nb(path, skip_flags=skip_flags)[0]
    assert ok, f"{path.name} failed: its traceback stands above"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_experiment_is_parameterized(path):
    nb = nbformat.read(path, 4)
    tagged = [c for c in nb.cells if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1, "exactly one cell tagged 'parameters'"
    for node in ast.parse(tagged[0].source).body:
        assert isinstance(node, ast.Assign), "the parameters cell holds plain assignments"
        ast.literal_eval(node.value)
    assert not any(c.get("outputs") for c in nb.cells), "run tools/strip_experiments.py: experiments have no outputs"
    assert not any("#| export" in c.source for c in nb.cells), "experiments export nothing"


def test_saved_in_jupyterlab():
    "What `make lab` saves of an experiment that was run is the file that git has"
    config = PyFileConfigLoader("jupyter_server_config.py", ROOT/"tools").load_config()
    manager = AsyncLargeFileManager(root_dir=str(ROOT), config=config)
    path = EXPERIMENTS[0]
    model = dict(type="notebook", format="json", content=json.loads(path.read_text()))
    for cell in (c for c in model["content"]["cells"] if c["cell_type"] == "code"):
        cell["outputs"] = [dict(output_type="stream", name="stdout", text="12.3 %")]
        cell["execution_count"], cell["metadata"] = 7, cell["metadata"] | dict(trusted=True)
    model["content"]["metadata"]["language_info"] = dict(name="python", version="3.99")
    manager.run_pre_save_hooks(model=model, path=str(path.relative_to(ROOT)))
    assert model["content"] == json.loads(path.read_text())


def git(folder, *words):
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.hooksPath=/dev/null", *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def test_run_all_leaves_the_tree_clean(tmp_path):
    "Saved in JupyterLab: outputs that another run gives are those of the last commit; what an edit changed is new"
    def cell(name, source, *outputs):
        return new_code_cell(source, id=name, outputs=list(outputs))
    def stream(text, name="stdout"):
        return new_output("stream", name=name, text=text)
    timed = "#| volatile\nmeasure()"
    before = [cell("none", "n = 4"), cell("rounds", "print(loss)", stream("loss 1.2341")),
              cell("times", timed, stream("3 s")),
              cell("moved", "print(n)", stream("n 4")), cell("edited", "print(1.0)", stream("1.0"))]
    after = [cell("none", "n = 4", stream("a warning", "stderr")), cell("rounds", "print(loss)", stream("loss 1.2342")),
             cell("times", timed, stream("5 s")),
             cell("moved", "print(n)", stream("n 5")), cell("edited", "print(1.00001)", stream("1.00001")),
             cell("new", "fit()", stream("100%", "stderr"), stream("done"))]
    expected = [*before[:3], *after[3:5], cell("new", "fit()", stream("done"))]
    path = tmp_path/"a.ipynb"
    nbformat.write(new_notebook(cells=before), path)
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "a")
    path.unlink() # whatever was saved while it ran: the last commit is what counts
    config = PyFileConfigLoader("jupyter_server_config.py", ROOT/"tools").load_config()
    manager = AsyncLargeFileManager(root_dir=str(tmp_path), config=config)
    model = dict(type="notebook", format="json", content=json.loads(nbformat.writes(new_notebook(cells=after))))
    manager.run_pre_save_hooks(model=model, path="a.ipynb")
    assert nbformat.reads(json.dumps(model["content"]), 4).cells == expected
