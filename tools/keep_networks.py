"""Keep the trained networks of `small` in the repository, in bfloat16: a fresh clone can show what they learned.

    python tools/keep_networks.py

They are written to data/networks, with a digest each that git has (`*.dvc`), and copied to the store (data/store).
`load_checkpoint("dino_pairs-vit-simpool")` opens one.
"""
import subprocess
import sys
from pathlib import Path

import torch

from simpool.checkpoint import load_model, model_config, save_model
from simpool.reproduce.results import read_run

ROOT = Path(__file__).resolve().parents[1]


def main():
    results = ROOT/"results"/"small"
    trained = [f for f in sorted((results/"models").glob("*.safetensors")) if read_run(results, f.stem)["last"]]
    if not trained:
        sys.exit("keep_networks: there are no networks of small: train them with make repro-all SCALE=small")
    kept = [ROOT/"data"/"networks"/file.name for file in trained]
    for file, copy in zip(trained, kept):
        copy.parent.mkdir(exist_ok=True)
        save_model(load_model(file).to(torch.bfloat16), model_config(file), copy)
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "add", "--quiet", *kept], check=True, cwd=ROOT)
    subprocess.run([*dvc, "push", "--quiet", *(f"{copy}.dvc" for copy in kept)], check=True, cwd=ROOT)
    size = sum(copy.stat().st_size for copy in kept)
    print(f"{len(kept)} networks, {size/1e6:.0f} MB, are in data/networks and in data/store")


if __name__ == "__main__":
    main()
