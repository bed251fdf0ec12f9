"The pipeline refuses unknown names before anything runs, and runs again what has changed."
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from simpool.core import process_runs

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT/"tools"))
import code_digest  # noqa: E402
import run_nb  # noqa: E402
import stages  # noqa: E402

PARAMS = yaml.safe_load((ROOT/"params.yaml").read_text())
SCALES = [k for k, v in PARAMS.items() if isinstance(v, dict)]
DVC = yaml.safe_load((ROOT/"dvc.yaml").read_text())


# -- running a notebook

def run(*args, cwd):
    "tools/run_nb.py as a process of its own"
    command = [sys.executable, "tools/run_nb.py", *args]
    env = {k: v for k, v in os.environ.items() if k != "DVC_STAGE"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


CODE = """import sys
from pathlib import Path
print("work" + "ing", file=sys.stderr)
Path(f"out{n}.txt").write_text(str(6/n))"""


@pytest.fixture
def project(tmp_path):
    "A small project with one stage, whose notebook writes a number"
    (tmp_path/"nbs"/"experiments").mkdir(parents=True)
    shutil.copytree(ROOT/"tools", tmp_path/"tools", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path/"dvc.yaml").write_text("stages: {a: {cmd: '', params: ['${scale}.a'], deps: [.code/a.txt]}}")
    (tmp_path/"params.yaml").write_text("small: {a: {n: 3}}\nwrong: {a: {nn: 3}}\nempty: {}\n")
    (tmp_path/"requirements.lock").write_text("torch==2.14.1")
    kernel = dict(kernelspec=dict(name="python3", display_name="python3", language="python"))
    tagged = new_code_cell("n = 1 # how many", metadata=dict(tags=["parameters"]))
    notebook = new_notebook(metadata=kernel, cells=[new_markdown_cell("words"), tagged, new_code_cell(CODE)])
    nbformat.write(notebook, tmp_path/"nbs"/"experiments"/"a.ipynb")
    return tmp_path


def test_parameters_reach_the_notebook(project):
    r = run("a", "small", cwd=project)
    assert r.returncode == 0, r.stderr
    assert (project/"out3.txt").read_text() == "2.0"
    done = project/"results/small/notebooks/a.ipynb"
    assert "working" in r.stderr, "progress of the notebook shows in the terminal"
    assert "working" not in done.read_text(), "and is not kept"
    first = done.read_bytes()
    run("a", "small", cwd=project)
    assert done.read_bytes() == first, "the same run gives the same bytes"


def test_each_value_has_its_run(project):
    r = run("a", "small", "--each", "n=2,0", cwd=project)
    assert r.returncode != 0 and "ZeroDivisionError" in r.stderr
    folder = project/"results/small/notebooks"
    assert (project/"out2.txt").read_text() == "3.0" and (folder/"a-2.ipynb").exists()
    assert (folder/"a-0.failed.ipynb").exists(), "what ran before the failure is kept"


@pytest.mark.parametrize("args, words", [
    (["a", "wrong"], "unknown parameter 'nn'; did you mean 'n'?"),
    (["a", "small", "-p", "k=3"], "has no parameter 'k'"),
    (["a", "smal"], "no scale 'smal'; did you mean 'small'?"),
    (["a", "empty"], "no section 'empty.a'"),
    (["b", "small"], "no stage 'b'"),
    (["a", "small", "-p", "n=many"], "must be a number"),
])
def test_unknown_names_stop_before_the_kernel(project, monkeypatch, args, words):
    check_stops(project, monkeypatch, args, words)


def check_stops(project, monkeypatch, args, words):
    "run_nb ends with these words and has run nothing"
    for module in (run_nb, stages, code_digest):
        monkeypatch.setattr(module, "ROOT", project)
    monkeypatch.setattr(run_nb, "execute_all", lambda *args: pytest.fail("it ran"))
    monkeypatch.setattr(sys, "argv", ["run_nb", *args])
    with pytest.raises(SystemExit, match=re.escape(words)):
        run_nb.main()


def test_missing_tag_stops_before_the_kernel(project, monkeypatch):
    path = project/"nbs/experiments/a.ipynb"
    path.write_text(path.read_text().replace('"parameters"', '"paramters"'))
    check_stops(project, monkeypatch, ["a", "small"], "exactly one cell tagged 'parameters'")


def test_code_edited_while_the_pipeline_runs(project, monkeypatch):
    (project/".code").mkdir()
    (project/".code"/"a.txt").write_text("older")
    monkeypatch.setenv("DVC_STAGE", "a")
    check_stops(project, monkeypatch, ["a", "small"], "edited while the pipeline ran")


def test_code_edited_while_a_stage_runs(project, monkeypatch):
    "The kernel may have imported either version, so nobody knows what the result is of"
    for module in (run_nb, stages, code_digest):
        monkeypatch.setattr(module, "ROOT", project)
    notebook = project/"nbs"/"experiments"/"a.ipynb"
    def edited(*args):
        notebook.write_text(notebook.read_text().replace("6/n", "7/n"))
    monkeypatch.setattr(run_nb, "execute_all", edited)
    monkeypatch.setattr(sys, "argv", ["run_nb", "a", "small"])
    monkeypatch.delenv("DVC_STAGE", raising=False)
    with pytest.raises(SystemExit, match="edited while it ran"):
        run_nb.main()


def test_kernels_end_with_a_killed_run(project):
    "A killed run_nb leaves nothing that computes on"
    notebook = project/"nbs"/"experiments"/"a.ipynb"
    work = "import os, time\\nopen(f'pid{n}', 'w').write(str(os.getpid()))\\ntime.sleep(300)"
    notebook.write_text(notebook.read_text().replace('"import sys\\n', f'"{work}\\nimport sys\\n', 1))
    env = {k: v for k, v in os.environ.items() if k != "DVC_STAGE"}
    command = [sys.executable, "tools/run_nb.py", "a", "small", "--each", "n=2,3"]
    run = subprocess.Popen(command, cwd=project, env=env, stderr=subprocess.DEVNULL)
    files = [project/f"pid{n}" for n in (2, 3)]
    wait_for(lambda: all(f.exists() and f.read_text() for f in files), 60)
    run.kill()
    run.wait()
    pids = [int(f.read_text()) for f in files]
    wait_for(lambda: not any(process_runs(pid) for pid in pids), 30)


def wait_for(condition, seconds):
    "Wait until something is true"
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(.2)


@pytest.mark.parametrize(("number", "group"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_signals_reach_the_kernels(project, number, group):
    "What runs in the kernels can end in order"
    notebook = nbformat.read(project/"nbs"/"experiments"/"a.ipynb", 4)
    notebook.cells[2].source = """import time
from pathlib import Path
Path(f"began{n}").touch()
try:
    time.sleep(60)
except KeyboardInterrupt:
    Path(f"kept{n}").touch()
    raise KeyboardInterrupt("kept")"""
    nbformat.write(notebook, project/"nbs"/"experiments"/"a.ipynb")
    command = [sys.executable, "tools/run_nb.py", "a", "small", "--each", "n=2,3"]
    process = subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(lambda: len(list(project.glob("began*"))) == 2, 60)
    (os.killpg if group else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert len(list(project.glob("kept*"))) == 2
    assert process.returncode == 1 and "stopped with KeyboardInterrupt: kept" in err, err


def test_key_of_an_interrupted_training(tmp_path, monkeypatch):
    "It changes with code, parameters and data"
    monkeypatch.setattr(run_nb, "ROOT", tmp_path)
    def key(code="c", **given): return run_nb.run_key(code, [(Path("out"), given)])
    assert key(n=1) == key(n=1) and len({key(n=1), key(n=2), key("d", n=1)}) == 3
    (tmp_path/"data").mkdir()
    before = key(data="data")
    (tmp_path/"data"/"train.npz").write_bytes(b"pixels")
    assert key(data="data") != before


# -- what counts as code

@pytest.fixture
def digest(tmp_path, monkeypatch):
    "Digests of a notebook with this source, in a project of its own"
    monkeypatch.setattr(code_digest, "ROOT", tmp_path)
    (tmp_path/"simpool").mkdir()
    for name in ("__init__", "knn", "kernels"):
        (tmp_path/"simpool"/f"{name}.py").write_text("x = 1\n")
    (tmp_path/"requirements.lock").write_text("torch==2.14.1")
    (tmp_path/"params.yaml").write_text("small: {a: {epochs: 1}}\nmini: {a: {epochs: 0}}\n")
    def of(source="from simpool.knn import x\ny = 1", words="words", scale="mini"):
        nbformat.write(new_notebook(cells=[new_markdown_cell(words), new_code_cell(source)]), tmp_path/"a.ipynb")
        return code_digest.digests(tmp_path/"a.ipynb", scale)
    return of


def test_digest_changes_with_code_and_not_with_prose(digest, tmp_path):
    first, knn = digest(), tmp_path/"simpool"/"knn.py"
    assert digest(words="other words") == first
    assert digest("from simpool.knn import x\n\ny = 1 # a comment") == first
    assert digest("from simpool.knn import x\ny = 2") != first
    knn.write_text('"A docstring"\nx = 1 # a comment\n')
    assert digest() != first, "a docstring where none was leaves a statement behind"
    documented = digest()
    knn.write_text('"Another docstring"\nx = 1\n')
    assert digest() == documented
    knn.write_text("x = 2\n")
    assert digest() not in (first, documented)


def test_digest_changes_with_the_lock_file(digest, tmp_path):
    first = digest()
    (tmp_path/"requirements.lock").write_text("torch==2.15.0")
    assert digest() != first


def test_digest_has_the_kernels_on_a_gpu(digest, tmp_path, monkeypatch):
    monkeypatch.setattr(code_digest, "has_gpu", lambda: False)
    first = digest()
    assert "simpool.kernels" not in first
    monkeypatch.setattr(code_digest, "has_gpu", lambda: True)
    assert digest() != first and "simpool.kernels" in digest()


def test_digest_has_the_result_that_is_shown_instead(digest, tmp_path):
    "A table with epochs: 0 shows another scale's; copies of others do not count"
    first, own = digest(), digest(scale="small")
    for scale in ("small", "mini"):
        (tmp_path/"results"/scale/"a").mkdir(parents=True)
        (tmp_path/"results"/scale/"a"/"facts.json").write_text('{"scale": "small"}')
    assert "results/small/a" in digest() and digest() != first
    assert digest(scale="small") == own, "a scale that trains the table does not depend on its own results"
    (tmp_path/"results"/"small"/"a"/"table.csv").write_text("top1\n50\n")
    assert digest() != first


def test_digest_leaves_the_rehearsal_out(digest, tmp_path):
    "No scale shows its tables, so none depends on them"
    first = digest()
    with (tmp_path/"params.yaml").open("a") as f:
        f.write("rehearsal: {a: {epochs: 1}}\n")
    (tmp_path/"results"/"rehearsal"/"a").mkdir(parents=True)
    (tmp_path/"results"/"rehearsal"/"a"/"facts.json").write_text('{"scale": "rehearsal"}')
    assert digest() == first


def test_scales_stand_in_the_order_that_last_result_looks_at():
    from simpool.reproduce.results import SCALES as order
    assert [s for s in order if s in SCALES] == [s for s in SCALES[::-1] if s != "rehearsal"]


def test_digest_follows_imports():
    used = set(code_digest.modules("from simpool.pretrain import pretrain"))
    assert {"simpool.loop", "simpool.dino", "simpool.core", "simpool.attention", "simpool.data.multicrop"} <= used
    assert "simpool.reproduce.sweep" not in used
    assert {"simpool", "simpool.maps", "simpool.kernels"} <= set(code_digest.modules("from simpool import SimPool"))
    assert "simpool.kernels" in code_digest.modules("from . import kernels", "simpool")
    for source in ("from simpool.simpool import SimPool", "from simpool.model import create_model"):
        assert "simpool.fused" in code_digest.modules(source), "the package loads it, and no module names it"


@pytest.mark.parametrize("training", ["supervised", "dino", "bam"])
def test_trainings_do_not_depend_on_measures(training):
    "A new measure of maps, or another picture of them, must not mark every training as changed"
    used = code_digest.modules(code_digest.code_of(ROOT/"nbs"/"experiments"/f"train_{training}.ipynb"))
    assert "simpool.watch" in used
    assert not {"simpool.maps", "simpool.evaluation.localization", "simpool.evaluation.linear"} & set(used)


PACKAGE = {
    "simpool/__init__.py": "from . import fused\ndef __getattr__(name): ...\nif True: from . import kernels",
    "simpool/core.py": "",
    "simpool/fused.py": "",
    "simpool/kernels.py": "",
    "simpool/data/__init__.py": "from ..core import z",
    "simpool/data/scenes.py": "from ..core import z",
    "simpool/data/images.py": "from .scenes import y\nfrom ..evaluation import knn",
    "simpool/evaluation/__init__.py": "",
    "simpool/evaluation/knn.py": "",
    "simpool/evaluation/probe.py": "from ..data.scenes import y",
}


@pytest.mark.parametrize("source, package, found", [
    ("from simpool.data.scenes import y", "", "data data.scenes core"),
    ("from .scenes import y", "simpool.data", "data data.scenes core"),
    ("from ..evaluation.probe import p", "simpool.data", "evaluation evaluation.probe data data.scenes core"),
    ("from simpool.data.images import x", "", "data data.images data.scenes core evaluation evaluation.knn"),
    ("from simpool.data import scenes", "", "data data.scenes core"),
    ("from simpool.evaluation import vote", "", "evaluation evaluation.knn evaluation.probe data data.scenes core"),
    ("import simpool.kernels", "", "kernels"),
    ("import numpy, os.path", "", None),
])
def test_digest_follows_subpackages(tmp_path, monkeypatch, source, package, found):
    "Relative imports start at the importing package; what the top package imports outright always counts"
    for name, text in PACKAGE.items():
        (tmp_path/name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/name).write_text(text)
    monkeypatch.setattr(code_digest, "ROOT", tmp_path)
    expected = {"simpool." + n for n in found.split()} | {"simpool.fused"} if found else set()
    assert set(code_digest.modules(source, package)) == expected


@pytest.mark.parametrize("source", ["import simpool", "from simpool import create_model", "from simpool import *"])
def test_names_of_the_top_package_count_all_of_it(tmp_path, monkeypatch, source):
    "They may be imported on first use (PEP 562), where no import statement shows it"
    test_digest_follows_subpackages(tmp_path, monkeypatch, "import os", "", None)
    names = [n.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for n in PACKAGE]
    assert set(code_digest.modules(source)) == set(names)


# -- dvc.yaml, params.yaml and what is committed

def test_dvc_yaml_stays_short():
    lines = (ROOT/"dvc.yaml").read_text().splitlines()
    assert len(lines) <= 130 and max(map(len, lines)) <= 120


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_knows_every_parameter(scale):
    "Each stage has its sections at this scale, with names that its notebook knows; no section is left over"
    assert set(PARAMS[scale]) == set(PARAMS["smoke"])
    used = set()
    for stage in stages.read_stages(scale).values():
        names = stages.declared(nbformat.read(ROOT/stage.notebook, 4), stage.notebook)
        given = stages.read_parameters(stage, scale, names) # stops where a name is unknown
        assert set(given) <= set(names)
        used |= {s.split(".")[1] for s in stage.sections if "." in s and ":" not in s}
    assert used == set(PARAMS[scale])


def test_params_are_one_a_line():
    for line in (ROOT/"params.yaml").read_text().splitlines():
        assert "{" not in line.split("#")[0], line


def test_stages_are_named_as_their_notebooks():
    "But for the trainings, of which several share one; and every notebook has a stage"
    found = stages.read_stages("mini")
    trainings = set(DVC["stages"]["train"]["foreach"])
    assert all(s.notebook.stem == name for name, s in found.items() if name not in trainings)
    assert {s.notebook.name for s in found.values()} == {p.name for p in (ROOT/"nbs"/"experiments").glob("*.ipynb")}


def test_commands_of_dvc_yaml_name_parameters_that_exist():
    for file in ("dvc.yaml", "bench/dvc.yaml", "studies/dvc.yaml"):
        for name, entry in yaml.safe_load((ROOT/file).read_text())["stages"].items():
            cmd = entry.get("do", entry)["cmd"].split()
            flags = [value.split("=")[0] for flag, value in zip(cmd, cmd[1:]) if flag in ("-p", "--each")]
            stage = stages.read_stages("mini").get(next(iter(entry.get("foreach", [name]))))
            if stage:
                assert set(flags) <= set(stages.declared(nbformat.read(ROOT/stage.notebook, 4), stage.notebook))


@pytest.mark.parametrize("name", ["bench", "docs"])
def test_an_extra_pins_what_its_lock_holds(name):
    extra = tomllib.loads((ROOT/"pyproject.toml").read_text())["project"]["optional-dependencies"][name]
    lock = (ROOT/name/"requirements.lock").read_text()
    assert all(f"{pin} " in lock for pin in extra if "==" in pin) and "://" not in lock


def test_results_belong_to_what_is_committed():
    "The committed tables are those that dvc.lock records"
    lock = yaml.safe_load((ROOT/"dvc.lock").read_text())["stages"]
    assert {name.split("@")[0] for name in lock} == set(DVC["stages"]), "dvc.lock knows other stages than dvc.yaml"
    seen = 0
    for out in [out for stage in lock.values() for out in stage.get("outs", [])]:
        path = ROOT/out["path"]
        if path.suffix in (".json", ".csv", ".md", ".png") and path.exists():
            made = hashlib.md5(path.read_bytes()).hexdigest()
            assert made == out["md5"], f"{out['path']} is not what the pipeline made"
            seen += 1
    assert seen > 10


RESULTS = sorted((ROOT/"results").glob("*/*/facts.json")) + sorted((ROOT/"results").glob("*/train/*/*.json"))
FACTS = [p for p in RESULTS if p.name != "metrics.json"] + sorted((ROOT/"results"/"bench").glob("*/*.json"))
METRICS = sorted((ROOT/"results").glob("**/metrics.json"))


def test_provenance_goes_with_every_result():
    assert FACTS
    for path in FACTS:
        assert {"commit", "machine", "minutes", "torch", "date", "scale"} <= set(json.loads(path.read_text())), path


def test_metrics_are_flat_numbers_without_dates():
    "So that `dvc metrics diff` shows numbers, and nothing where no number has changed"
    assert METRICS
    for path in METRICS:
        metrics = json.loads(path.read_text())
        runs = [json.loads(f.read_text()) for f in path.parent.glob("*.json") if f.stem in ("baseline", "simpool")]
        untrained = runs and not any(run["last"] for run in runs) # what its scale does not train has no metrics
        assert metrics or untrained, path
        assert all(isinstance(v, (int, float)) for v in metrics.values()), path
        assert not {k.split(".")[-1] for k in metrics} & {"minutes", "seconds", "date", "commit"}, path
    tables = {p.parent for p in (ROOT/"results").glob("*/*/facts.json")}
    assert tables | {p.parent for p in RESULTS} == {p.parent for p in METRICS}, "each result has its metrics"
