"The house: one notebook a module, numbered in import order, experiments outside."
import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {p: p.stem.split("_", 1) for p in sorted((ROOT/"nbs").glob("[0-9]*.ipynb"))}
NUMBER = {name: number for path, (number, name) in NOTEBOOKS.items() if name != "api" and "#| default_exp" in path.read_text()} # others are for reading
MODULES = sorted(p for p in (ROOT/"simpool").glob("*.py") if not p.stem.startswith("_"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_imports_go_downwards(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("simpool.")):
            other = (node.module or "").removeprefix("simpool.")
            assert NUMBER[other] < NUMBER[path.stem], f"{path.stem} ({NUMBER[path.stem]}) imports {other} ({NUMBER[other]})"


def test_every_module_has_its_notebook():
    assert {p.stem for p in MODULES} == set(NUMBER)


def test_functions_stay_small():
    "Half a screen of code: signature and docstring not counted"
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.body[0].lineno < 36, f"{path.stem}.{node.name} is longer than half a screen"


def test_public_functions_are_documented():
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path.stem}.{node.name} has no docstring"


def test_nothing_of_this_machine():
    "No absolute paths and no addresses of package registries"
    for path in [*ROOT.glob("nbs/**/*.ipynb"), *ROOT.glob("simpool/*.py"), *ROOT.glob("results/**/*.json"), *ROOT.glob("*.md")]:
        assert not re.search(r"/(home|root|work|Users)/\w", path.read_text()), path
