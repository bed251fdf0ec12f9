"The house style as counts, so that it stays: widths, lengths, words."
import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT/"nbs").rglob("*.ipynb"))
MODULES = [p for p in sorted((ROOT/"simpool").rglob("*.py")) if p.stem != "_modidx"]
COMPLETES_THE_NAME = r"(of|for|at|in|after|as|by|to|from|with)\b"  # a comment that begins so needs its name to be read
BRITISH = r"colour|centre|neighbour|normalis|optimis|summaris|initialis|generalis|solaris|recognis|behaviour|grey"


def test_ruff():
    "120 columns, one statement a line, sorted imports, nothing unused"
    run = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:]


def test_modules_import_what_they_use_and_nothing_else():
    "A notebook runs with what its hidden cells import, and may use there what an exported cell imports"
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821,F401",
               "--exclude", "__init__.py,_modidx.py", "simpool"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_exported_cells_are_short(path):
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code" and re.match(r"#\| *export", cell.source):
            lines = [line for line in cell.source.splitlines() if not line.startswith("#|")]
            assert len(lines) <= 25, f"{path.name}, cell {cell.id}: {len(lines)} lines, beginning {lines[0]!r}"


def test_notebooks_keep_no_widgets():
    "Their state is a megabyte, and lives as long as its kernel"
    for path in NOTEBOOKS:
        assert set(nbformat.read(path, 4).metadata) <= {"kernelspec"}, path.name


def argument_comments(path):
    "The docments of a module: one comment per argument or field"
    for line in path.read_text().splitlines():
        found = re.match(r"    +(\w+) *:[^#]*,? # (.+)$", line)
        field = line.startswith("    ") and not line.startswith("        ")
        if found and (line.split(" # ")[0].rstrip().endswith(",") or field):
            yield found[1], found[2]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_argument_comments_stand_alone(path):
    for name, words in argument_comments(path):
        assert not re.match(COMPLETES_THE_NAME, words), f"{path.name}: {name} # {words}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_docstrings_are_one_line(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and (words := ast.get_docstring(node)):
            assert "\n" not in words, f"{path.name}: {node.name}"


def test_identifiers_are_american():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [getattr(node, k) for k in ("id", "arg", "name", "attr") if isinstance(getattr(node, k, None), str)]
            for name in names:
                assert not re.search(BRITISH, name.lower()), f"{path.name}: {name}"


def test_readme_is_short():
    no_prose = r"<!--.*?-->|\]\([^)]*\)|```.*?```|<img[^>]*>"
    words = re.findall(r"\w[\w'’-]*", re.sub(no_prose, " ", (ROOT/"README.md").read_text(), flags=re.S))
    assert len(words) <= 900, len(words)

