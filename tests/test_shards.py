"Shards: other programs read them, and a training from them is the training from the folder, to the byte."
import json
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from simpool.cli import main
from simpool.core import UserError, load_tensors, read_json, write_json
from simpool.data.images import FolderImages, open_split
from simpool.data.shards import ShardImages, manifest_digest, pack
from simpool.loop import DeterministicBatches, fit


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    "A folder of 96 JPEGs in three classes, and its shards"
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(96):
        file = root/"photos"/"train"/f"class-{i % 3}"/f"{i:03d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((40 + i % 7, 40 + i % 5), Image.Resampling.BICUBIC).save(file, quality=90)
    for i in (0, 10, 20, 40, 41, 50): # some of them are the test images
        file = root/"photos"/"val"/f"class-{i % 3}"/f"{i:03d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((root/"photos"/"train"/f"class-{i % 3}"/f"{i:03d}.jpg").read_bytes())
    assert main(["pack", str(root/"photos"), str(root/"shards"), "--shard-mb", ".03", "--verify"]) == 0
    return root


@pytest.fixture
def server(photos):
    "A server of these shards that fails one request in twenty"
    class Flaky(BaseHTTPRequestHandler):
        protocol_version, wbufsize = "HTTP/1.1", -1
        lock, draws, failed, asked = threading.Lock(), np.random.default_rng(0), [], []

        def log_message(self, *args):
            pass

        def do_GET(self):
            path, wanted = photos/"shards"/self.path.lstrip("/"), self.headers.get("Range")
            with self.lock:
                fault = int(self.draws.integers(3)) if self.draws.random() < .05 else None
                (self.asked if fault is None else self.failed).append((self.path, wanted))
            if fault == 0 or not path.exists():
                return self.send_error(503 if fault == 0 else 404)
            if fault == 1: # hangs up without an answer
                self.close_connection = True
                return
            data = path.read_bytes()
            a, b = map(int, wanted[6:].split("-")) if wanted else (0, len(data) - 1)
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(b + 1 - a))
            self.end_headers()
            self.wfile.write(data[a:b+1] if fault is None else data[a:(a+b)//2]) # or stops in the middle
            self.close_connection = fault == 2

    running = ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", Flaky
    running.shutdown()
    running.server_close()


def test_webdataset_reads_them(photos):
    webdataset = pytest.importorskip("webdataset")
    images = FolderImages(photos/"photos"/"train")
    shards = sorted(map(str, (photos/"shards"/"train").glob("*.tar")))
    assert len(shards) > 2
    read = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert [s["jpg"] for s in read] == [f.read_bytes() for f in images.files]
    assert [int(s["cls"]) for s in read] == images.label.tolist()
    decoded = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("jpg", "cls"))
    assert all(np.array_equal(a, b) and y == label for (a, y), (b, label) in zip(decoded, images, strict=True))


def test_we_read_what_webdataset_writes(photos):
    webdataset = pytest.importorskip("webdataset")
    images, out = FolderImages(photos/"photos"/"train"), photos/"theirs"/"train"
    out.mkdir(parents=True)
    with webdataset.ShardWriter(str(out/"%03d.tar"), maxcount=40, verbose=0) as writer:
        for i, file in enumerate(images.files):
            writer.write({"__key__": f"{i:06d}", "jpg": file.read_bytes(), "cls": int(images.label[i])})
    read = open_split(photos/"theirs", "train")
    assert read.label.tolist() == images.label.tolist() and read.classes == ("0", "1", "2")
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(read, images, strict=True))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_sample_is_seen_once_per_epoch_though_requests_fail(server, photos, num_workers):
    "Asked of the training loop itself: its steps see every image once, and the failures stay below it"
    address, handler = server
    images, seen = open_split(address, "train"), []
    names = {np.asarray(image).tobytes(): i for i, (image, _) in enumerate(FolderImages(photos/"photos"/"train"))}
    class Task:
        parts = {}
        def step(self, batch, step, epoch):
            seen.extend((epoch, names[pixels]) for pixels in batch)
            return dict(loss=torch.tensor(0.))
    batches = DeterministicBatches(images, lambda im, y, draws: [np.asarray(i).tobytes() for i in im], 16, 0)
    log = fit(Task(), batches, 3, num_workers=num_workers)
    assert sorted(seen) == [(epoch, i) for epoch in range(3) for i in range(96)]
    assert len(handler.failed) > 5 and all("unreadable" not in row for row in log)


TRAINING = ["--backbone", "vit_toy", "--img-size", 32, "--global-size", 32, "--local-size", 16, "--n-local", 2,
            "--out-dim", 64, "--batch-size", 32, "--epochs", 2, "--device", "cpu"]


def test_training_from_shards_is_training_from_the_folder(server, photos, tmp_path, capsys):
    "Weights, with and without worker processes, from a disk and over a network that fails; then k-NN"
    found, accuracy = {}, []
    for name, data, workers in (("folder", photos/"photos", 0), ("shards", photos/"shards", 2), ("http", server[0], 0),
                                ("http-2", server[0], 2)):
        out = tmp_path/f"{name}.safetensors"
        command = ["pretrain", "dino", "--data", data, "--out", out, "--num-workers", workers, *TRAINING]
        assert main([str(word) for word in command]) == 0
        found[name] = load_tensors(out)[0]
    weights = found.pop("folder")
    assert len(found) == 3
    for name, others in found.items():
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[k], others[k]) for k in weights), name
    assert server[1].failed
    for data in (photos/"photos", photos/"shards", server[0]):
        capsys.readouterr()
        command = ["knn", tmp_path/"folder.safetensors", "--data", data, "--size", 32, "--k", 3]
        assert main([str(word) for word in command]) == 0
        accuracy.append(capsys.readouterr().out)
    assert "top1" in accuracy[0] and accuracy == accuracy[:1]*3


def test_damaged_images_are_replaced_alike(photos, tmp_path, capsys):
    "Two files that cannot be read: the same others stand in for them in a folder and in shards, with any workers"
    shutil.copytree(photos/"photos"/"train", tmp_path/"photos")
    files = FolderImages(tmp_path/"photos").files
    files[7].write_bytes(b"no picture")
    files[50].write_bytes(files[50].read_bytes()[:300]) # cut off
    pack(tmp_path/"photos", tmp_path/"shards", .03)
    weights = []
    for data, workers in (("photos", 0), ("photos", 2), ("shards", 0), ("shards", 2)):
        out = tmp_path/f"{data}-{workers}.safetensors"
        command = ["pretrain", "dino", "--data", tmp_path/data, "--out", out, "--num-workers", workers, *TRAINING]
        assert main([str(word) for word in command]) == 0
        said = capsys.readouterr().err
        assert said.count("the next image stands in for it") == 2 and "2 image(s) could not be read" in said
        weights.append(load_tensors(out)[0])
        assert json.loads(out.with_suffix(".json").read_text())["log"][-1]["unreadable"] == 2
        listed = next((tmp_path/f"{data}-{workers}.run").glob("unreadable-*.txt")).read_text().splitlines()
        assert [line.split("\t")[0] for line in listed] == ["7", "50"]
        for line, i in zip(listed, (7, 50), strict=True): # each is named as it was before it was packed
            assert "/".join(files[i].parts[-2:]) in line and "0x" not in line
    for others in weights[1:]:
        assert all(torch.equal(weights[0][k], others[k]) for k in others)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_a_shard_that_goes_during_a_training_ends_it(photos, tmp_path, damage, num_workers):
    "One image in 96 would be within the allowance of unreadable ones; no other may stand in for it all the same"
    pack(photos/"photos"/"train", tmp_path, .001)
    images, shard = ShardImages(tmp_path), tmp_path/"shard-000020.tar"
    assert images.manifest["shards"][20]["images"] == 1
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:600])
    class Task:
        parts = {}
        def step(self, batch, step, epoch):
            return dict(loss=torch.tensor(0.))
    batches = DeterministicBatches(images, lambda im, y, draws: [np.asarray(i).tobytes() for i in im], 16, 0)
    with pytest.raises(UserError, match=r"shard-000020.tar (cannot be read|ends before).*: copy it again"):
        fit(Task(), batches, 1, num_workers=num_workers)


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_a_training_does_not_begin_without_all_shards(photos, tmp_path, capsys, damage):
    shutil.copytree(photos/"shards", tmp_path/"shards")
    shard = tmp_path/"shards"/"train"/"shard-000001.tar"
    size = shard.stat().st_size
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-512])
    command = ["pretrain", "dino", "--data", tmp_path/"shards", "--out", tmp_path/"net.safetensors", *TRAINING]
    assert main([str(word) for word in command]) != 0
    words = "is missing" if damage == "missing" else f"has {size - 512:,} bytes instead of {size:,}"
    said = capsys.readouterr().err
    assert f"{shard} {words}: copy it again" in said and "--verify` compares all checksums" in said


def test_files_that_are_no_images_are_named_when_they_are_packed(photos, tmp_path, capsys):
    shutil.copytree(photos/"photos"/"train", tmp_path/"photos")
    assert main(["pack", str(tmp_path/"photos"), str(tmp_path/"whole")]) == 0
    assert "do not open as images" not in capsys.readouterr().err
    files = FolderImages(tmp_path/"photos").files
    for i, data in ((3, b"no picture"), (40, b""), (41, files[41].read_bytes()[:10]), (95, b"<html>")):
        files[i].write_bytes(data)
    assert main(["pack", str(tmp_path/"photos"), str(tmp_path/"shards"), "--verify"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "do not open as images" in line]
    assert len(said) == 1 and said[0].startswith("simpool: 4 of 96 files")
    assert all("/".join(files[i].parts[-2:]) in said[0] for i in (3, 40, 41)) and ", ..." in said[0]
    assert len(ShardImages(tmp_path/"shards")) == 96


def test_shards_of_an_earlier_version_are_read_and_get_their_names(photos, tmp_path):
    "Those have no names. The same call adds them, and writes no shard again"
    shutil.copytree(photos/"shards"/"train", tmp_path/"shards")
    new = (tmp_path/"shards"/"manifest.json").read_bytes()
    (tmp_path/"shards"/"image-names.txt").unlink()
    old = {name: value for name, value in read_json(tmp_path/"shards"/"manifest.json").items() if name != "names"}
    write_json(old | dict(digest=manifest_digest(old)), tmp_path/"shards"/"manifest.json")
    images, folder = ShardImages(tmp_path/"shards"), FolderImages(photos/"photos"/"train")
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(images, folder, strict=True))
    assert images.describe(40).endswith(", image 40")
    times = {file.name: file.stat().st_mtime_ns for file in (tmp_path/"shards").glob("*.tar")}
    pack(photos/"photos"/"train", tmp_path/"shards", .03)
    assert (tmp_path/"shards"/"manifest.json").read_bytes() == new
    assert times == {file.name: file.stat().st_mtime_ns for file in (tmp_path/"shards").glob("*.tar")}
    name = "/".join(folder.files[40].parts[-2:])
    assert ShardImages(tmp_path/"shards").describe(40).endswith(f", image 40 ({name})")


def test_a_killed_packing_goes_on(photos, tmp_path):
    "Killed in the middle of a shard, it ends with the same files, and leaves nothing else behind"
    words = """
import os, signal, sys
import simpool.data.shards as shards
write, member, n = shards.write_shard, shards.add_member, 0
def add(*args):
    global n
    n += 1
    if n == 60:
        os.kill(os.getpid(), signal.SIGKILL)
    member(*args)
shards.add_member = add
shards.pack(sys.argv[1], sys.argv[2], .03)
"""
    command = [sys.executable, "-c", words, photos/"photos"/"train", tmp_path/"out"]
    assert subprocess.run(command, capture_output=True).returncode == -9
    finished = len(list((tmp_path/"out").glob("*.tar")))
    assert 0 < finished < len(list((photos/"shards"/"train").glob("*.tar")))
    pack(photos/"photos"/"train", tmp_path/"out", .03)
    names = {file.name for file in (photos/"shards"/"train").iterdir()}
    assert names == {file.name for file in (tmp_path/"out").iterdir()}
    for file in (photos/"shards"/"train").iterdir():
        assert file.read_bytes() == (tmp_path/"out"/file.name).read_bytes(), file.name
