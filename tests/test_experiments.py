"The experiments run end to end on a few scenes: data, trainings, evaluations, report; then from a class folder."
import json
import math
import shutil
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
from PIL import Image, ImageOps

from simpool.data.scenes import load_scenes
from simpool.reproduce.results import read_run, read_table, run_paths

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT/"tools"))
from make_rehearsal_data import make_all  # noqa: E402

POOLS = "baseline", "simpool"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    "A small checkout, with its own data and results"
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("tools", "nbs/experiments"):
        shutil.copytree(ROOT/name, folder/name)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT/name, folder)
    (folder/"data").mkdir()
    for name in ("stamps", "store"):
        (folder/"data"/name).symlink_to(ROOT/"data"/name)
    return folder


def run(project, notebook, monkeypatch, **parameters):
    "Run the code cells in order, parameters set as papermill does; in this process, since kernels would take minutes"
    monkeypatch.chdir(project)
    names = {"__name__": "__main__"}
    for cell in nbformat.read(project/"nbs"/"experiments"/f"{notebook}.ipynb", 4).cells:
        if cell.cell_type != "code":
            continue
        exec(compile(cell.source, notebook, "exec"), names)
        if "parameters" in cell.metadata.get("tags", []):
            assert set(parameters) <= set(names)
            names.update(parameters)
    plt.close("all")


SWEEPS = dict(
    figure_3=dict(pools=["gap", "kmeans", "cait", "simpool"], show=2),
    table_9=dict(only=["CLS, BASE", "SimPool, BASE-3"]),
    table_10=dict(only=[
        "SimPool", "h(S) queries compete", "k, max of logits 2", "GAP", "linear qk, LN kv", "linear none, LN none"]),
    gamma=dict(gammas=[None, 2.0], backbones=["resnet_toy"]),
)


@pytest.fixture(scope="module")
def results(project):
    "Results of the data stage, then of each sweep with a few networks"
    few = dict(per_class=6, batch_size=32, workers=0, crop_size=32)
    with pytest.MonkeyPatch.context() as monkeypatch:
        run(project, "data", monkeypatch, n_train=200, n_test=60)
        for notebook, parameters in SWEEPS.items():
            run(project, notebook, monkeypatch, **few, **parameters)
    return project/"results"/"scratch"


def stand_in(results, run, *others):
    "Let one training stand in for others, so that fewer are needed"
    for theirs in (run_paths(results, other) for other in others):
        for kind, path in run_paths(results, run).items():
            theirs[kind].parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, theirs[kind])


@pytest.mark.slow
def test_from_scenes_to_the_report(project, results, monkeypatch):
    for pool in POOLS:
        run(project, "train_supervised", monkeypatch, pool=pool, epochs=1)
        short = dict(pool=pool, epochs=1, warmup_epochs=0, global_size=32)
        run(project, "train_dino", monkeypatch, **short, name="resnet", gamma=2.0, watch=0)
        vit = dict(training="dino_pairs", photographs=2, name="vit", backbone="vit_toy", watch=3)
        run(project, "train_dino", monkeypatch, **short, **vit)
        run(project, "train_bam", monkeypatch, **short, batch_size=32, processes=2 if pool == "simpool" else None)
        stand_in(results, f"supervised-vit-{pool}", f"supervised-resnet-{pool}")
        stand_in(results, f"dino-resnet-{pool}", f"dino-vit-{pool}", f"dino_pairs-resnet-{pool}")
        stand_in(results, f"bam-vit-{pool}", f"bam_pairs-vit-{pool}")
    for notebook in ("knn", "linear", "lowshot", "retrieval", "table_4", "probes", "attention", "emergence",
                     "model_card", "table_2", "table_8", "headline"):
        run(project, notebook, monkeypatch)
    few = dict(table_6=dict(n_images=6), table_7=dict(n_images=24), video=dict(n_clips=2, frames=4, seen=64),
               segmentation=dict(n_memory=12, n_images=8, larger=1), detection=dict(runs=["dino-resnet"]))
    for notebook, parameters in few.items():
        run(project, notebook, monkeypatch, **parameters)
    run(project, "seeds", monkeypatch, seeds=[0])
    run(project, "report", monkeypatch, scale="scratch", results="results/scratch")
    knn, _ = read_table(results/"knn")
    assert set(knn.training) == {"supervised", "dino", "bam", "dino_pairs", "bam_pairs"}
    assert knn.top1.between(0, 100).all()
    assert set(knn[knn.training == "supervised"].pool) == {"cls", "simpool"}
    assert set(knn.split) == {"test", "novel"} and set(knn.weights) == {"random", "trained"}
    linear, _ = read_table(results/"linear")
    assert linear.top1.between(0, 100).all() and (linear.chosen_on_test >= linear.top1).all()
    assert linear[["training", "backbone", "pool", "weights", "split"]].value_counts().max() == 1
    check_further(results)
    maps, _ = read_table(results/"attention")
    assert {"uniform", "center box"} < set(maps.network)
    for measure, most in dict(mass=1, iou=1, best_iou=1, max_box_acc=100).items():
        assert maps[measure].between(0, most).all()
    metrics = json.loads((results/"attention"/"metrics.json").read_text())
    heads = [metrics[f"supervised.vit.cls.test.head_{k}"] for k in range(4)]
    assert 0 <= min(heads) <= max(heads) <= metrics["supervised.vit.cls.test.best_head"] <= 100
    assert metrics["supervised.vit.simpool.test.head_0"] == metrics["supervised.vit.simpool.test.best_head"]
    check_headline(results, knn, maps)
    emergence, _ = read_table(results/"emergence")
    assert emergence.epoch.tolist() == [0, 1] and {"epoch", "CLS", "SimPool"} <= set(emergence.columns)
    for pool in ("CLS", "SimPool"): # a training of one epoch has scores of its beginning and its end
        assert emergence[f"{pool}.mass"].between(0, 1).all() and emergence[f"{pool}.best_iou"].between(0, 1).all()
        assert (emergence[f"{pool}.mass_interval"] > 0).all() and emergence[f"{pool}.max_box_acc"].between(0, 100).all()
    assert Image.open(results/"emergence"/"animation.gif").n_frames == 2
    check_seeds(results)
    model_card, _ = read_table(results/"model_card")
    assert model_card.minimum.nunique() == 3, "SimPool with gamma: two batch sizes and each image by itself"
    assert model_card.top1.between(0, 100).all()
    facts = read_run(results, "dino-resnet-simpool")
    assert facts["parameters"]["crops"]["global_size"] == 32 and facts["seed"] == 0
    assert "teacher_entropy" in facts["last"]
    assert not list((project/"runs").rglob("*.pt")), "a finished run leaves no checkpoint"
    check_table_2(results, knn)
    check_pages(results/"report")
    for path in results.glob("**/metrics.json"):
        assert all(isinstance(v, (int, float)) for v in json.loads(path.read_text()).values()), path


def check_headline(results, knn, maps):
    "Its numbers are those of the larger tables"
    table, facts = read_table(results/"headline")
    assert set(table.training) == {"supervised", "dino", "dino_pairs"} and (table.gain_interval.dropna() >= 0).all()
    row = table[(table.training == "dino_pairs") & (table.split == "novel")].set_index(["measure", "times"])
    at = knn[(knn.training == "dino_pairs") & (knn.backbone == "vit") & (knn.split == "novel") & (knn.k == 10)]
    at = at.set_index(["weights", "pool"]).top1
    vote = row.loc[("k-NN", 0)]
    assert [vote.baseline, vote.simpool] == pytest.approx([at["trained", "cls"], at["trained", "simpool"]], abs=.001)
    assert (vote.untrained, vote.trivial) == pytest.approx((at["random", "simpool"], facts["chance"]), abs=.01)
    at = maps[(maps.split == "novel") & (maps.resolution == maps.resolution.min())]
    map_row = at[(at.training == "dino_pairs") & (at.network == "vit")].set_index("pool")
    mass = row.loc[("mass", 1)]
    assert mass.simpool == map_row.mass["simpool"] and mass.gain == pytest.approx(map_row.mass_gain["simpool"])
    assert mass.trivial == pytest.approx(at[at.training == "none"].mass.max(), abs=.001)


def check_further(results):
    "Few labels, retrieval, fine-tuning, probes; boxes, backgrounds, segmentation, videos"
    few, _ = read_table(results/"lowshot")
    assert few.top1.between(0, 100).all() and set(few.few) == {1, 5, 10} and (few.choice_interval >= 0).all()
    found, _ = read_table(results/"retrieval")
    assert found.mAP.between(0, 100).all() and set(found.task) == {"object", "copy"}
    assert found[["training", "backbone", "pool", "weights", "split", "task"]].value_counts().max() == 1
    tuned, facts = read_table(results/"table_4")
    assert tuned.top1.between(0, 100).all() and set(tuned.weights) == {"random", "trained"}
    assert facts["data"]["novel objects"]["classes"] > 12
    probes, _ = read_table(results/"probes")
    assert set(probes.arm) == {"patches", "patches + CLS", "own"} and set(probes.pool) == {"gap", "simpool", "aim"}
    assert probes["test.top1"].between(0, 100).all()
    assert probes[probes.arm == "patches"].set_index("pool")["test.mass"].notna()[["simpool", "aim"]].all()
    found, facts = read_table(results/"detection")
    assert found.AP.between(0, 100).all() and set(found.weights) == {"random", "trained"} and len(found) == 8
    assert facts["floor"]["test"]["box"] == pytest.approx(found.floor_AP[found.split == "test"].iloc[0], abs=.001)
    assert (results/"detection"/"pictures.png").stat().st_size > 5000
    for name, value, rows in (("table_6", "corloc", 6), ("table_7", "top1", 16), ("segmentation", "miou", 2),
                              ("video", "jf", 2)):
        table, _ = read_table(results/name)
        counts = table[["training", "backbone", "pool", "weights"]].value_counts()
        assert table[value].between(0, 100).all() and counts.max() == rows, name
        assert (results/name/"figure.png").stat().st_size > 5000


def check_seeds(results):
    "With one seed: the tables' own numbers and intervals, and differences of pairs"
    table, _ = read_table(results/"seeds")
    maps, _ = read_table(results/"attention")
    table, maps = (t[(t.training == "dino_pairs") & (t.network == "vit") & (t.split == "novel") & (t.resolution == 64)]
                   for t in (table, maps))
    at = table[table.measure == "mass"].set_index("pool")
    same = maps.set_index("pool").loc["simpool"]
    assert at.loc["simpool", ["mean", "interval"]].tolist() == [same.mass, same.mass_interval]
    values = at["mean"]
    assert values.difference == pytest.approx(values.simpool - values.cls, abs=.002)
    assert (results/"seeds"/"figure.png").stat().st_size > 5000


def test_recipes(project, results, monkeypatch):
    "Each trial has a row per pooling, measured on scenes of its own"
    trial = dict(trial="one epoch", experiment="train_dino", backbone="resnet_toy", gamma=2., epochs=1, warmup_epochs=0,
                 global_size=16)
    run(project, "recipes", monkeypatch, trials=[trial], n_val=40, n_finer=6, workers=1)
    table, facts = read_table(results/"recipes")
    assert table.pool.tolist() == ["baseline", "simpool"] and table.knn.between(0, 100).all()
    assert table.best_iou_4x.notna().tolist() == [False, True] and facts["trials"] == [trial]


@pytest.mark.slow
def test_ablations(project, results, monkeypatch):
    "Every variant has a row per pooling, split and measure, and its difference from the recipe"
    small = dict(epochs=1, warmup_epochs=0, global_size=16, batch_size=32, n_finer=6, workers=2)
    small |= dict(out_dim=37) # arrives in the processes that train
    names = ["as chosen", "no gamma", "KoLeo", "2 local views of 16 px"]
    run(project, "ablations", monkeypatch, only=names, seeds=[0], **small)
    table, _ = read_table(results/"ablations")
    assert set(table.variant) == set(names) and set(table.split) == {"test", "novel"}
    assert "cls" not in set(table[table.variant == "no gamma"].pool), "the exponent is SimPool's"
    at = table[(table.measure == "knn") & (table.split == "test") & (table.pool == "simpool")].set_index("variant")
    assert at.gain["KoLeo"] == pytest.approx(at.value["KoLeo"] - at.value["as chosen"], abs=1e-3)
    rows = [json.loads(f.read_text()) for f in (project/"runs"/"scratch"/"ablations").glob("*.json")]
    assert len(rows) == 7 and all(row["entropy_limit"] == pytest.approx(math.log(37)) for row in rows)
    assert (at.gain["as chosen"], (results/"ablations"/"figure.png").stat().st_size > 5000) == (0, True)


@pytest.mark.slow
def test_ablations_of_the_methods(project, results, monkeypatch):
    "Every variant differs from the recipe in what its name says: its targets tell"
    small = dict(epochs=1, warmup_epochs=0, global_size=16, batch_size=32, seeds=[0], workers=2)
    names = ["as chosen", "no sharpening", "K 32", "Sinkhorn, copy of the student", "previous epoch", "batches of 128"]
    run(project, "ablations_dino", monkeypatch, only=names, **small)
    table, facts = read_table(results/"ablations_dino")
    ends = {name: facts["entropies"][name] for name in names}
    assert ends["no sharpening"]["teacher_entropy"] > .9*math.log(128) > 4*ends["as chosen"]["teacher_entropy"]
    assert ends["K 32"]["limit"] == pytest.approx(math.log(32), abs=1e-3)
    assert ends["K 32"]["marginal_entropy"] < math.log(32) < ends["Sinkhorn, copy of the student"]["marginal_entropy"]
    assert set(table.variant) == set(names) and "out_dim=128" in facts["recipe"]
    told = table[(table.measure == "knn") & (table.split == "test")].set_index("variant").paper
    assert told["previous epoch"] == pytest.approx(66.6 - 72.8) and math.isnan(told["K 32"])
    names = ["as chosen", "no mask", "16 columns per target", "no teacher", "no balancing"]
    run(project, "ablations_bam", monkeypatch, only=names, **small)
    table, facts = read_table(results/"ablations_bam")
    at = table[(table.measure == "knn") & (table.split == "test")].set_index("variant")
    assert list(at.index) == names
    assert at.gain["no mask"] == pytest.approx(at.value["no mask"] - at.value["as chosen"], abs=1e-3)
    ends = {name: facts["entropies"][name]["target_entropy"] for name in names}
    assert ends["16 columns per target"] < math.log(16) < ends["as chosen"], "16 columns have at most ln 16"
    assert ends["no mask"] != ends["as chosen"] != ends["no teacher"] != ends["no balancing"]


def check_table_2(results, knn):
    "It has the classifier's accuracy, the k-NN of the k-NN table, and the paper's numbers"
    table, _ = read_table(results/"table_2")
    assert len(table) == 8 and table.top1.between(0, 100).all() and (table.interval >= 0).all()
    row = table[(table.network == "vit") & (table.pool == "simpool") & (table.split == "test")].iloc[0]
    same = knn[(knn.training == "supervised") & (knn.backbone == "vit") & (knn.pool == "simpool") & (knn.k == 10)]
    same = same[(same.weights == "trained") & (same.split == "test")]
    assert row.knn == pytest.approx(same.top1.item(), abs=.01) and row.paper == 74.3
    metrics = json.loads((results/"table_2"/"metrics.json").read_text())
    baseline = metrics["vit.cls.test.top1"]
    assert metrics["vit.test.difference"] == pytest.approx(row.top1 - baseline, abs=.02)
    assert row.gain == pytest.approx(row.top1 - baseline, abs=.02) and row.gain_interval >= 0
    assert (results/"table_2"/"curves.png").stat().st_size > 5000


def check_pages(folder):
    "Every table is on a page, every picture that a page shows is there"
    report, framework = ((folder/f"{name}.md").read_text() for name in ("report", "framework"))
    assert "baseline → SimPool" in report and "classifier" in report and (folder/"flow.png").stat().st_size > 5000
    titles = "Figure 3", "Table 8", "Table 9", "Table 10, left", "Table 10, right", "The exponent"
    assert all(f"## {title}" in framework for title in titles) and "| SimPool |" in framework
    shown = [line.partition(")")[0] for line in framework.split("](")[1:]]
    assert len(shown) == 6 and all((folder/path).exists() for path in shown)


def test_tables_of_many_networks(project, results, monkeypatch):
    "Each measures what it names; a scale without epochs shows what another one has trained"
    read = {name: read_table(results/name)[0] for name in SWEEPS}
    assert read["figure_3"].name.tolist() == ["GAP", "k-means", "CaiT", "SimPool"]
    assert (results/"figure_3"/"gallery.png").stat().st_size > 5000
    assert read["table_9"].params.tolist() == read["table_9"].paper_params.tolist() == [22.1, 17.0]
    assert set(read["table_10"].side) == {"left", "right"} and len(read["table_10"]) == 6
    assert read["gamma"].gamma.tolist() == ["none", "2", "gap"]
    for t in read.values():
        assert t.test.between(0, 100).all() and t.mass.dropna().between(0, 1).all()
    for name in SWEEPS:
        run(project, name, monkeypatch, scale="smoke", results="results/smoke", epochs=0)
        copy = project/"results"/"smoke"/name
        assert read_table(copy)[1]["scale"] == "scratch" and (copy/"figure.png").exists()
        for file in ("table.csv", "metrics.json"):
            assert (copy/file).read_text() == (results/name/file).read_text()


def test_from_a_class_folder(project, results, monkeypatch):
    "The same notebooks on one's own images, as at scale `paper`"
    scenes = load_scenes(project/"data/sets/scratch/train.npz")
    for i, (image, label) in enumerate(zip(scenes["image"][:120], scenes["label"])):
        path = project/"photos"/("train" if i < 90 else "val")/f"class{label:02d}"/f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).resize((80, 70)).save(path)
    places = dict(data="data/sets/photos", results="results/photos", scale="photos")
    short = dict(epochs=1, warmup_epochs=0, batch_size=30, num_workers=1)
    run(project, "data", monkeypatch, source=str(project/"photos"), data="data/sets/photos")
    for pool in POOLS:
        run(project, "train_supervised", monkeypatch, **places, **short, pool=pool)
    for notebook in ("knn", "attention"):
        run(project, notebook, monkeypatch, **places, runs=["supervised-vit"])
    run(project, "table_2", monkeypatch, **places, networks=["vit"])
    run(project, "figure_3", monkeypatch, **places, pools=["gap", "simpool"], batch_size=30, per_class=4, crop_size=32,
        workers=0, show=2)
    photos = project/"results"/"photos"
    bars = pd.read_csv(photos/"figure_3"/"table.csv")
    assert bars.name.tolist() == ["GAP", "SimPool"]
    assert not {"mass", "novel"} & set(bars.columns), "no masks, no novel objects"
    knn, _ = read_table(photos/"knn")
    assert set(knn.split) == {"test"} and len(knn) == 16 and len(read_table(photos/"table_2")[0]) == 2


BENCHMARKS = dict( # experiment -> its parameters that name folders, rows of a network; small pictures only
    lowshot=(dict(few=[.01, .1], lists={.01: "$PUBLISHED/SIMCLR/1percent.txt"}), 2),
    retrieval=(dict(benchmarks=["$PUBLISHED/REVISITED/roxford5k", "$PUBLISHED/COPYDAYS"]), 9),
    table_7=(dict(benchmark="$PUBLISHED/IN9"), 8),
    segmentation=(dict(benchmark="$PUBLISHED/VOC/VOC2012", size=64), 1),
    attention=(dict(benchmarks=["$PUBLISHED/CUB", "$PUBLISHED/ILSVRC"]), 2),
)


def test_published_benchmarks(project, results, monkeypatch):
    "As at scale `paper`: in their own layouts, and with processes that read images"
    make_all(project/"published")
    monkeypatch.setenv("PUBLISHED", str(project/"published"))
    places = dict(data="data/sets/published", results="results/published", scale="published")
    run(project, "data", monkeypatch, source="$PUBLISHED/IMAGENET", data="data/sets/published")
    for pool in POOLS:
        run(project, "train_supervised", monkeypatch, **places, pool=pool, epochs=1, warmup_epochs=0, batch_size=10)
    for notebook, (parameters, rows) in BENCHMARKS.items():
        workers = {} if notebook == "segmentation" else dict(num_workers=1)
        run(project, notebook, monkeypatch, **places, **parameters, **workers, runs=["supervised-vit"], workers=2)
        table, _ = read_table(project/"results"/"published"/notebook)
        if "weights" in table:
            table = table[table.weights == "trained"]
        counts = table[table.pool.isin(["cls", "simpool"])].value_counts("pool")
        assert counts.tolist() == [rows, rows], (notebook, table)


def test_detection_on_coco(project, results, monkeypatch):
    "COCO's layout, masks and the settings of scale `paper`, on a few images of three sizes"
    scenes = load_scenes(project/"data/sets/scratch/train.npz")
    for name, index in dict(train2017=range(8), val2017=range(8, 12)).items():
        contents = dict(images=[], annotations=[], categories=[dict(id=3*c + 1, name=f"class {c}") for c in range(12)])
        (project/"coco"/name).mkdir(parents=True)
        for i in index:
            image, (x0, y0, x1, y1) = Image.fromarray(scenes["image"][i]), map(int, scenes["box"][i])
            more = 16*(i % 3) # to the right and below
            image = ImageOps.expand(image, (0, 0, more, 2*more))
            image.save(project/"coco"/name/f"{i:012}.jpg")
            contents["images"].append(dict(id=i, file_name=f"{i:012}.jpg", width=image.width, height=image.height))
            contents["annotations"].append(dict(
                id=i + 1, image_id=i, category_id=3*int(scenes["label"][i]) + 1, iscrowd=int(i == 3),
                bbox=[x0, y0, x1 - x0, y1 - y0], area=(x1 - x0)*(y1 - y0),
                segmentation=[[x0, y0, x1, y0, x1, y1, x0, y1]]))
        (project/"coco"/"annotations").mkdir(exist_ok=True)
        (project/"coco"/"annotations"/f"instances_{name}.json").write_text(json.dumps(contents))
    monkeypatch.setenv("COCO", str(project/"coco"))
    run(project, "detection", monkeypatch, runs=["supervised-vit"], benchmark="$COCO", masks=True, n_train=0,
        n_images=0, batch_size=3, optimizer="sgd", schedule="steps", image_size=[48, 64], precision="bf16", workers=0)
    found, facts = read_table(results/"detection")
    assert set(found.split) == {"val"} and set(found.of) == {"box", "mask"} and len(found) == 8
    assert facts["data"]["train"] == dict(images=8, objects=8) and facts["benchmark"] == "$COCO"


def test_the_benchmark(project, monkeypatch):
    "Some of its parts; those that need other packages are left out where these are not installed"
    parts = ["layer", "memory", "sweep", "loss", "optimizer"]
    run(project, "bench", monkeypatch, parts=parts, own_process=False)
    folder = next((project/"results"/"scratch").glob("*/bench.csv")).parent
    table, facts = pd.read_csv(folder/"bench.csv"), json.loads((folder/"bench.json").read_text())
    assert set(table.part) == set(parts) and (table.ratio.dropna() > 0).all() and facts["machine"]
    said = " ".join(r["what"] for r in facts["reached"])
    assert all(words in said for words in ("slowest of", "optimizer and average", "saved activations"))
    assert all((folder/f"{name}.png").stat().st_size > 5000 for name in ("bench", "layer", "sweep"))
    facts["parts"]["loss"]["commit"] = "earlier"
    (folder/"bench.json").write_text(json.dumps(facts))
    run(project, "bench", monkeypatch, parts=["optimizer"], own_process=False) # the others stay as they are
    again, new = pd.read_csv(folder/"bench.csv"), json.loads((folder/"bench.json").read_text())
    assert again[again.part != "optimizer"].equals(table[table.part != "optimizer"])
    assert new["parts"]["loss"]["commit"] == "earlier" and new["parts"]["optimizer"] == facts["parts"]["optimizer"]
    assert {r["what"]: r["here"] for r in new["reached"] if r["part"] != "optimizer"} == {
        r["what"]: r["here"] for r in facts["reached"] if r["part"] != "optimizer"}
