"What is sent to a loader's processes can be sent, however they are started, and is small."
import io
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from simpool.core import pick_device
from simpool.data.images import SceneImages
from simpool.data.multicrop import MultiCrop
from simpool.evaluation.features import eval_loader
from simpool.loop import DeterministicBatches
from simpool.model import create_model
from simpool.pretrain import DINOConfig, DINOTask
from simpool.supervised import SupervisedConfig, SupervisedTask

IMAGES = SceneImages(np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), dtype=np.uint8))


def tasks():
    "A task of each kind of training"
    crops, device = MultiCrop(32, 16, 1), pick_device("cpu")
    dino = DINOTask(create_model("vit_toy"), DINOConfig(out_dim=32, batch_size=4, crops=crops), 2, device)
    supervised = SupervisedTask(create_model("vit_toy", num_classes=3), SupervisedConfig(batch_size=4), 2, device)
    return dict(dino=dino, supervised=supervised)


@pytest.mark.parametrize("name", ["dino", "supervised"])
def test_training_sends_settings_only(name):
    batches = DeterministicBatches(IMAGES, tasks()[name].collate, 4, seed=0)
    buffer = io.BytesIO()
    pickle.dump(batches, buffer)
    assert buffer.tell() < IMAGES.image.nbytes + 10_000, "the networks do not travel to every process"
    again = pickle.loads(buffer.getvalue())
    for a, b in zip(batches[0], again[0]):
        assert torch.equal(a, b)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_evaluation_starts_processes_every_way(method):
    alone = torch.cat(list(eval_loader(IMAGES, 32, 4)))
    loader = eval_loader(IMAGES, 32, 4)
    other = DataLoader(IMAGES, 4, collate_fn=loader.collate_fn, num_workers=1, multiprocessing_context=method)
    assert torch.equal(alone, torch.cat(list(other)))
