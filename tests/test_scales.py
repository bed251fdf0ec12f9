"""Switching from one scale to another and back costs no finished result: the real dvc.yaml, stand-ins for its commands.

And the scale `rehearsal` is `paper` on small data."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from simpool.data.images import PublishedImages, open_split
from simpool.evaluation.backgrounds import VARIANTS, open_variants, read_groups
from simpool.evaluation.detection import open_detection
from simpool.evaluation.discovery import open_boxed, open_objects
from simpool.evaluation.linear import read_list
from simpool.evaluation.localization import open_located
from simpool.evaluation.retrieval import open_copydays, open_revisited
from simpool.evaluation.segmentation import read_segmented
from simpool.evaluation.video import open_davis, read_masks

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT/"tools"))
import make_rehearsal_data  # noqa: E402

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
    "What `make repro-all SCALE=...` runs"
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_headline_needs_three_pairs(checkout):
    "What `make repro` runs; then all the rest, and the headline is not made again"
    call(checkout, "dvc", "repro", "headline")
    trainings = "supervised-vit", "dino-vit", "dino_pairs-vit"
    assert set(ran(checkout)) == {f"mini {stage}" for stage in ("data", *trainings, "headline")}
    call(checkout, "dvc", "repro", "headline")
    assert not ran(checkout)
    call(checkout, "dvc", "repro")
    rest = ran(checkout)
    assert len(rest) > 15 and not {"mini data", "mini dino-vit", "mini headline"} & set(rest)


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
    recipe = (ROOT/"Makefile").read_text().partition("repro repro-all:")[2].partition("\n\n")[0]
    assert "rehearsal,$(SCALE)),\"$(BIN)\"/python tools/make_rehearsal_data.py" in recipe
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
    for target, command in (("repro", "dvc repro headline"), ("repro-all", "dvc repro"),
                            ("test", "python -m pytest -q -n auto --dist loadgroup -m not slow"),
                            ("drill", "python tools/drill")):
        made = subprocess.run(["make", "-s", "-o", "env", "-o", ".venv/.docs", target], cwd=folder,
                              capture_output=True, text=True)
        assert (made.returncode, made.stdout.strip()) == (0, command), made.stderr


# -- the rehearsal

SMALL = {"epochs", "epochs_vit", "search_epochs", "batch_size", "num_workers", "processes", "watch"} # may differ
MISSING = {"CIFAR-10", "CIFAR-100", "Flowers"} # torchvision knows the digests of their files


def leaves(section, path=()):
    "(names of the sections, value) of each parameter"
    for name, value in section.items():
        yield from leaves(value, (*path, name)) if isinstance(value, dict) else [((*path, name), value)]


def stand_in_for(value):
    "What the rehearsal has instead: a folder instead of an environment variable, a file instead of a Hub id"
    if isinstance(value, list):
        return [stand_in_for(v) for v in value]
    if isinstance(value, str) and value.startswith("billpsomas/"):
        return f"data/rehearsal/{value}.pth"
    return re.sub(r"^\$(?=[A-Z])", "data/rehearsal/", value) if isinstance(value, str) else value


def test_rehearsal_is_paper_but_for_what_must_be_small():
    params = yaml.safe_load((ROOT/"params.yaml").read_text())
    paper, rehearsal = (dict(leaves(params[scale])) for scale in ("paper", "rehearsal"))
    assert {path for path in paper if path[-1] not in SMALL | MISSING} <= set(rehearsal)
    for path, value in rehearsal.items():
        if path[-1] == "sources":
            assert set(value) < set(stand_in_for(paper[path]))
        elif path[-1] in SMALL: # and what paper does not train, the rehearsal does not
            assert (value == 0) == (paper.get(path, 1) == 0) or path[-1] == "num_workers", path
        else:
            assert value == stand_in_for(paper[path]), path


@pytest.fixture(scope="module")
def rehearsal_data(tmp_path_factory):
    "All generated data sets"
    folder = tmp_path_factory.mktemp("rehearsal")
    make_rehearsal_data.make_all(folder)
    return folder


def test_rehearsal_has_every_folder_of_paper(rehearsal_data):
    names = set(re.findall(r"\$([A-Z]\w+)", (ROOT/"params.yaml").read_text()))
    assert names == {f.name for f in rehearsal_data.iterdir()}


def test_rehearsal_data_open_as_the_published_ones(rehearsal_data):
    "Each by the reader that the evaluation uses, and every picture of ImageNet in color"
    at = rehearsal_data
    train, test = (open_split(at/"IMAGENET", s) for s in ("train", "test"))
    assert len(train.classes) == 10 and {image.mode for image, _ in (*train, *test)} == {"RGB"}
    assert [int(read_list(train, at/"SIMCLR"/f"{n}percent.txt").sum()) for n in (1, 10)] == [5, 10]
    for name in ("roxford5k", "rparis6k"):
        query, database, truth = open_revisited(at/"REVISITED"/name, name)
        assert (len(query), len(database), truth[0]["hard"]) == (2, 6, [1, 2])
    assert open_copydays(at/"COPYDAYS")[2] == [[1], [2]]
    sets = {name: open_boxed(at/name) for name in ("VOC/VOC2007", "VOC/VOC2012", "COCO")}
    assert [len(images) for images in sets.values()] == [2, 4, 2]
    assert [len(open_detection(at/"COCO", split)) for split in ("train", "val")] == [4, 2]
    assert set(read_segmented(at/"VOC"/"VOC2012", "val")[1].ravel()) == {0, 17, 18, 255}
    assert set(open_objects(at/"VOC"/"VOC2012").objects(0).ravel()) == {0, 1, 255}
    assert [len(images) for images in open_variants(at/"IN9").values()] == [9]*len(VARIANTS)
    assert read_groups(at/"IN9"/"in_to_in9.json").tolist() == [*range(9), -1]
    masks = [read_masks(files) for _, files in open_davis(at/"DAVIS").values()]
    assert [(m.shape, int(m.max())) for m in masks] == [((3, 480, 910), 1), ((3, 480, 854), 2)]
    assert [len(open_located(at/name)) for name in ("CUB", "ILSVRC")] == [3, 3]
    for name in ("food-101", "oxford-iiit-pet"):
        assert [len(PublishedImages(at/"DATASETS"/name, s)) for s in ("train", "test")] == [8, 8]
