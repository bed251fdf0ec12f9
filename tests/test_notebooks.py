"Every library notebook runs from top to bottom; experiments are parameterized and kept without outputs."
import ast
from pathlib import Path

import nbformat
import pytest
import torch
from nbdev.test import test_nb as run_nb

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT/"nbs").glob("[0-9i]*.ipynb"))
EXPERIMENTS = sorted((ROOT/"nbs"/"experiments").glob("*.ipynb"))


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: p.stem)
def test_library(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("MPLBACKEND", "agg")
    ok, _ = run_nb(path, skip_flags=["slow"] if torch.cuda.is_available() else ["gpu", "slow"])
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
