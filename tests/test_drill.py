"""A share of `make drill`, and the proof that each hunt finds a fault that is planted."""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import simpool.cli
import simpool.core
import simpool.evaluation.knn
import simpool.loop
import simpool.simpool

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/"tools"/"drill"))
import hunt_commands  # noqa: E402
import hunt_files  # noqa: E402
import hunt_images  # noqa: E402
import hunt_knn  # noqa: E402
import hunt_parameters  # noqa: E402
import hunt_poolings  # noqa: E402
import hunt_runs  # noqa: E402
from hunt import Tally  # noqa: E402


def files_of_the_checkout():
    "What git says of the working tree"
    return subprocess.run(["git", "status", "--porcelain", "-uall"], capture_output=True, text=True, cwd=ROOT).stdout


@pytest.mark.slow
def test_a_share_finds_nothing_and_leaves_nothing():
    before = files_of_the_checkout()
    command = [sys.executable, ROOT/"tools"/"drill", "--share", ".05"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith("0 silent wrong results, 0 tracebacks, 0 hangs, 0 lost results\n"), run.stdout
    assert files_of_the_checkout() == before


def gray_images(monkeypatch):
    right = hunt_images.read_image
    monkeypatch.setattr(hunt_images, "read_image", lambda *args, **kwargs: right(*args, **kwargs).convert("L"))


def one_percent_off(monkeypatch):
    right = simpool.simpool.power_mean
    def wrong(v, attn, gamma):
        return right(v, attn, gamma)*(1.01 if v.dtype == torch.float32 else 1)
    monkeypatch.setattr(simpool.simpool, "power_mean", wrong)


def votes_that_overflow(monkeypatch):
    def wrong(similarity, label, n_classes, temperature=.07):
        weight = (similarity/temperature).exp()
        return weight.new_zeros(len(label), n_classes).scatter_add_(1, label, weight)
    monkeypatch.setattr(simpool.evaluation.knn, "vote", wrong)


def no_checksum(monkeypatch):
    monkeypatch.setattr(simpool.core, "tensors_digest", lambda tensors, metadata: "the same")


def no_ranges(monkeypatch):
    monkeypatch.setattr(sys.modules["simpool.pretrain"], "check_settings", lambda config, **ranges: None)


def random_state_lost(monkeypatch):
    monkeypatch.setattr(simpool.loop, "set_rng_state", lambda state: torch.manual_seed(0))


def error_in_a_command(monkeypatch):
    monkeypatch.setattr(simpool.cli, "open_network", lambda *args, **kwargs: {}["missing"])


SILENT, RAISED = "silent wrong result", "traceback"
PLANTED = { # fault -> hunt, share, kind of what is found
    gray_images: (hunt_images, .002, SILENT), one_percent_off: (hunt_poolings, .01, SILENT),
    votes_that_overflow: (hunt_knn, .01, SILENT), no_checksum: (hunt_files, .1, SILENT),
    no_ranges: (hunt_parameters, .02, SILENT), random_state_lost: (hunt_runs, .2, SILENT),
    error_in_a_command: (hunt_commands, .01, RAISED)}


def kinds_found(plant, folder):
    "Plant a fault, hunt, and list the kinds of what is found"
    tally, (hunt, share, _) = Tally("test"), PLANTED[plant]
    with pytest.MonkeyPatch.context() as monkeypatch:
        plant(monkeypatch)
        hunt.hunt(tally, np.random.default_rng(0), share, folder)
    return sorted({kind for kind, *_ in tally.found})


@pytest.mark.parametrize("plant", [
    pytest.param(plant, id=plant.__name__, marks=[pytest.mark.slow]*(plant is random_state_lost)) for plant in PLANTED])
def test_a_planted_fault_is_found(plant, tmp_path):
    command = [sys.executable, __file__, plant.__name__, tmp_path] # processes that fork must not have run threads
    env = dict(os.environ, OMP_NUM_THREADS="1", TQDM_DISABLE="1")
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    assert PLANTED[plant][2] in run.stdout, run.stdout + run.stderr


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(kinds_found(globals()[sys.argv[1]], Path(sys.argv[2])))
