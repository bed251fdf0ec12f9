"""Run the notebooks of nbs/ again and compare every output with the committed one.

    python tools/check.py                     # all notebooks, and which results are fresh (tools/freshness.py)
    python tools/check.py 11_simpool 13       # by name, or by number
    python tools/check.py --slow --json results/check.json
    python tools/check.py --slow --json results/check.json 22 # after an edit: this notebook's part of the file
    python tools/check.py --slow --write 22   # after an edit: its new outputs, where they are different
    python tools/check.py --slow --renew 14   # the same, and its times and memory of today

Each notebook runs in a kernel of its own, in nbs/, as with "Run All" in JupyterLab. The notebook itself is only read,
but for --write and --renew.
An output cell is a code cell with an output, committed or new. It is one of

- identical: the same bytes, or the same pixels;
- close: the same words, with numbers that differ by at most 0.1%, by one in their last decimal or by 1e-5;
  a picture of the same size whose values (0 to 255) differ by at most 1 on average, and by over 8 at no more than
  0.01% of the pixels. Other processors, and other numbers of threads, add up in another order;
- volatile: the cell says `#| volatile`, since it shows times, memory, the machine or the commit. Only the kinds of its
  outputs are compared: text, table, picture;
- different: anything else, and every cell from an error on.

Cells flagged `#| slow` (they take minutes) are left out, as in `make test`, unless `--slow` asks for them.
Progress bars and warnings (stderr) are not compared: notebooks are committed without them.
"""
import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbdev.clean import nbdev_clean
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent))
import freshness  # noqa: E402
from compare_outputs import ABSOLUTE, FAR, LEVELS, RANK, RELATIVE, SHARE, compare_cell, flagged, shown  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 1200 # limit of a cell


@dataclass
class Finding:
    "An output cell"
    notebook: str
    cell: int # position in the notebook, from 0
    result: str # identical, close, volatile, different
    why: str = "" # how far, where it is not identical


def execute(path, slow=True):
    "The notebook, run in a kernel of its own, without the cells flagged slow if asked; the file is only read"
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
            cell.source = cell.source if slow or not flagged(cell, "slow") else ""
    where = dict(metadata=dict(path=str(path.parent)))
    try:
        quiet = ["--log-level=ERROR"] # each kernel would warn of TCP, which does not leave this machine
        NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=where,
                       extra_arguments=quiet).execute()
    except CellExecutionError:
        pass # the cell shows its error
    except (CellTimeoutError, DeadKernelError) as e:
        print(f"{path.name}: {e}", file=sys.stderr)
    return notebook


def keep(path, before, after, cells):
    "Write the new outputs of some cells into a notebook, as JupyterLab saves it here; not of one that ends in an error"
    if any(o.output_type == "error" for cell in after.cells for o in cell.get("outputs", [])):
        return
    for i in cells:
        before.cells[i].outputs = [o for o in after.cells[i].outputs if o.get("name") != "stderr"]
        for output in (o for o in before.cells[i].outputs if "image/png" in o.get("data", {})):
            output["data"].pop("application/vnd.jupyter.widget-view+json", None) # it lives as long as its kernel
    nbformat.write(before, path)
    nbdev_clean(str(path))


def check_notebook(path, slow=True, write=()):
    "A Finding for each output cell, and the seconds that the notebook took"
    started = time.monotonic()
    before, after, findings = nbformat.read(path, 4), execute(path, slow), []
    for i, (old, new) in enumerate(zip(before.cells, after.cells)):
        if old.cell_type != "code" or flagged(old, "slow") and not slow:
            continue
        if shown(old.outputs) or shown(new.outputs):
            compared = compare_cell(old.outputs, new.outputs, flagged(old, "volatile"))
            findings.append(Finding(path.stem, i, *compared))
    if write:
        keep(path, before, after, [f.cell for f in findings if f.result in write])
    return findings, time.monotonic() - started


def named(names):
    "Notebooks by name or by number; all where none is named"
    every = sorted((ROOT/"nbs").glob("[0-9i]*.ipynb"))
    for name in names:
        if not any(name in (p.stem, p.stem.split("_")[0]) for p in every):
            sys.exit(f"check: nbs/ has no notebook {name!r}; name it as its file, or by its number")
    return [p for p in every if not names or p.stem in names or p.stem.split("_")[0] in names]


def check_all(paths, jobs, slow, write=(), each=lambda stem, findings, seconds: None):
    "Findings of all notebooks in their order; calls `each` when one is done"
    findings = {}
    with ProcessPoolExecutor(jobs) as pool, tqdm(total=len(paths), unit="notebook", desc="check") as bar:
        runs = {pool.submit(check_notebook, path, slow, write): path.stem for path in paths}
        for run in as_completed(runs):
            found, took = run.result()
            findings[runs[run]] = found
            each(runs[run], found, round(took, 1))
            bar.update()
            for f in (f for f in found if f.result == "different"):
                tqdm.write(f"{f.notebook}, cell {f.cell}: {f.why}")
    return [f for path in paths for f in findings[path.stem]]


def counts(findings):
    "How many output cells have each result"
    return dict(cells=len(findings)) | {kind: sum(f.result == kind for f in findings) for kind in RANK}


def sentence(n):
    "The number to print, e.g. in README"
    return (f"{n['identical']} of {n['cells']} output cells identical, {n['close']} close, "
            f"{n['volatile']} show times that differ, {n['different']} different")


def tree():
    "What git calls changed or untracked"
    return subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True).stdout


class Record:
    "A file with what was found in each notebook, and when; notebooks that are checked later replace their part of it"
    def __init__(self, path, slow):
        from simpool.core import provenance
        facts = provenance(time.monotonic()) # of now: this file itself will be a change of the tree
        self.path, self.made = path, dict(commit=facts["commit"], machine=facts["machine"], slow=slow)
        found = json.loads(path.read_text())["notebooks"] if path.exists() else {}
        self.notebooks = {p.stem: found[p.stem] for p in named([]) if p.stem in found}

    def add(self, stem, findings, seconds):
        "Write what was found in a notebook"
        rest = [{k: v for k, v in asdict(f).items() if k != "notebook"} for f in findings if f.result != "identical"]
        self.notebooks[stem] = dict(**counts(findings), **self.made, seconds=seconds, not_identical=rest)
        self.write()

    def write(self, results=None):
        "Write the file: the sum, the tolerances, each notebook; after a check of all also the results, which age"
        total = {k: sum(n[k] for n in self.notebooks.values()) for k in ("cells", *RANK)}
        pictures = dict(levels_of_255=LEVELS, far_levels=FAR, far_share=SHARE)
        tolerance = dict(relative=RELATIVE, absolute=ABSOLUTE, last_decimal=1, **pictures)
        found = dict(sentence=sentence(total), **total, tolerance=tolerance)
        found["notebooks"] = dict(sorted(self.notebooks.items()))
        found |= dict(results_sentence=freshness.summary(results), results=results) if results else {}
        self.path.write_text(json.dumps(found, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", help="names or numbers of notebooks; none: all, and the results too")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks that run side by side (default 1)")
    parser.add_argument("--slow", action="store_true", help="also run the cells flagged slow, as JupyterLab does")
    parser.add_argument("--write", action="store_true", help="write new outputs that are different into the notebooks")
    parser.add_argument("--renew", action="store_true", help="write those too that are flagged volatile")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write counts, provenance and all findings to a file")
    args = parser.parse_args()
    paths, before = named(args.notebooks), tree()
    record = Record(args.json, args.slow) if args.json else None
    write = ["different"]*(args.write or args.renew) + ["volatile"]*args.renew
    findings = check_all(paths, max(args.jobs, 1), args.slow, write, *([record.add] if record else []))
    touched = sorted(line for line in set(tree().splitlines()) - set(before.splitlines())
                     if not args.json or (ROOT/line[3:]).resolve() != args.json.resolve())
    results = [] if args.notebooks else freshness.freshness()
    for f in (f for f in findings if f.result == "close"):
        print(f"close: {f.notebook}, cell {f.cell}: {f.why}")
    if results:
        print(freshness.table(results), freshness.summary(results), sep="\n")
    print(sentence(counts(findings)))
    if record and results:
        record.write(results)
    if touched and not write:
        print("the notebooks changed the tree:", *touched, sep="\n")
    sys.exit(not write and (bool(touched) or counts(findings)["different"] > 0))


if __name__ == "__main__":
    main()
