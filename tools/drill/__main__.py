"""Hunt for silent faults, tracebacks, hangs and lost results, with random cases from a seed.

    make drill                                    # all of it
    python tools/drill --share .1                 # a tenth of the cases
    python tools/drill --only images knn --seed 7

Each hunt is a file of this folder with a function `hunt(tally, rng, share, folder)`. The last line counts what was
found. The exit code is 1 if anything was.
"""
import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hunt import KINDS, Tally

LONGEST_S = 3600 # that a hunt may take
ROOT = Path(__file__).resolve().parents[2]
HUNTS = ("chaos", "kills", "runs", "commands", "images", "poolings", "knn", "files", "parameters") # the longest first


def one_hunt(name, share, seed):
    "Run a hunt in this process, and print its tally as JSON"
    import numpy as np
    import torch
    torch.set_num_threads(1)
    tally, started = Tally(name), time.monotonic()
    rng = np.random.default_rng([seed, HUNTS.index(name)])
    with tempfile.TemporaryDirectory() as folder:
        importlib.import_module(f"hunt_{name}").hunt(tally, rng, share, Path(folder))
    print(json.dumps(dict(vars(tally), minutes=round((time.monotonic() - started)/60, 1))))


def start(name, share, seed):
    "Run a hunt in a process of its own; says how it went"
    env = dict(os.environ, OMP_NUM_THREADS="1", TQDM_DISABLE="1", MPLBACKEND="agg", HF_HUB_OFFLINE="1")
    command = [sys.executable, Path(__file__).resolve().parent, "--hunt", name, "--share", share, "--seed", seed]
    try: # a hang inside of a library may be out of reach of a case's own limit of time
        run = subprocess.run(list(map(str, command)), env=env, cwd=ROOT, capture_output=True, text=True,
                             errors="replace", timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        run = subprocess.CompletedProcess(command, 1, "", f"longer than {LONGEST_S} s")
    lines = run.stdout.splitlines()
    if run.returncode or not lines:
        words = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
        result = dict(name=name, cases=0, refused=0, found=[("traceback", "the hunt itself", words)], minutes=0.)
    else:
        result = json.loads(lines[-1])
    print(f"{name:10} {result['cases']:6} cases, {result['refused']:5} refused in a sentence, "
          f"{len(result['found'])} found, {result['minutes']} min {result.get('words', '')}",
          file=sys.stderr, flush=True)
    for kind, case, words in result["found"][:20]:
        print(f"    {kind}: {case}: {words}", file=sys.stderr, flush=True)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1., help="share of the cases to try (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cases (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=HUNTS, default=HUNTS, help="hunts to run; if not given, all")
    parser.add_argument("--hunt", choices=HUNTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.hunt:
        one_hunt(args.hunt, args.share, args.seed)
        return
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool: # two hunts at a time, one thread each
        results = list(pool.map(lambda name: start(name, args.share, args.seed), args.only))
    found = [kind for r in results for kind, *_ in r["found"]]
    counts = ", ".join(f"{found.count(kind)} {kind}{'s'*(found.count(kind) != 1)}" for kind in KINDS)
    minutes = (time.monotonic() - started)/60
    print(f"drill: {sum(r['cases'] for r in results)} cases in {minutes:.1f} minutes, seed {args.seed}: {counts}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
