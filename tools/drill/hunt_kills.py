"""Trainings that are killed (kill -9) in a step, between steps and inside of writes, with and without loader processes.

Of DINO, BAM and supervised training, one undisturbed run is made. Then each case is killed at a place that is drawn at
random, some of them once more when they resume, and then run to the end: the weights must be the same bytes, and the
CSV log the same but for its seconds.
"""
import csv
import itertools
import signal
from functools import partial

from children import fork, wait
from train import METHODS, PLACES, train

SECONDS = 120 # that a training of two seconds may take
OFTEN = dict(step=6, update=6, write=6, rename=10, sync=6) # how often an undisturbed run comes to a place, at least
PROCESSES = 1, 2 # numbers of processes that train together
WORKERS = 0, 2


def run(method, out, **options):
    "Train in a child; its exit code"
    return wait(fork(partial(train, method, out, **options), out.parent.parent/f"{out.parent.name}.log"), SECONDS)


def result(out):
    "Bytes of the weights, and the rows of the log without their seconds"
    log, rows = out.with_suffix(".csv"), []
    if log.exists():
        rows = [row | dict(seconds="") for row in csv.DictReader(log.open())]
    return out.read_bytes(), rows


def compare(tally, name, out, code, whole):
    "Note what is wrong with a result"
    if code or not out.exists():
        words = (out.parent.parent/f"{out.parent.name}.log").read_text(errors="replace")
        tally.note("hang" if code is None else "lost result", name, f"exit code {code}: {words[-300:]}")
        return
    weights, rows = result(out)
    if weights != whole[0]:
        tally.note("silent wrong result", name, "other weights than the undisturbed run")
    if rows != whole[1]:
        tally.note("silent wrong result", name, "another log than the undisturbed run")


def hunt(tally, rng, share, folder):
    whole, killed = {}, 0
    for method, processes in itertools.product(METHODS, PROCESSES):
        out = folder/f"{method}-{processes}"/"net.safetensors"
        code = run(method, out, processes=processes)
        if code or not out.exists():
            tally.note("lost result", f"{method}, undisturbed", (folder/f"{out.parent.name}.log").read_text()[-300:])
            return
        whole[method, processes] = result(out)
    cases = list(itertools.product(METHODS, PROCESSES, WORKERS, PLACES))
    cases = [case for i in range(max(1, round(2*share))) for case in cases]
    for i in rng.permutation(len(cases))[:max(3, round(60*share))]:
        method, processes, workers, place = cases[i]
        tally.cases += 1
        out = folder/f"case-{i}"/"net.safetensors"
        for again in range(1 + int(rng.integers(2))): # perhaps once more when it resumes
            n = int(rng.integers(1, OFTEN[place] + 1)) if not again else 1
            name = f"{method}, {processes} process(es), {workers} workers, killed at {place} {n}"
            code = run(method, out, num_workers=workers, kill=f"{place}:{n}", processes=processes)
            killed += code == -signal.SIGKILL or processes > 1 and code not in (0, None) # torchrun gives 1
            if code is None:
                tally.note("hang", name, f"longer than {SECONDS} s")
            elif not again and (code == 0 or processes == 1 and code != -signal.SIGKILL):
                tally.note("lost result", name, f"not killed: exit code {code}")
        compare(tally, name, out, run(method, out, num_workers=workers, processes=processes), whole[method, processes])
    tally.words = f"{killed} kills"
