"Two processes train as one does, stop as one does, and go on as one does."
import os
import re
import signal
import socket
import subprocess
import sys
import time
from functools import cache

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from simpool.cli import main
from simpool.core import seed_everything
from simpool.data.images import SceneImages
from simpool.data.multicrop import MultiCrop
from simpool.data.scenes import load_stamps, make_scenes
from simpool.model import create_model
from simpool.pretrain import BAMConfig, DINOConfig, pretrain
from simpool.processes import launch, train_together
from simpool.supervised import SupervisedConfig, train_supervised
from simpool.watch import EpochMaps

VIT = dict(pool="simpool", backbone="vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=48, num_heads=2,
           patch_size=8)
RESNET = dict(pool="simpool", backbone="resnet18", layers=(1, 1, 1, 1), channels=(16, 32, 64, 64), act_layer="silu",
              replace_stem_pool=True) # smooth: a rounding error that turns a ReLU or a maximum would grow in every step
GAP = dict(RESNET, pool="gap")
SMALL = dict(epochs=10, batch_size=8, warmup_epochs=1, precision="fp32")
UNLABELED = dict(SMALL, out_dim=64, hidden_dim=64, momentum_teacher=.9, crops=MultiCrop(32, 16, 2))
DINO = dict(UNLABELED, bottleneck_dim=32, clip_grad=.3)
TIMM = dict(auto_augment="rand-m9-mstd0.5-inc1", reprob=.25, mixup=.2, cutmix=1., ema_decay=.9)
SPLITS = dict(auto_augment="augmix-m5-w4", aug_splits=3)
SUPERVISED = dict(SMALL, optimizer="sgd", lr=.001, crop_size=32, batch_size=20)
CASES = dict( # rates at which a network does not amplify rounding errors; in float64 larger ones agree as well
    dino_vit=(VIT, DINOConfig, dict(DINO, optimizer="sgd", lr=3.)),
    dino_vit_adamw=(VIT, DINOConfig, dict(DINO, lr=.01)),
    dino_resnet=(RESNET, DINOConfig, dict(DINO, optimizer="lars", lr=1., use_bn=True, batch_size=20)),
    bam=(VIT, BAMConfig, dict(UNLABELED, optimizer="sgd", lr=3.)),
    bam_no_teacher=(VIT, BAMConfig, dict(UNLABELED, optimizer="sgd", lr=3., teacher=False, top_k=4)),
    supervised=(GAP, SupervisedConfig, SUPERVISED),
    supervised_mixed=(VIT, SupervisedConfig, dict(SUPERVISED, lr=.02, **TIMM)),
    supervised_splits=(GAP, SupervisedConfig, dict(SUPERVISED, **SPLITS)),
)


@cache
def scenes():
    arrays = make_scenes(load_stamps(), "train", 40, 40)
    return SceneImages(arrays["image"], arrays["label"] % 4, tuple("abcd"))


def train(case, max_steps=20, **more):
    "Losses of four epochs and the weights after twenty steps"
    network, config, settings = CASES[case]
    seed_everything(0)
    model = create_model(num_classes=4*(config is SupervisedConfig), **network)
    call = train_supervised if config is SupervisedConfig else pretrain
    model, log = call(model, scenes(), config(**settings | more), num_workers=0, max_steps=max_steps)
    return [row["loss"] for row in log], {k: v.numpy().copy() for k, v in model.state_dict().items()}, log[-1]


def train_all():
    torch.set_num_threads(1)
    return {case: train(case) for case in CASES}


def differences(run, other):
    "Largest difference of the losses and of the weights, the latter as a share of each tensor's largest number"
    losses = np.abs(np.subtract(run[0], other[0])).max()
    return losses, max(np.abs(w - other[1][k]).max()/max(1, np.abs(w).max()) for k, w in run[1].items())


@pytest.fixture(scope="module")
def two():
    return launch(2, train_all)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_are_one(case, two):
    one = train(case)
    for other in two:
        losses, weights = differences(one, other[case])
        assert losses < 1e-5 and weights < 1e-5, (losses, weights)
    for name, value in one[2].items():
        assert name == "seconds" or abs(value - two[0][case][2][name]) < 1e-4, name
    assert np.ptp(one[0]) > .01 # something has changed in twenty steps


@pytest.mark.parametrize("case", ["dino_vit", "bam", "bam_no_teacher", "supervised_mixed"])
def test_a_batch_in_parts_is_the_batch(case):
    losses, weights = differences(train(case), train(case, accumulate=4))
    assert losses < 1e-5 and weights < 1e-5, (losses, weights)


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    "A short training, as arguments of the command line without --out"
    folder = tmp_path_factory.mktemp("photos")
    for i in range(40):
        scenes()[i][0].save(folder/f"{i}.png")
    words = """--backbone vit_toy --img-size 32 --global-size 32 --local-size 16 --n-local 2 --epochs 24 --batch-size 8
        --warmup-epochs 1 --out-dim 64 --hidden-dim 32 --bottleneck-dim 16 --momentum-teacher .9 --precision fp32
        --drop-path-rate 0 --optimizer sgd --lr .1 --device cpu"""
    return ["pretrain", "dino", "--data", str(folder), *words.split()]


def start(n, command):
    "Start a command in n processes, without torchrun, which would end those that are left"
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    env = dict(os.environ, WORLD_SIZE=str(n), MASTER_ADDR="localhost", MASTER_PORT=str(port), OMP_NUM_THREADS="1")
    arguments = [sys.executable, "-m", "simpool", *command]
    return [subprocess.Popen(arguments, env=env | dict(RANK=str(i), LOCAL_RANK=str(i)), stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True) for i in range(n)]


def ends(started, number, sent):
    "Send a signal to one of two processes in the middle of the training; return exit codes, messages, seconds"
    words = ""
    while not re.search(r" [1-9]\d*/\d+ \[", words): # the bar of the first process, after a step
        words += started[0].stderr.read(1)
        assert started[0].poll() is None, words
    started[number].send_signal(sent)
    sent_at = time.monotonic()
    said = [p.communicate(timeout=30)[1] for p in started]
    lines = [line for words in said for line in words.replace("\r", "\n").splitlines() if line.startswith("simpool")]
    return [p.returncode for p in started], lines, time.monotonic() - sent_at


def test_the_end_of_one_is_the_end_of_all(command, tmp_path):
    "Stopped in two processes, killed in two, finished in one: the weights are those of a run in one piece"
    out = [*command, "--out", str(tmp_path/"net")]
    codes, lines, _ = ends(start(2, out), 1, signal.SIGTERM) # only the second process hears of it
    assert codes == [130, 130] and len(lines) == 1 and "the same call goes on from there" in lines[0], (codes, lines)
    codes, lines, seconds = ends(start(2, out), 1, signal.SIGKILL)
    assert codes == [2, -9] and seconds < 20, (codes, seconds)
    assert len(lines) == 1 and "another process of this training has ended" in lines[0], lines
    assert len(list((tmp_path/"net.run").glob("*.pt"))) == 1
    assert main(out) == 0
    assert main([*command, "--out", str(tmp_path/"whole")]) == 0
    a, b = (load_file(tmp_path/f"{name}.safetensors") for name in ("net", "whole"))
    assert max((a[k] - b[k]).abs().max() for k in a) < 1e-5


def test_a_mistake_is_said_once(command, tmp_path):
    started = start(2, [*command, "--out", str(tmp_path/"net"), "--batch-size", "9"])
    said = "".join(p.communicate(timeout=60)[1] for p in started)
    assert [p.returncode for p in started] == [2, 2]
    lines = [line.split(": ")[1] for line in said.splitlines() if line.startswith("simpool: ")]
    assert lines == ["40 images", "a batch_size of 9 cannot be shared by 2 processes"], said


def test_notebooks_train_in_several_processes():
    "As the experiments do: network, log and the maps of every epoch come back from the first process"
    network, config, settings = CASES["dino_vit"]
    found = []
    for n in (1, 2):
        seed_everything(0)
        watched = EpochMaps(list(scenes().image[:2]), 32, None, 2)
        short = config(**settings | dict(epochs=2, warmup_epochs=0, lr=.1))
        model, log = train_together(n, pretrain, create_model(**network), scenes(), short, "cpu", 0, None, 0, "both",
                                    on_epoch=watched)
        found.append(([row["loss"] for row in log], {k: v.numpy() for k, v in model.state_dict().items()}, watched))
    losses, weights = differences(found[0], found[1])
    assert losses < 1e-5 and weights < 1e-5
    assert list(found[0][2].maps) == list(found[1][2].maps) == [0, 1, 2]
    for epoch in range(3):
        alone, together = (kept.maps[epoch]["maps"] for _, _, kept in found)
        np.testing.assert_allclose(alone, together, atol=1e-3) # kept in float16
