"Switching from one scale to another and back costs no finished result: the real dvc.yaml, stand-ins for its commands."
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Instead of running a notebook: write what dvc.yaml says that the stage writes, with a new number in each file
STAND_IN = '''import json, random, sys
from pathlib import Path
import yaml

name, scale = sys.argv[1:3]
stages = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
stage = next(s for key, s in stages.items() if name == key or name in s.get("foreach", {}))
if "foreach" in stage:
    stage = stage["do"]
for out in sum((stage.get(kind, []) for kind in ("outs", "metrics", "plots")), []):
    path = Path((out if isinstance(out, str) else next(iter(out))).replace("${scale}", scale).replace("${key}", name))
    if path.suffix == "":
        path.mkdir(parents=True, exist_ok=True)
        path = path/"train.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(n=0 if name == "report" else random.random()))) # the report only shows the others
with Path("ran.txt").open("a") as f:
    f.write(f"{scale} {name}\\n")
'''
CODE = '''from pathlib import Path
for name in NAMES:
    Path(".code").mkdir(exist_ok=True)
    Path(".code", f"{name}.txt").write_text(name)
'''


@pytest.fixture
def checkout(tmp_path):
    "A repository with the real stages and parameters, in a folder with a space in its name"
    folder = tmp_path/"my clone"
    (folder/"tools").mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml", ".gitignore"):
        shutil.copy(ROOT/name, folder)
    (folder/"tools"/"run_nb.py").write_text(STAND_IN)
    names = [f.stem for f in (ROOT/"nbs"/"experiments").glob("*.ipynb")]
    (folder/"tools"/"code_digest.py").write_text(CODE.replace("NAMES", repr(names)))
    (folder/"ran.txt").touch()
    for name in ("set_scale.py", "stages.py"):
        shutil.copy(ROOT/"tools"/name, folder/"tools")
    with (folder/".gitignore").open("a") as f:
        f.write("/ran.txt\n")
    call(folder, "git", "init", "-q")
    call(folder, "dvc", "init", "-q")
    return folder


def call(folder, *command):
    "Run a command as a user would, with this environment's programs"
    env = dict(os.environ, PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", DVC_NO_ANALYTICS="1")
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def repro(folder, scale):
    "What `make repro SCALE=...` runs"
    call(folder, "python", "tools/set_scale.py", scale)
    call(folder, "dvc", "repro")


def contents(folder, scale):
    "Every result of a scale"
    files = [*folder.glob(f"results/{scale}/**/*"), *folder.glob(f"data/sets/{scale}/**/*")]
    return {str(f.relative_to(folder)): f.read_text() for f in files if f.is_file()}


def ran(folder):
    "Stages that ran since the last call"
    log = folder/"ran.txt"
    lines = log.read_text().splitlines()
    log.write_text("")
    return lines


def test_switching_scales_loses_nothing(checkout):
    repro(checkout, "mini")
    mini = contents(checkout, "mini")
    assert len(ran(checkout)) > 15 and len(mini) > 40
    repro(checkout, "smoke")
    smoke = contents(checkout, "smoke")
    assert {line.split()[0] for line in ran(checkout)} == {"smoke"}
    assert contents(checkout, "mini") == mini
    for scale in ("mini", "smoke"):
        repro(checkout, scale)
        assert set(ran(checkout)) <= {f"{scale} report"} # Markdown is neither metrics nor plots, so DVC keeps no copy
        assert (contents(checkout, "mini"), contents(checkout, "smoke")) == (mini, smoke)


@pytest.mark.parametrize("scale", ["smal", "seed", "mini.data", "scale"])
def test_unknown_scales_are_refused(checkout, scale):
    before = (checkout/"params.yaml").read_text()
    done = subprocess.run([sys.executable, "tools/set_scale.py", scale], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 1 and f"no scale {scale!r}" in done.stderr
    assert (checkout/"params.yaml").read_text() == before


def test_a_quoted_scale_is_replaced(checkout):
    path = checkout/"params.yaml"
    path.write_text(path.read_text().replace("scale: mini", 'scale: "mini" # mine'))
    call(checkout, "python", "tools/set_scale.py", "smoke")
    assert "scale: smoke # mine" in path.read_text()


def test_make_does_what_is_tested_here():
    recipe = (ROOT/"Makefile").read_text().partition("repro: env")[2].partition("\n\n")[0]
    assert "tools/set_scale.py $(SCALE)" in recipe and "dvc repro" in recipe and "exp run" not in recipe


def test_make_in_a_folder_with_a_space(tmp_path):
    "The programs of the environment are found there"
    folder = tmp_path/"my clone"
    programs = folder/".venv"/"bin"
    programs.mkdir(parents=True)
    shutil.copy(ROOT/"Makefile", folder)
    for name in ("dvc", "python"):
        (programs/name).write_text('#!/bin/sh\necho "$(basename "$0") $@"\n')
        (programs/name).chmod(0o755)
    for target, command in (("repro", "dvc repro"), ("test", "python -m pytest -q"), ("drill", "python tools/drill")):
        made = subprocess.run(["make", "-s", "-o", "env", target], cwd=folder, capture_output=True, text=True)
        assert (made.returncode, made.stdout.strip()) == (0, command), made.stderr
