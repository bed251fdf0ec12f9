"The experiments run end to end on a few scenes: data, both trainings, k-NN, attention, report; then from a class folder."
import json
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
from PIL import Image

from simpool.scenes import load_scenes

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    "A checkout in small, with its own data and results"
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("tools", "nbs/experiments"): shutil.copytree(ROOT/name, folder/name)
    for name in ("dvc.yaml", "params.yaml"): shutil.copy(ROOT/name, folder)
    (folder/"data").mkdir()
    (folder/"data"/"stamps").symlink_to(ROOT/"data"/"stamps")
    return folder


def run(project, notebook, monkeypatch, **parameters):
    "The code cells in order, in this process (a kernel for each notebook would take minutes), the parameters put where papermill puts them"
    monkeypatch.chdir(project)
    names = {"__name__": "__main__"}
    for cell in nbformat.read(project/"nbs"/"experiments"/f"{notebook}.ipynb", 4).cells:
        if cell.cell_type != "code": continue
        exec(compile(cell.source, notebook, "exec"), names)
        if "parameters" in cell.metadata.get("tags", []):
            assert set(parameters) <= set(names)
            names.update(parameters)
    plt.close("all")


@pytest.fixture(scope="module")
def tables(project):
    "Data, then Figure 3, Tables 9 and 10 and the exponent with a few networks each: name -> notebook"
    few, notebooks = dict(per_class=6, batch_size=32, workers=0, crop_size=32), dict(figure_3="22_figure_3", table_9="23_table_9", table_10="24_table_10", gamma="25_gamma")
    with pytest.MonkeyPatch.context() as monkeypatch:
        run(project, "10_data", monkeypatch, n_train=200, n_test=60)
        run(project, "22_figure_3", monkeypatch, **few, pools=["gap", "kmeans", "cait", "simpool"], show=2)
        run(project, "23_table_9", monkeypatch, **few, only=["CLS, BASE", "SimPool, BASE-3"])
        run(project, "24_table_10", monkeypatch, **few, only=["SimPool", "k, max of logits 2", "GAP", "linear qk, LN kv", "linear none, LN none"])
        run(project, "25_gamma", monkeypatch, **few, gammas=[None, 2.0], backbones=["resnet_mini"])
    return notebooks


def test_from_scenes_to_the_report(project, tables, monkeypatch):
    for pool in ("baseline", "simpool"):
        run(project, "20_supervised", monkeypatch, pool=pool, epochs=1)
        run(project, "21_dino", monkeypatch, pool=pool, name="resnet", gamma=2.0, epochs=1, warmup_epochs=0, global_size=32)
        run(project, "26_bam", monkeypatch, pool=pool, epochs=1, warmup_epochs=0, batch_size=32, global_size=32)
        for training, name, other in (("supervised", "vit", "resnet"), ("dino", "resnet", "vit")): # let the two that were trained stand in for all four
            for kind, end in (("models", "safetensors"), ("runs", "json")):
                shutil.copy(project/f"results/scratch/{kind}/{training}-{name}-{pool}.{end}", project/f"results/scratch/{kind}/{training}-{other}-{pool}.{end}")
    for notebook in ("30_knn", "31_attention", "33_model_card"): run(project, notebook, monkeypatch)
    results = project/"results"/"scratch"
    run(project, "32_table_8", monkeypatch)
    run(project, "40_report", monkeypatch)
    knn = pd.read_csv(results/"knn.csv")
    assert set(knn.training) == {"supervised", "dino", "bam"}
    assert set(knn[knn.training == "supervised"].pool) == {"cls", "simpool"} and set(knn.split) == {"test", "novel"} and set(knn.weights) == {"random", "trained"} and knn.top1.between(0, 100).all()
    maps = pd.read_csv(results/"attention.csv")
    assert {"uniform", "centre box"} < set(maps.network) and maps.mass.between(0, 1).all() and maps.iou.between(0, 1).all()
    card = pd.read_csv(results/"model_card.csv")
    assert card.minimum.nunique() == 3 and card.top1.between(0, 100).all(), "SimPool with gamma: two batch sizes and each image by itself"
    facts = json.loads((results/"runs"/"dino-resnet-simpool.json").read_text())
    assert facts["parameters"]["crops"]["global_size"] == 32 and facts["seed"] == 0 and "teacher_entropy" in facts["last"]
    assert "baseline → SimPool" in (results/"report.md").read_text() and (results/"report.png").stat().st_size > 5000
    page = (results/"framework.md").read_text()
    assert all(f"## {t}" in page for t in ("Figure 3", "Table 8", "Table 9", "Table 10, left", "Table 10, right", "The exponent")) and "| SimPool |" in page
    assert not (project/"runs").exists() or not list((project/"runs").rglob("*.pt")), "a finished run leaves no checkpoint"


def test_tables_of_many_networks(project, tables, monkeypatch):
    "Each measures what it names; a scale without epochs shows what another has trained"
    results = project/"results"/"scratch"
    read = {n: pd.read_csv(results/f"{n}.csv") for n in tables}
    assert read["figure_3"].name.tolist() == ["GAP", "k-means", "CaiT", "SimPool"] and (results/"gallery.png").stat().st_size > 5000
    assert read["table_9"].params.tolist() == read["table_9"].paper_params.tolist() == [22.1, 17.0]
    assert set(read["table_10"].side) == {"left", "right"} and len(read["table_10"]) == 5
    assert read["gamma"].gamma.tolist() == ["none", "2", "gap"]
    for t in read.values(): assert t.test.between(0, 100).all() and t.mass.dropna().between(0, 1).all()
    for name in tables:
        run(project, tables[name], monkeypatch, scale="smoke", results="results/smoke", epochs=0)
        shown = json.loads((project/f"results/smoke/{name}.json").read_text())
        assert shown["scale"] == "scratch" and len(shown["rows"]) == len(read[name]) and (project/f"results/smoke/{name}.png").exists()


def test_from_a_class_folder(project, monkeypatch):
    "The same notebooks on images that somebody else brings, as at scale `paper`"
    scenes = load_scenes(project/"data/sets/scratch/train.npz")
    for i, (image, label) in enumerate(zip(scenes["image"][:120], scenes["label"])):
        path = project/"photos"/("train" if i < 90 else "val")/f"class{label:02d}"/f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((80, 70)).save(path)
    folders = dict(data="data/sets/photos", results="results/photos", scale="photos")
    run(project, "10_data", monkeypatch, source=str(project/'photos'), out="data/sets/photos")
    for pool in ("baseline", "simpool"): run(project, "20_supervised", monkeypatch, **folders, pool=pool, epochs=1, warmup_epochs=0, batch_size=30, num_workers=1)
    for notebook in ("30_knn", "31_attention"): run(project, notebook, monkeypatch, **folders, runs=["supervised-vit"])
    run(project, "22_figure_3", monkeypatch, **folders, pools=["gap", "simpool"], batch_size=30, per_class=4, crop_size=32, workers=0, show=2)
    bars = pd.read_csv(project/"results/photos/figure_3.csv")
    assert bars.name.tolist() == ["GAP", "SimPool"] and not {"mass", "novel"} & set(bars.columns), "no masks, no novel objects"
    knn = pd.read_csv(project/"results/photos/knn.csv")
    assert set(knn.split) == {"test"} and len(knn) == 16


def test_the_benchmark(project, monkeypatch):
    "Its page with a few of its parts; those that need other packages are left out where these are"
    run(project, "50_bench", monkeypatch, parts=["layer", "memory", "sweep", "loss", "optimizer"], own_process=False)
    results = project/"results"/"scratch"
    table, facts = pd.read_csv(results/"bench.csv"), json.loads((results/"bench.json").read_text())
    assert set(table.part) == {"layer", "memory", "sweep", "loss", "optimizer"} and (table.ratio.dropna() > 0).all()
    said = " ".join(r["what"] for r in facts["reached"])
    assert all(words in said for words in ("slowest of", "optimiser and average", "activations kept"))
    assert all((results/f"{name}.png").stat().st_size > 5000 for name in ("bench", "layer", "sweep"))
