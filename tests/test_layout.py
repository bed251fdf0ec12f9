"The house: one notebook a module, numbered in import order, experiments outside."
import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT/"simpool"
NOTEBOOKS = sorted((ROOT/"nbs").glob("[0-9]*.ipynb"))
EXPORTING = {p.stem: re.search(r"#\| default_exp ([\w.]+)", p.read_text()) for p in NOTEBOOKS}
NUMBER = {s.split("_", 1)[1]: s.split("_", 1)[0] for s, to in EXPORTING.items() if to and "__" not in to[1]}
PACKAGES = {s.split("_", 1)[1]: s.split("_", 1)[0] for s, to in EXPORTING.items() if to and ".__init__" in to[0]}
FILES = [p for p in sorted(PACKAGE.rglob("*.py")) if not p.stem.startswith("_")]
MODULES = {".".join(p.relative_to(PACKAGE).with_suffix("").parts): p for p in FILES}


def imported(name, path):
    "Modules of this package that a module imports"
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            folders = name.split(".")[:-node.level]
            yield ".".join([*folders, *([node.module] if node.module else [])])
        elif (node.module or "").startswith("simpool."):
            yield node.module.removeprefix("simpool.")


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downwards(name):
    for other in imported(name, MODULES[name]):
        number = (NUMBER | PACKAGES)[other]
        assert number < NUMBER[name], f"{name} ({NUMBER[name]}) imports {other} ({number})"
        allowed = name.startswith(("reproduce.", "cli"))
        assert allowed or not other.startswith("reproduce."), f"{name} imports {other}: only `cli` may"


def test_the_map_is_up_to_date():
    "The map of CONTRIBUTING.md is what the imports say, and has every module"
    sys.path.insert(0, str(ROOT/"tools"))
    import house_map
    text = (ROOT/"CONTRIBUTING.md").read_text()
    assert text == house_map.page(text), "run python tools/house_map.py"
    drawn = set(re.findall(r"\w+", house_map.draw().replace("<br>", " ")))
    assert {name.split(".")[-1] for name in {*MODULES, *PACKAGES}} <= drawn


def test_every_module_has_its_notebook():
    assert set(MODULES) == set(NUMBER)


def test_every_module_introduces_itself():
    "The docstring has the notebook's introduction, so that `help` and llms.txt say more than one line"
    index = (ROOT/"nbs"/"llms.txt").read_text()
    alone = {"differences", "api"} # of which nothing is imported by itself
    for name in set(MODULES) - alone:
        if name.endswith("__init__"):
            continue
        assert len((ast.get_docstring(ast.parse(MODULES[name].read_text())) or "").splitlines()) > 2, name
        assert f"`simpool.{name}`" in index, name


def test_functions_stay_small():
    "Half a screen of code: signature and docstring not counted"
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.body[0].lineno < 36, f"{name}.{node.name} is longer than half a screen"


def test_public_functions_are_documented():
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{name}.{node.name} has no docstring"


def test_nothing_of_this_machine():
    "No absolute paths and no addresses of package registries"
    places = ["nbs/**/*.ipynb", "simpool/**/*.py", "results/**/*.json", "*.md"]
    for path in [path for place in places for path in ROOT.glob(place)]:
        assert not re.search(r"/(home|root|work|Users)/\w", path.read_text()), path
