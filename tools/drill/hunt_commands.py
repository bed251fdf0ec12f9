"""Command lines with odd values: each ends in order, with a sentence where it refuses."""
import os
import shutil

import numpy as np
from children import fork, wait
from PIL import Image

from simpool.checkpoint import save_model
from simpool.cli import main
from simpool.model import create_model

NUMBERS = ("0", "-1", "1", "2", "1e-3", "1e400", "nan", "inf", "", "x", "10**9", "99999999999999999999", "0x10", "64")
WORDS = ("", " ", "none", "auto", "cpu", "cuda", "cuda:7", "mps", "meta", "nope", "../..", "\u00e9", "-", "simpool",
         "gap", "vit_toy", "resnet_toy", "vit_tiny_patch16_224", "dino")
SECONDS = 60


def make_files(folder):
    "Images in classes, a flat folder, a trained network, and files that are none of these; their paths"
    rng = np.random.default_rng(0)
    for name in ("data/train/a", "data/train/b", "data/val/a", "data/val/b", "flat"):
        (folder/name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(folder/name/f"{i}.png")
    (folder/"empty").mkdir()
    (folder/"text.png").write_text("no image")
    (folder/"zero.safetensors").write_bytes(b"")
    model = create_model("vit_toy")
    save_model(model, model.config, folder/"net.safetensors")
    names = ("data", "flat", "empty", "text.png", "zero.safetensors", "net.safetensors", "flat/0.png", "none",
             "data/train")
    return [str(folder/name) for name in names]


OPTIONS = dict( # command -> (what makes it right, its options and what kind of value they take)
    knn=(["net.safetensors", "--data", "data", "--size", "32", "--k", "1", "2"],
         dict(size="n", k="n", batch_size="n", num_workers="n", subset="n", device="w", gamma="nw", network="w",
              data="p", json="o", backbone="w", card="w")),
    attend=(["net.safetensors", "flat/0.png"],
            dict(size="n", out="o", device="w", gamma="nw", network="w", backbone="w", revision="w")),
    verify=(["net.safetensors", "--data", "data", "--size", "32"], dict(card="w", size="n", subset="n", data="p")),
    pretrain=(["dino", "--data", "flat", "--out", "out/net.safetensors", "--backbone", "vit_toy", "--img-size", "16",
               "--epochs", "1", "--warmup-epochs", "0", "--batch-size", "2", "--global-size", "16", "--n-local", "0",
               "--out-dim", "16", "--hidden-dim", "8", "--bottleneck-dim", "4"],
              dict(data="p", out="o", backbone="w", pool="w", gamma="nw", img_size="n", num_heads="n", seed="n",
                   drop_path_rate="n", num_workers="n", device="w", resume_from="p", resume_what="w", epochs="n",
                   lr="n", batch_size="n", optimizer="w", clip_grad="n", momentum_teacher="n", precision="w",
                   global_size="n", teacher_temp="n", skip_unreadable="n", compile_mode="w", n_local="n",
                   global_scale="nn")))


def draw(rng, kind, paths):
    "Draw a value of a kind: number, word, path, or file to write"
    kind = kind[rng.integers(len(kind))]
    if kind == "o":
        kept = [p for p in paths if not p.endswith(".png")] # a picture may replace a picture that is no input
        return str(rng.choice([*kept, "/proc/none/x", "", "out/a.json", "out/b.png", "out/c.xyz", "out/d"]))
    return str(rng.choice(dict(n=NUMBERS, w=WORDS, p=[*paths, ""])[kind]))


def command_line(rng, folder, paths):
    "Draw a command with one or two odd values"
    name = str(rng.choice(list(OPTIONS)))
    right, kinds = OPTIONS[name]
    line = [str(folder/a) if (folder/a).exists() or a.startswith("out/") else a for a in right]
    for option in rng.choice(list(kinds), rng.integers(1, 3), replace=False):
        pair = kinds[option] == "nn"
        values = [draw(rng, kinds[option], paths) for _ in range(2 if pair else 1)]
        line += [f"--{option.replace('_', '-')}", *values]
    if rng.random() < .05:
        line = line[:rng.integers(len(line))]
    return [name, *line]


def try_command(tally, line, folder):
    "Run a command in a child, and note how it ended, and whether it damaged what it was given"
    tally.cases += 1
    shutil.rmtree(folder/"out", ignore_errors=True)
    log, name = folder/"log.txt", " ".join(a.replace(f"{folder}/", "") or "''" for a in line)
    given = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p != log}
    def run():
        os.chdir(folder)
        return main(line)
    code = wait(fork(run, log), SECONDS)
    words = log.read_text(errors="replace")
    for path, data in given.items():
        if not path.exists() or path.read_bytes() != data:
            tally.note("lost result", name, f"{path.name} is not what it was")
            path.write_bytes(data)
    for path in set(folder.rglob("*")) - set(given): # what it wrote, for which the next command is not to blame
        if path.is_file() and path != log:
            path.unlink()
    if code is None:
        tally.note("hang", name, f"longer than {SECONDS} s")
    elif "Traceback" in words or code not in (0, 2):
        tally.note("traceback", name, f"exit code {code}: {words[-200:]}")
    elif code == 2:
        tally.refused += 1
        if not words.strip():
            tally.note("silent wrong result", name, "refused without a word")


def hunt(tally, rng, share, folder):
    paths = make_files(folder)
    for name, (right, _) in OPTIONS.items():
        line = [name, *(str(folder/a) if (folder/a).exists() or a.startswith("out/") else a for a in right)]
        before = tally.refused
        try_command(tally, line, folder)
        if tally.refused != before:
            tally.note("silent wrong result", " ".join(line), "was refused")
    for _ in range(round(400*share)):
        try_command(tally, command_line(rng, folder, paths), folder)
