"The pipeline refuses what it does not know before anything runs, and keeps what has not changed."
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT/"tools"))
import run_nb  # noqa: E402

PARAMS = yaml.safe_load((ROOT/"params.yaml").read_text())
STAGES = yaml.safe_load((ROOT/"dvc.yaml").read_text())["stages"]
BENCH = yaml.safe_load((ROOT/"bench"/"dvc.yaml").read_text())["stages"]["bench"]
SCALES = [k for k, v in PARAMS.items() if isinstance(v, dict)]


def run(*args, cwd=ROOT, **env):
    return subprocess.run([sys.executable, "tools/run_nb.py", *args], cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=300)


@pytest.fixture
def project(tmp_path):
    "A small project around run_nb: one notebook that writes a number"
    for name in ("tools", "nbs/experiments"): (tmp_path/name).mkdir(parents=True)
    shutil.copy(ROOT/"tools"/"run_nb.py", tmp_path/"tools")
    (tmp_path/"params.yaml").write_text("small: {n: 3}\nwrong: {nn: 3}\n")
    nb = nbformat.v4.new_notebook(metadata=dict(kernelspec=dict(name="python3", display_name="python3", language="python")), cells=[nbformat.v4.new_markdown_cell("words"), nbformat.v4.new_code_cell("n = 1 # how many", metadata=dict(tags=["parameters"])),
                                         nbformat.v4.new_code_cell("import sys\nfrom pathlib import Path\nprint('work' + 'ing', file=sys.stderr)\nPath('out.txt').write_text(str(n))")])
    nbformat.write(nb, tmp_path/"nbs/experiments/a.ipynb")
    return tmp_path


def test_parameters_reach_the_notebook(project):
    r = run("nbs/experiments/a.ipynb", "done.ipynb", "-s", "small", cwd=project)
    assert r.returncode == 0, r.stderr
    assert (project/"out.txt").read_text() == "3"
    assert "working" in r.stderr, "progress of the notebook shows in the terminal"
    assert "working" not in (project/"done.ipynb").read_text(), "and is not kept"
    first = (project/"done.ipynb").read_bytes()
    run("nbs/experiments/a.ipynb", "done.ipynb", "-s", "small", cwd=project)
    assert (project/"done.ipynb").read_bytes() == first, "the same run gives the same bytes"


def test_each_value_has_its_run(project):
    path = project/"nbs/experiments/a.ipynb"
    path.write_text(path.read_text().replace("Path('out.txt').write_text(str(n))", "Path(f'out{n}.txt').write_text(str(6/n))"))
    r = run("nbs/experiments/a.ipynb", "done{n}.ipynb", "--each", "n=2,3", cwd=project)
    assert r.returncode == 0, r.stderr
    assert [(project/f"out{n}.txt").read_text() for n in (2, 3)] == ["3.0", "2.0"] and (project/"done2.ipynb").exists() and (project/"done3.ipynb").exists()
    r = run("nbs/experiments/a.ipynb", "done{n}.ipynb", "--each", "n=0,1", cwd=project)
    assert r.returncode != 0 and "ZeroDivisionError" in r.stderr and (project/"done0.failed.ipynb").exists() and (project/"out1.txt").exists()
    assert "must say {n}" in run("nbs/experiments/a.ipynb", "done.ipynb", "--each", "n=2,3", cwd=project).stderr


def test_outputs_are_kept_while_all_of_them_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outs, outputs = [Path("a.ipynb"), Path("b.ipynb")], ["a.ipynb", "b.ipynb", "a.csv", "b.csv"]
    for name in outputs[2:]: Path(name).write_text(name)
    for out in outs:
        out.write_text("")
        nbformat.write(nbformat.v4.new_notebook(metadata=dict(simpool=dict(key="k", outputs=run_nb.digests(outs, outputs)))), out)
    assert run_nb.kept(outs, "k", outputs) and not run_nb.kept(outs, "other", outputs)
    Path("b.csv").write_text("changed")
    assert not run_nb.kept(outs, "k", outputs)
    Path("b.csv").unlink()
    assert not run_nb.kept(outs, "k", outputs)


@pytest.mark.parametrize("args, words", [
    (["-s", "wrong"], "unknown parameter 'nn'; did you mean 'n'?"),
    (["-p", "k=3"], "has no parameter 'k'"),
    (["-s", "smal"], "no scale 'smal'; did you mean 'small'?"),
    (["-s", "small.x"], "no section 'small.x'"),
    (["-p", "n=many"], "must be a number"),
])
def test_unknown_names_stop_before_the_kernel(project, args, words):
    r = run("nbs/experiments/a.ipynb", "done.ipynb", *args, cwd=project)
    assert r.returncode != 0 and words in r.stderr and "Traceback" not in r.stderr
    assert not (project/"done.ipynb").exists() and not (project/"out.txt").exists()


def test_missing_tag_stops_before_the_kernel(project):
    path = project/"nbs/experiments/a.ipynb"
    path.write_text(path.read_text().replace('"parameters"', '"paramters"'))
    r = run("nbs/experiments/a.ipynb", "done.ipynb", cwd=project)
    assert r.returncode != 0 and "exactly one cell tagged 'parameters'" in r.stderr


def test_failure_says_where_and_keeps_what_ran(project):
    path = project/"nbs/experiments/a.ipynb"
    path.write_text(path.read_text().replace("str(n)", "str(1/0)"))
    r = run("nbs/experiments/a.ipynb", "done.ipynb", cwd=project)
    assert r.returncode != 0 and "ZeroDivisionError" in r.stderr and (project/"done.failed.ipynb").exists()


def test_prose_does_not_change_the_key_and_code_does():
    def key(source, given=dict(n=1), words="a"):
        return run_nb.run_key(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(words), nbformat.v4.new_code_cell(source)]), [(Path("out"), given)], [])
    base = key("from simpool.knn import vote\nx = 1")
    assert key("from simpool.knn import vote\nx = 1 # a comment", words="b") == base
    assert key("from simpool.knn import vote\nx = 2") != base
    assert key("from simpool.knn import vote\nx = 1", dict(n=2)) != base
    assert run_nb.meaning('def f():\n    "doc"\n    return 1') == run_nb.meaning('def f():\n    "other words"\n    return 1 # why')
    assert run_nb.meaning("def f(): return 1") != run_nb.meaning("def f(): return 2")


def test_key_follows_imports():
    assert {"simpool.train", "simpool.dino", "simpool.core", "simpool.attention", "simpool.simpool"} <= set(run_nb.modules("from simpool.train import fit"))
    assert {"simpool", "simpool.maps", "simpool.kernels"} <= set(run_nb.modules("from simpool import SimPool"))
    assert "simpool.kernels" in run_nb.modules("from . import kernels", "simpool")
    assert "simpool.sweep" not in run_nb.modules("from simpool.train import fit")


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
    ("from simpool.evaluation import knn_classify", "", "evaluation evaluation.knn evaluation.probe data data.scenes core"),
    ("import simpool.kernels", "", "kernels"),
    ("import numpy, os.path", "", None),
])
def test_key_follows_subpackages(tmp_path, monkeypatch, source, package, found):
    "Relative imports start at the importing package; what the top package imports outright always counts"
    for name, text in PACKAGE.items():
        (tmp_path/name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/name).write_text(text)
    monkeypatch.setattr(run_nb, "ROOT", tmp_path)
    expected = {"simpool." + n for n in found.split()} | {"simpool.fused"} if found else set()
    assert set(run_nb.modules(source, package)) == expected


@pytest.mark.parametrize("source", ["import simpool", "from simpool import create_model", "from simpool import *"])
def test_names_of_the_top_package_count_all_of_it(tmp_path, monkeypatch, source):
    "They may be imported on first use (PEP 562), where no import statement shows it"
    test_key_follows_subpackages(tmp_path, monkeypatch, "import os", "", None)
    names = [n.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for n in PACKAGE]
    assert set(run_nb.modules(source)) == set(names)


def test_on_a_card_the_kernels_count(monkeypatch):
    code = "from simpool.train import fit"
    for card in (False, True):
        monkeypatch.setattr(run_nb, "has_card", lambda: card)
        assert ("simpool.kernels" in run_nb.used_modules(code)) == card
    def key(): return run_nb.run_key(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), [], [])
    before = key()
    monkeypatch.setattr(run_nb, "used_modules", lambda code: run_nb.modules(code) | {"simpool.kernels": "x = 1"})
    assert key() != before


def test_every_scale_knows_every_parameter():
    "All sections that dvc.yaml names exist at each scale, with names that the notebook has"
    for scale in SCALES:
        assert set(PARAMS[scale]) == set(PARAMS["smoke"]), scale
        for name, stage in STAGES.items():
            words = stage["cmd"].split()
            notebook = nbformat.read(ROOT/words[2], 4)
            names = run_nb.declared(notebook, words[2])
            for flag, value in zip(words, words[1:]):
                if flag == "-s":
                    for item in stage.get("matrix", {}).get("name", [""]):
                        section = run_nb.section(PARAMS, value.replace("${scale}", scale).replace("${item.name}", item))
                        assert set(section) <= set(names), (scale, value, set(section) - set(names))
                if flag in ("-p", "--each"): assert value.split("=")[0] in names


def test_the_benchmark_is_a_stage_of_its_own():
    "Its parameters exist, and what it compares with is what its lock holds"
    words = BENCH["cmd"].split("#")[0].split()
    names = run_nb.declared(nbformat.read(ROOT/"nbs/experiments/50_bench.ipynb", 4), "50_bench")
    assert {v.split("=")[0] for flag, v in zip(words, words[1:]) if flag == "-p"} <= set(names)
    import tomllib
    extra = tomllib.loads((ROOT/"pyproject.toml").read_text())["project"]["optional-dependencies"]["bench"]
    lock = (ROOT/"bench"/"requirements.lock").read_text()
    assert all(f"{pin} " in lock for pin in extra if "==" in pin) and "://" not in lock


def test_results_belong_to_what_is_committed():
    "The committed tables are those that dvc.lock records"
    import hashlib
    lock = yaml.safe_load((ROOT/"dvc.lock").read_text())["stages"]
    assert {name.split("@")[0] for name in lock} == set(STAGES), "dvc.lock knows other stages than dvc.yaml"
    lock |= yaml.safe_load((ROOT/"bench"/"dvc.lock").read_text())["stages"]
    seen = 0
    for stage in lock.values():
        for out in stage.get("outs", []):
            path = ROOT/out["path"]
            if path.suffix in (".json", ".csv", ".md", ".png") and path.exists():
                assert hashlib.md5(path.read_bytes()).hexdigest() == out["md5"], f"{out['path']} is not what the pipeline made"
                seen += 1
    assert seen > 10


def test_provenance_goes_with_every_result():
    for path in sorted((ROOT/"results").glob("*/runs/*.json")) + sorted((ROOT/"results").glob("*/*.json")):
        facts = json.loads(path.read_text())
        assert {"commit", "machine", "minutes", "torch", "date", "scale"} <= set(facts), path
