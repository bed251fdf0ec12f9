"Two processes train as one does, stop as one does, and go on as one does."
from functools import cache

import numpy as np
import pytest
import torch

from simpool.core import seed_everything
from simpool.data.images import SceneImages
from simpool.data.multicrop import MultiCrop
from simpool.data.scenes import load_stamps, make_scenes
from simpool.model import create_model
from simpool.pretrain import BAMConfig, DINOConfig, pretrain
from simpool.processes import launch
from simpool.supervised import SupervisedConfig, train_supervised

VIT = dict(pool="simpool", backbone="vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=48, num_heads=2,
           patch_size=8)
RESNET = dict(pool="simpool", backbone="resnet18", layers=(1, 1, 1, 1), channels=(16, 32, 64, 64))
GAP = dict(RESNET, pool="gap")
SMALL = dict(epochs=10, batch_size=8, warmup_epochs=1, precision="fp32")
UNLABELED = dict(SMALL, out_dim=64, hidden_dim=64, momentum_teacher=.9, crops=MultiCrop(32, 16, 2))
DINO = dict(UNLABELED, bottleneck_dim=32, clip_grad=.3)
TIMM = dict(auto_augment="rand-m9-mstd0.5-inc1", reprob=.25, mixup=.2, cutmix=1., ema_decay=.9)
SPLITS = dict(auto_augment="augmix-m5-w4", aug_splits=3)
SUPERVISED = dict(SMALL, optimizer="sgd", lr=.002, crop_size=32, batch_size=20)
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
    assert abs(one[0][0] - one[0][-1]) > .01 # something has changed in twenty steps
