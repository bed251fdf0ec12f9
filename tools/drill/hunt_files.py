"""Damaged files of weights, checkpoints of runs and configurations: refused, or exactly what was written."""
from functools import partial

import torch
from hunt import damage

from simpool.checkpoint import load_checkpoint, load_state, save_model, save_state
from simpool.data.images import open_split, save_pointer
from simpool.model import PooledModel, create_model


def same(some, others):
    "Tell whether two nested values hold the same numbers and words"
    if isinstance(some, torch.Tensor):
        return isinstance(others, torch.Tensor) and some.dtype == others.dtype and torch.equal(some, others)
    if isinstance(some, dict):
        return isinstance(others, dict) and some.keys() == others.keys() and all(same(some[k], others[k]) for k in some)
    if isinstance(some, (list, tuple)):
        return len(some) == len(others) and all(map(same, some, others))
    return some == others


def reload(load, whole):
    "Read a file; says whether other numbers came than were written"
    return None if same(load(), whole) else "other numbers than were written"


def make_files(folder):
    "Write one file of each kind: file to damage -> function that reads what was written"
    torch.manual_seed(0)
    model = create_model("resnet_toy", gamma=1.25, num_classes=3)
    save_model(model, model.config, folder/"weights.safetensors")
    model.save_pretrained(folder/"hub")
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    parts = dict(model=model.state_dict(), optimizer=optimizer.state_dict())
    rng = dict(torch=torch.get_rng_state())
    save_state(dict(parts=parts, epoch=3, log=[dict(epoch=0, loss=1.5)], rng=rng), folder/"run.pt")
    torch.save(model.state_dict(), folder/"other.pth") # as other programs write it
    def read_other():
        return load_checkpoint(folder/"other.pth", backbone="resnet_toy", gamma=1.25)[0].state_dict()
    return {
        "weights.safetensors": lambda: load_checkpoint(folder/"weights.safetensors")[0].state_dict(),
        "hub/model.safetensors": lambda: PooledModel.from_pretrained(folder/"hub").state_dict(),
        "hub/config.json": lambda: PooledModel.from_pretrained(folder/"hub").state_dict(),
        "run.pt": lambda: load_state(folder/"run.pt"),
        "other.pth": read_other}


def hunt(tally, rng, share, folder):
    readers = make_files(folder)
    wholes = {name: read() for name, read in readers.items()}
    for i in range(round(400*share)):
        name = list(readers)[i%len(readers)]
        data = (folder/name).read_bytes()
        damaged, how = damage(data, rng)
        (folder/name).write_bytes(damaged)
        tally.case(f"{name}, {how}, case {i}", partial(reload, readers[name], wholes[name]))
        (folder/name).write_bytes(data)
    for name in ("a", "b"):
        (folder/"images"/"train"/name).mkdir(parents=True)
        (folder/"images"/"train"/name/"x.png").write_bytes(b"")
    pointer = save_pointer(str(folder/"images"), ("train",), folder/"train.json")
    data = pointer.read_bytes()
    for i in range(round(200*share)):
        damaged, how = damage(data, rng)
        pointer.write_bytes(damaged)
        tally.case(f"pointer, {how}, case {i}", lambda: None if len(open_split(folder, "train")) == 2 else "others")
