"What is sent to a loader's processes can be sent, however they are started, and is small."
import io
import os
import pickle
import signal
import subprocess
import sys

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


TRAINING = """
import signal
import sys
import torch
from torch import nn
from simpool.data.images import SceneImages
from simpool.loop import DeterministicBatches, fit

class Slow:
    def __init__(self):
        self.model = nn.Linear(1, 1)
        self.parts = dict(model=self.model)

    def step(self, batch, step, epoch):
        print(step, flush=True)
        torch.randn(400, 400).matmul(torch.randn(400, 400)) # a step takes a moment
        return dict(loss=torch.tensor(1.))

def collate(images, labels, draws):
    return torch.tensor(labels)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler) # a shell's background jobs ignore it
    signal.signal(signal.SIGHUP, signal.SIG_DFL) # what nohup starts ignores it, and so would the run
    torch.multiprocessing.set_start_method(sys.argv[2])
    images = SceneImages(torch.zeros(64, 4, 4, 3, dtype=torch.uint8).numpy())
    fit(Slow(), DeterministicBatches(images, collate, 1, 0), 10**6, sys.argv[1], dict(x=1), num_workers=2, every_s=1e9)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_signals_to_all_processes_of_a_run(tmp_path, number, method):
    "Ctrl-C in a terminal, or the end of a job's time, reach the loader's processes too: a checkpoint is written"
    (tmp_path/"train.py").write_text(TRAINING)
    run = subprocess.Popen([sys.executable, "train.py", tmp_path/"run", method], cwd=tmp_path, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, start_new_session=True)
    while run.stdout.readline().strip() != "70": # in the second epoch
        assert run.poll() is None, run.stderr.read()
    os.killpg(run.pid, number)
    _, err = run.communicate(timeout=120)
    # with spawn SIGHUP and SIGUSR1 also end a helper of Python, which says so later
    assert any(line.startswith("KeyboardInterrupt: train: interrupted in epoch") for line in err.splitlines()), err
    assert "the run stands in" in err and list((tmp_path/"run").glob("*.pt"))


DAMAGED = TRAINING.replace("    fit(", """    class Damaged(torch.utils.data.Dataset):
        def __len__(self):
            return 64

        def __getitem__(self, i):
            if i == 40:
                raise OSError("40.png cannot be read")
            return images[i]
    fit(""").replace("DeterministicBatches(images", "DeterministicBatches(Damaged()")
DAMAGED = DAMAGED.replace("every_s", "skip_unreadable=0, every_s")


def test_an_error_in_a_process_of_the_loader_ends_the_run(tmp_path):
    "It is passed on, and nothing waits for the processes"
    (tmp_path/"train.py").write_text(DAMAGED)
    command = [sys.executable, "train.py", tmp_path/"run", "fork"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1 and "40.png cannot be read" in run.stderr, run.stderr
