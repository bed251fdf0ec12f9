"""Train a toy network with a checkpoint after each step: python tools/drill/train.py dino|bam|supervised OUT"""
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TQDM_DISABLE"] = "1"

import numpy as np  # noqa: E402

import simpool.loop  # noqa: E402
from simpool.cli import main  # noqa: E402

METHODS = "dino", "bam", "supervised"
COMMON = ("--backbone vit_toy --img-size 16 --epochs 2 --warmup-epochs 0 --batch-size 8 --global-size 16 --n-local 0 "
          "--hidden-dim 16 --lr 0.01").split()
COMMON += ["--out-dim", "32"]
OPTIONS = dict(dino=[*COMMON, "--bottleneck-dim", "8", "--drop-path-rate", "0.2"], bam=[*COMMON, "--top-k", "4"])


def save_each_step():
    "Write a checkpoint after each step, not each minute"
    simpool.loop.Checkpointer.due = lambda self: self.path is not None


def images(folder):
    "Write 24 images of noise once, as scenes are stored"
    path = folder/"images.npz"
    if not path.exists():
        noise = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
        tmp = path.with_name(f"images.{os.getpid()}.npz")
        np.savez(tmp, image=noise, label=np.arange(24)%3)
        os.replace(tmp, path)
    return path


def supervised(data, out):
    "Train a classifier as the notebooks do, and write its weights at the end"
    from simpool.checkpoint import save_model
    from simpool.core import seed_everything
    from simpool.data.images import open_images
    from simpool.model import create_model
    from simpool.supervised import SupervisedConfig, train_supervised
    seed_everything(0)
    model = create_model("vit_toy", num_classes=3, img_size=16)
    config = SupervisedConfig(epochs=2, warmup_epochs=0, batch_size=8, crop_size=16)
    model, _ = train_supervised(model, open_images(data), config, run_dir=out.parent/"net.run")
    save_model(model, model.config, out)


def train(method, out):
    "Train into the file `out`; the exit code"
    save_each_step()
    out.parent.mkdir(parents=True, exist_ok=True)
    data = images(out.parent.parent)
    if method == "supervised":
        supervised(data, out)
        return 0
    return main(["pretrain", method, "--data", str(data), "--out", str(out), *OPTIONS[method]])


if __name__ == "__main__":
    sys.exit(train(sys.argv[1], Path(sys.argv[2])/"net.safetensors"))
