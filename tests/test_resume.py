"""Each piece of a checkpoint matters.

Of the checkpoint of a run that was killed in its sixth step, each piece in turn is removed, or put back to what it was
at the beginning. The resumed run must be refused, or differ from the uninterrupted one: otherwise nobody would notice
that the piece is lost. So that each random generator counts, the steps of this run draw from all of them.
"""
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from simpool.checkpoint import load_state, save_state
from simpool.core import UserError, seed_everything
from simpool.data.images import SceneImages
from simpool.data.multicrop import MultiCrop
from simpool.loop import DeterministicBatches, RunState, checkpoint_path, fit, save_checkpoint
from simpool.model import create_model
from simpool.pretrain import DINOConfig, DINOTask

SCENES = SceneImages(np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), dtype=np.uint8))
CONFIG = DINOConfig(
    epochs=4, batch_size=16, lr=2e-3, warmup_epochs=1, out_dim=64, hidden_dim=64, bottleneck_dim=32, use_bn=True,
    warmup_teacher_temp_epochs=2, precision="fp32", crops=MultiCrop(32, 16, 1), monitor_every=2)
SETTINGS = dict(x=1) # of the run, which name its checkpoint
KINDS = "weight", "bias", "running_mean", "running_var", "num_batches_tracked", "weight_v", "weight_g"
NO_STATE = "parts", "rng", "config", "seconds" # taken apart, or for messages only
FROM_THE_STEP = "optimizer.param_groups", # learning rate and weight decay are set in each step
FOR_THE_MONITOR = "health", # this run is healthy from beginning to end; 43_loop has one that is not


class Noisy(DINOTask):
    "Train on views that are darkened by random numbers of Python, numpy and torch"
    killed_in = None

    def step(self, crops, step, epoch):
        if step == self.killed_in:
            raise KeyboardInterrupt
        dark = int(torch.randint(9, ())) + int(np.random.randint(9)) + random.randrange(9)
        return super().step([view - view.clamp(max=dark) for view in crops], step, epoch)


def make_task():
    seed_everything(0)
    return Noisy(create_model("resnet_toy", drop_path_rate=.2), CONFIG, 2, torch.device("cpu"))


def run(folder, killed_in=None):
    "Train; the tensors of all parts, and the rows of log and CSV file without their seconds"
    task, rows = make_task(), []
    task.killed_in = killed_in
    batches = DeterministicBatches(SCENES, task.collate, 16, 0)
    log = fit(task, batches, 4, folder, SETTINGS, every_s=0, on_row=rows.append, log_every=3)
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in log + rows[-1:]]
    return [part.state_dict() for part in task.parts.values()], rows


def same(a, b):
    "Whether two nested structures hold the same values"
    a, b = tree_leaves(a), tree_leaves(b)
    def equal(x, y):
        return torch.equal(x, y) if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor) else x == y
    return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b))


def pieces(state, fresh):
    "Name the pieces of a checkpoint: lists of (dictionary that holds it, key, value at the beginning)"
    found = {name: [(state, name, fresh[name])] for name in state if name not in NO_STATE}
    found |= {f"rng.{k}": [(state["rng"], k, fresh["rng"][k])] for k in state["rng"]}
    for part, values in state["parts"].items():
        beginning = fresh["parts"][part]
        found[part] = [(state["parts"], part, beginning)]
        if part == "optimizer":
            found |= {f"{part}.{k}": [(values, k, beginning[k])] for k in values}
            for k in next(iter(values["state"].values())):
                found[f"{part}.{k}"] = [(s, k, torch.zeros_like(s[k])) for s in values["state"].values()]
        elif part != "precision":
            for kind in KINDS:
                names = [k for k in values if k.rpartition(".")[2] == kind]
                found |= {f"{part}.{kind}": [(values, k, beginning[k]) for k in names]} if names else {}
    return found


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    "Folder with the checkpoint of a run that was killed, and one of its beginning; the uninterrupted run"
    folder = tmp_path_factory.mktemp("killed")
    whole = run(folder/"whole")
    with pytest.raises(KeyboardInterrupt):
        run(folder, killed_in=5)
    checkpoint_path(folder, SETTINGS).rename(folder/"killed")
    save_checkpoint(make_task(), RunState(), folder/"beginning")
    return folder, whole


def changed(folder, name, how):
    "Checkpoint with one piece removed or set back; None if it was the same at the beginning"
    state = load_state(folder/"killed")
    found = pieces(state, load_state(folder/"beginning"))[name]
    if how == "set back" and same([holder[key] for holder, key, _ in found], [value for *_, value in found]):
        return None
    for holder, key, value in found:
        if how == "removed":
            del holder[key]
        else:
            holder[key] = value
    return state


def outcome(state, folder, whole):
    "Resume from a checkpoint; what became of it"
    save_state(state, checkpoint_path(folder, SETTINGS))
    try:
        again = run(folder)
    except UserError as e:
        assert "no checkpoint of this run" in str(e), e
        return "refused"
    except KeyError as e:
        return f"refused by the optimizer, which has no {e}"
    return "unseen" if same(again, whole) else "differs"


@pytest.mark.slow
def test_each_piece_is_missed(killed, tmp_path):
    folder, whole = killed
    assert outcome(load_state(folder/"killed"), tmp_path/"whole", whole) == "unseen" # nothing changed
    seen = {}
    for name in pieces(load_state(folder/"killed"), load_state(folder/"beginning")):
        for how in ("removed", "set back"):
            state = changed(folder, name, how)
            if state:
                seen[name, how] = outcome(state, tmp_path/f"{name} {how}", whole)
                print(f"{name} {how}: {seen[name, how]}")
    unseen = {case for case, words in seen.items() if words == "unseen"}
    assert unseen == {(name, "set back") for name in FROM_THE_STEP + FOR_THE_MONITOR}, unseen
    names = {name for name, _ in seen}
    assert {"teacher", "loss", "optimizer.exp_avg", "rng.numpy", "rng.python", "rng.torch", "epoch", "batch"} <= names
    print(f"{len(names)} pieces, {len(seen) - len(unseen)} of {len(seen)} changes seen")


class Poisoned(Noisy):
    "Put a NaN into a weight before step 5, once"
    done = False

    def step(self, crops, step, epoch):
        if step == 5 and not self.done:
            self.done = True
            with torch.no_grad():
                self.student["backbone"].body.layer2[0].conv1.weight[0] = torch.nan
        return super().step(crops, step, epoch)


@pytest.mark.parametrize("on_nan", ["stop", "back"])
def test_nan_in_front_of_a_pooling(tmp_path, on_nan):
    "The check inside of poolings leaves it to the guard, and the monitor bears it"
    seed_everything(0)
    config = replace(CONFIG, monitor_every=1)
    task = Poisoned(create_model("resnet_toy"), config, 2, torch.device("cpu"))
    batches = DeterministicBatches(SCENES, task.collate, 16, 0)
    if on_nan == "stop":
        words = r"parameter student.backbone.body.layer2.0.conv1.weight .*, the first such in step 5"
        with pytest.raises(UserError, match=words):
            fit(task, batches, 4, tmp_path, SETTINGS, every_s=0)
    else:
        assert len(fit(task, batches, 4, tmp_path, SETTINGS, every_s=0, on_nan="back")) == 4
    kept, = tmp_path.glob("*.step5.nan.pt")
    assert not torch.load(kept)["parts"]["student"]["backbone.body.layer2.0.conv1.weight"].isfinite().all()


@pytest.mark.parametrize("steps", [3, 4])
def test_a_run_that_ends_early_is_kept(tmp_path, steps):
    "In the middle of an epoch, and at its end: row of the CSV file and checkpoint"
    task = make_task()
    batches = DeterministicBatches(SCENES, task.collate, 16, 0)
    fit(task, batches, 4, tmp_path, SETTINGS, max_steps=steps)
    state = load_state(checkpoint_path(tmp_path, SETTINGS))
    assert state["epoch"]*2 + state["batch"] == steps
    csv, = tmp_path.glob("*.csv")
    assert csv.read_text().splitlines()[-1].startswith(f"{steps},")
