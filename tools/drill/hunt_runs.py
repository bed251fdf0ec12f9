"""Trainings that are killed, interrupted, started twice, out of disk or time: each ends as if nothing had happened.

Every run is made twice undisturbed first, and must give the same bytes. Then, of DINO, BAM and supervised training:
kills at random moments until the run is through, Ctrl-C and SIGTERM, two runs with one output, files that cannot grow
(as on a full disk), clocks that jump.
"""
import random
import resource
import signal
import time
from functools import partial
from pathlib import Path

from children import fork, kill, wait
from train import METHODS, train

SECONDS = 60 # that a training of two seconds may take


def start(method, out, before=None):
    "Start a training in a child, after a preparation"
    def run():
        if before:
            before()
        return train(method, out)
    return fork(run, out.parent.parent/f"{out.parent.name}.log")


def complaints(out):
    "What the last run into `out` printed, if it has a traceback"
    words = (out.parent.parent/f"{out.parent.name}.log").read_text(errors="replace")
    return words[-300:] if "Traceback" in words else ""


def undisturbed(tally, method, folder):
    "Bytes of an undisturbed run, made twice, and its seconds"
    made, started = [], time.monotonic()
    for i in (1, 2):
        tally.cases += 1
        out = folder/f"{method}-{i}"/"net.safetensors"
        code = wait(start(method, out), SECONDS)
        if code or not out.exists():
            tally.note("lost result", f"{method}, undisturbed", f"exit code {code}: {complaints(out)}")
            return None, 1.
        made.append(out.read_bytes())
    if made[0] != made[1]:
        tally.note("silent wrong result", f"{method}, made twice", "two runs gave other bytes")
    return made[0], (time.monotonic() - started)/2


def finish(tally, name, method, out, whole):
    "Run to the end what was disturbed, and compare"
    code = wait(start(method, out), SECONDS)
    if code is None:
        tally.note("hang", name, f"longer than {SECONDS} s")
    elif code or not out.exists():
        words = (out.parent.parent/f"{out.parent.name}.log").read_text(errors="replace")
        tally.note("lost result", name, f"exit code {code}: {words[-300:]}")
    elif out.read_bytes() != whole:
        tally.note("silent wrong result", name, "other bytes than the undisturbed run")


def disturb(tally, rng, name, method, out, whole, seconds, number):
    "Send a signal at a random moment, then run to the end"
    tally.cases += 1
    pid = start(method, out)
    time.sleep(rng.uniform(0, 1.1*seconds))
    kill(pid, number)
    if wait(pid, SECONDS) is None:
        tally.note("hang", name, "does not end")
    if number == signal.SIGINT and complaints(out) and method != "supervised": # in Python, Ctrl-C is an exception
        tally.note("traceback", name, complaints(out))
    finish(tally, name, method, out, whole)


def two_at_once(tally, name, method, out, whole):
    "Two runs with one output: one is refused or finds it finished, and the result is right"
    tally.cases += 1
    pids = [start(method, out) for _ in range(2)]
    codes = [wait(pid, SECONDS) for pid in pids]
    if None in codes:
        tally.note("hang", name, "does not end")
    if 0 not in codes or not set(codes) <= {0, 2}:
        tally.note("traceback", name, f"exit codes {codes}: {complaints(out)}")
    finish(tally, name, method, out, whole)


def full_disk(rng):
    "Let no file grow beyond a size, as on a disk that is nearly full"
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = int(10**rng.uniform(2, 7))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def jumping_clock(rng):
    "Let the time of day jump by years, between any two looks at it"
    usual, jump = time.time, random.Random(int(rng.integers(2**31)))
    time.time = lambda: max(0., usual() + jump.uniform(-1e9, 1e9))


def prepared(tally, name, method, out, whole, before):
    "Run under a bad condition: the result is right, or refused and made afterwards"
    tally.cases += 1
    code = wait(start(method, out, before), SECONDS)
    if code is None:
        tally.note("hang", name, "does not end")
    if complaints(out) and not (method == "supervised" and before.func is full_disk): # in Python, an error is one
        tally.note("traceback", name, complaints(out))
    if code == 0 and out.read_bytes() != whole:
        tally.note("silent wrong result", name, "other bytes than the undisturbed run")
    finish(tally, name, method, out, whole)


def hunt(tally, rng, share, folder):
    for method in METHODS:
        whole, seconds = undisturbed(tally, method, folder)
        if whole is None:
            continue
        def out_of(kind, i, method=method):
            return Path(folder)/f"{method}-{kind}-{i}"/"net.safetensors"
        for i in range(round(36*share) or 1):
            number = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[i%4]
            name = f"{method}, {number.name}, case {i}"
            disturb(tally, rng, name, method, out_of("signal", i), whole, seconds, number)
        for i in range(round(6*share) or 1):
            for before in (full_disk, jumping_clock):
                out = out_of(before.__name__, i)
                prepared(tally, f"{out.parent.name}", method, out, whole, partial(before, rng))
            if method != "supervised": # a folder of checkpoints is given by the caller there, who keeps others away
                two_at_once(tally, f"{method}, twice at once, case {i}", method, out_of("twice", i), whole)
