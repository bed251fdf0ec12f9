"""The recipes of CONTRIBUTING.md: a pooling, an evaluation and a dialect of checkpoints are each added in one place.

What follows from that place is tested: a new pooling is trained, evaluated, saved, mapped and exported by its name.
"""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import yaml

from simpool import attention_maps, create_model, load_checkpoint
from simpool.convert import RULES
from simpool.data.images import SceneImages
from simpool.data.scenes import load_stamps, make_scenes, save_scenes
from simpool.evaluation.suite import TASKS, evaluate, guess, row
from simpool.model import PooledModel
from simpool.pools import _pools, list_pools, register_pool
from simpool.simpool import Pool
from simpool.supervised import SupervisedConfig, train_supervised

ROOT = Path(__file__).parents[1]


# -- a new pooling

class Strongest(Pool):
    "Average of the quarter of the positions with the longest features"
    has_attention = True

    def __init__(self, dim, one_in=4):
        super().__init__()
        self.one_in = one_in

    def forward(self, x, return_attn=False):
        tokens = x if x.ndim == 3 else x.flatten(2).mT
        n = (tokens.shape[1] + self.one_in - 1)//self.one_in # whole numbers, so that it can be exported for any size
        chosen = tokens.norm(dim=-1).topk(n).indices
        weights = torch.zeros_like(tokens[..., 0]).scatter(1, chosen, 1.)/n
        z = (weights[:, None] @ tokens).squeeze(1)
        return (z, weights[:, None].unflatten(2, x.shape[2:] if x.ndim == 4 else (-1,))) if return_attn else z


@pytest.fixture
def strongest():
    "The pooling, known by its name for the time of a test"
    register_pool("strongest", "strongest quarter")(Strongest)
    yield "strongest"
    del _pools["strongest"]


@pytest.fixture(scope="module")
def scenes():
    "Small scenes of each split"
    return {split: make_scenes(load_stamps(), split, n, 64) for split, n in (("train", 48), ("test", 24))}


@pytest.mark.parametrize("backbone", ["vit_toy", "resnet_toy"])
def test_a_pooling_by_name(strongest, scenes, tmp_path, backbone):
    assert list_pools()[-1] == strongest
    train = scenes["train"]
    images = SceneImages(train["image"], train["label"])
    model = create_model(backbone, strongest, num_classes=int(train["label"].max()) + 1)
    model, log = train_supervised(model, images, SupervisedConfig(epochs=2, batch_size=16, crop_size=64))
    assert len(log) == 2 and np.isfinite(log[-1]["loss"])
    maps = attention_maps(model, train["image"][:2])
    assert maps.shape == (2, 8, 8) and ((maps > 0).sum((1, 2)) == 16).all(), "a quarter of 64 positions"
    model.save_pretrained(tmp_path)
    again, batch = PooledModel.from_pretrained(tmp_path).eval(), torch.rand(2, 3, 64, 64)
    assert again.config["pool"] == strongest
    torch.testing.assert_close(again(batch), model(batch), rtol=1e-4, atol=1e-5)


def test_a_pooling_is_evaluated_and_exported(strongest, scenes, tmp_path):
    import onnxruntime

    from simpool.export import export_onnx
    for split, made in scenes.items():
        save_scenes(made, tmp_path/f"{split}.npz")
    model = create_model("resnet_toy", strongest).eval()
    rows = evaluate(model, tmp_path, ("knn", "localization"), 64)
    assert {r["task"] for r in rows} == {"knn", "localization"}
    with pytest.raises(Exception, match="it takes one_in"):
        create_model("resnet_toy", strongest, pool_kwargs=dict(share=.5))
    session = onnxruntime.InferenceSession(export_onnx(model, tmp_path/"model.onnx"))
    batch = torch.rand(2, 3, 64, 96)
    z, attn = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
    torch.testing.assert_close(torch.tensor(z), model(batch), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.tensor(attn), model.attention(batch), rtol=1e-4, atol=1e-5)


# -- a new evaluation

def test_a_task_of_the_suite(scenes, tmp_path, monkeypatch):
    "One function in TASKS, and `evaluate` and `simpool evaluate --tasks` know it"
    def centroid_task(suite, train, test, seed):
        "Nearest class mean"
        train_y, test_y = map(torch.as_tensor, (train.y, test.y))
        classes = train_y.unique()
        means = torch.stack([train.x[train_y == c].mean(0) for c in classes])
        right = classes[torch.cdist(test.x, means).argmin(1)] == test_y
        return [row("top-1", 100*float(right.float().mean()), guess(train), "nearest class mean")]
    monkeypatch.setitem(TASKS, "centroid", centroid_task)
    for split, made in scenes.items():
        save_scenes(made, tmp_path/f"{split}.npz")
    found, = evaluate(create_model("resnet_toy", "gap"), tmp_path, ("centroid",), 64)
    assert (found["task"], found["split"], found["metric"]) == ("centroid", "test", "top-1")
    assert 0 <= found["value"] <= 100 and found["chance"] < 20


def test_a_stage_of_the_pipeline(tmp_path):
    "A notebook, a word in dvc.yaml, a section for each scale: then `run_nb` runs it with its parameters"
    shutil.copytree(ROOT/"tools", tmp_path/"tools", ignore=shutil.ignore_patterns("__pycache__"))
    dvc = (ROOT/"dvc.yaml").read_text()
    old = "table_7: {<<: *score, x: top1}, "
    assert dvc.count(old) == 1
    (tmp_path/"dvc.yaml").write_text(dvc.replace(old, old + "centroid: {<<: *score, x: top1}, "))
    params = yaml.safe_load((ROOT/"params.yaml").read_text())
    params = {k: v | dict(centroid=dict(n_images=7)) if isinstance(v, dict) else v for k, v in params.items()}
    (tmp_path/"params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path/"requirements.lock").touch()
    kernel = dict(name="python3", display_name="python3", language="python")
    notebook = nbformat.v4.new_notebook(metadata=dict(kernelspec=kernel))
    notebook.cells = [
        nbformat.v4.new_code_cell("results = 'results/scratch'\nn_images = 3", metadata=dict(tags=["parameters"])),
        nbformat.v4.new_code_cell("import json\nfrom pathlib import Path\n"
                                  "Path('out.json').write_text(json.dumps([results, n_images]))")]
    (tmp_path/"nbs"/"experiments").mkdir(parents=True)
    nbformat.write(notebook, tmp_path/"nbs"/"experiments"/"centroid.ipynb")
    command = [sys.executable, "tools/run_nb.py", "centroid", "mini"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert json.loads((tmp_path/"out.json").read_text()) == ["results/mini", 7]


# -- a new dialect of checkpoints

def test_a_dialect(monkeypatch):
    "Rules translate the names; the report says of each key what became of it"
    ours = create_model("resnet18", "simpool", gamma=2., pool_kwargs=dict(value_min="batch")).eval()
    def theirs(name):
        name = name.replace("pool.norm_patches", "attn_head.ln").replace("pool.wq", "attn_head.to_q")
        return name.replace("pool.wk", "attn_head.to_k").removeprefix("body.")
    state = {theirs(k): v for k, v in ours.state_dict().items()} | {"ema_decay": torch.tensor(.99)}
    rules = [(r"^attn_head\.ln\.(weight|bias)$", r"pool.norm_patches.\1", "a new dialect"),
             (r"^attn_head\.to_([qk])\.(weight|bias)$", r"pool.w\1.\2", "a new dialect"),
             (r"^ema_decay$", None, "a new dialect")]
    with pytest.raises(Exception, match="attn_head"):
        load_checkpoint(state, gamma=2.)
    monkeypatch.setattr("simpool.convert.RULES", [*rules, *RULES])
    model, report = load_checkpoint(state, gamma=2.)
    batch = torch.rand(2, 3, 64, 64)
    assert torch.equal(model(batch), ours(batch)), "the same features, to the bit"
    what = {r["file"]: (r["here"], r["what"]) for r in report.rows}
    assert what["attn_head.to_q.weight"][0] == "pool.wq.weight" and what["ema_decay"][1] == "dropped"
