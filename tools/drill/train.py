"""Train a toy network with a checkpoint after each step: python tools/drill/train.py dino|bam|supervised OUT

With `--kill PLACE:N` the process kills itself (as kill -9 would) at the N-th time that it comes to a place of `PLACES`.
"""
import argparse
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__": # who imports it wants the rest of the process as it was
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["TQDM_DISABLE"] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402

import simpool.loop  # noqa: E402
from simpool.cli import main  # noqa: E402

METHODS = "dino", "bam", "supervised"
COMMON = ("--backbone vit_toy --img-size 16 --epochs 2 --warmup-epochs 0 --batch-size 8 --global-size 16 --n-local 0 "
          "--hidden-dim 16 --lr 0.01").split()
COMMON += ["--out-dim", "32"]
OPTIONS = dict(dino=[*COMMON, "--bottleneck-dim", "8", "--drop-path-rate", "0.2"], bam=[*COMMON, "--top-k", "4"])


def save_often(steps=1):
    "Write a checkpoint after every so many steps, not each minute"
    asked = itertools.count(1)
    simpool.loop.Checkpointer.due = lambda self: self.path is not None and next(asked)%steps == 0


def images(folder):
    "Write 24 images of noise once, as scenes are stored"
    path = folder/"images.npz"
    if not path.exists():
        noise = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
        tmp = path.with_name(f"images.{os.getpid()}.npz")
        np.savez(tmp, image=noise, label=np.arange(24)%3)
        os.replace(tmp, path)
    return path


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def before(call, n, half=None):
    "Wrap a function so that the process dies at the n-th call of it, perhaps with half of its work done"
    left = [n]
    def counted(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            if half:
                half(*args)
            die()
        return call(*args, **kwargs)
    return counted


def half_a_file(state, path):
    "Write the first half of a checkpoint, as a process does that dies in the middle of a write"
    right_save(state, path)
    with open(path, "rb+") as file:
        file.truncate(os.path.getsize(path)//2)


right_save = torch.save
PLACES = { # name -> object, its attribute at which the process dies, what it does by half
    "step": (simpool.loop.NaNGuard, "step", None), # between two steps
    "update": (simpool.loop.NaNGuard, "check", None), # in a step, when gradients are there and weights are old
    "write": (torch, "save", half_a_file), # in the middle of a checkpoint
    "rename": (os, "replace", None), # between two renames of files
    "sync": (os, "fsync", None), # before a file is safe on the disk
}


def kill_at(place, n):
    "Let this process kill itself at the n-th time that it comes to a place"
    where, name, half = PLACES[place]
    setattr(where, name, before(getattr(where, name), n, half))


def supervised(data, out, num_workers):
    "Train a classifier as the notebooks do, and write its weights at the end"
    from simpool.checkpoint import save_model
    from simpool.core import seed_everything
    from simpool.data.images import open_images
    from simpool.model import create_model
    from simpool.supervised import SupervisedConfig, train_supervised
    seed_everything(0)
    model = create_model("vit_toy", num_classes=3, img_size=16)
    config = SupervisedConfig(epochs=2, warmup_epochs=0, batch_size=8, crop_size=16)
    model, _ = train_supervised(model, open_images(data), config, run_dir=out.parent/"net.run",
                                num_workers=num_workers)
    save_model(model, model.config, out)


def train(method, out, num_workers=0, kill=None, processes=1, save_every=1):
    "Train into the file `out`, perhaps in several processes, of which the first one dies at `kill`; the exit code"
    if processes > 1:
        launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", processes, __file__, method,
                  out.parent, "--num-workers", num_workers, "--save-every", save_every,
                  *(("--kill", kill) if kill else ())]
        return subprocess.run(list(map(str, launch))).returncode
    save_often(save_every)
    out.parent.mkdir(parents=True, exist_ok=True)
    data = images(out.parent.parent)
    if kill and os.environ.get("RANK", "0") == "0":
        place, n = kill.split(":")
        kill_at(place, int(n))
    if method == "supervised":
        supervised(data, out, num_workers)
        return 0
    return main(["pretrain", method, "--data", str(data), "--out", str(out), "--log-every", "2", "--keep-every", "1",
                 "--num-workers", str(num_workers), *OPTIONS[method]])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("out", type=Path, help="folder")
    parser.add_argument("--num-workers", type=int, default=0)
    parser.add_argument("--save-every", type=int, default=1, help="steps between checkpoints (%(default)s)")
    parser.add_argument("--kill", help="where to die: PLACE:N")
    options = parser.parse_args()
    sys.exit(train(options.method, options.out/"net.safetensors", options.num_workers, options.kill,
                   save_every=options.save_every))
