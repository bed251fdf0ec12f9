"""Run the notebook of a stage with its parameters, as the stages of dvc.yaml do.

    python tools/run_nb.py dino-vit mini --each pool=baseline,simpool

tools/stages.py says which notebook and which parameters belong to a stage. The executed notebook goes to
results/<scale>/notebooks. It holds no times and no progress bars, so the same run gives the same bytes.
With `--each pool=baseline,simpool` a notebook is run once for each value: on a CPU side by side, each with its share of
the cores, since two small networks train faster so than one after the other; on a GPU one after the other.
"""
import argparse
import hashlib
import json
import os
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Thread

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parent))
from code_digest import digests, has_gpu  # noqa: E402
from stages import ROOT, fail, one_parameter, open_stage, read_parameters  # noqa: E402


def plan_runs(args):
    "The stage, and (executed notebook, parameters) of each run"
    stage, names = open_stage(args.stage, args.scale)
    given = read_parameters(stage, args.scale, names, args.parameter)
    folder = Path(given.get("results", f"results/{args.scale}"), "notebooks")
    if not args.each:
        return stage, [(folder/f"{stage.name}.ipynb", given)]
    name, _, values = args.each.partition("=")
    if not values:
        fail(f"--each {args.each}: give it as NAME=A,B")
    each = {v: given | one_parameter("--each", f"{name}={v}", stage.notebook, names) for v in values.split(",")}
    return stage, [(folder/f"{stage.name}-{v}.ipynb", parameters) for v, parameters in each.items()]


def same_code(stage, scale):
    "Digests of the code as it is; stop if it was edited since the stage `code` wrote them down"
    now = digests(ROOT/stage.notebook, scale)
    written = ROOT/".code"/f"{stage.notebook.stem}.txt"
    if "DVC_STAGE" in os.environ and written.exists() and written.read_text() != now:
        fail(f"the code of {stage.name} was edited while the pipeline ran: start `dvc repro` again")
    return now


def run_key(code, runs):
    "Digest of code, parameters and data: only a run with the same one resumes an interrupted training"
    key = hashlib.sha256(json.dumps([code, [given for _, given in runs]], sort_keys=True).encode())
    data = ROOT/runs[0][1].get("data", "data/sets/none")
    for file in sorted(f for f in data.glob("*") if f.is_file()):
        key.update(file.name.encode())
        with file.open("rb") as opened:
            key.update(hashlib.file_digest(opened, "sha256").digest())
    return key.hexdigest()


def tidy(notebook):
    "Drop what differs from run to run: times, the ids that papermill makes, progress bars"
    notebook.metadata.pop("papermill", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        for k in ("papermill", "execution"):
            cell.metadata.pop(k, None)
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected"
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    return notebook


def when_parent_ends(do):
    "Call a function when the process ends that started this one"
    parent = os.getppid()
    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        do()
    Thread(target=watch, daemon=True).start()


INTERRUPTED = [] # when this process was


def pass_on(number, frame):
    "Pass Ctrl-C or SIGTERM on to processes and kernels: a training ends with a checkpoint. The second time end at once"
    import psutil
    first, now = not INTERRUPTED, time.monotonic()
    INTERRUPTED.append(now)
    children = psutil.Process().children()
    if first or now - INTERRUPTED[0] > .3: # a terminal signals the whole group, so the pool hears of it twice
        for child in children:
            child.send_signal(signal.SIGINT)
        if not (first and children):
            raise KeyboardInterrupt
        if __name__ == "__main__":
            print("run_nb: interrupted; a training ends after its step (once more: at once)", file=sys.stderr)


def hear_signals():
    "Let this process pass signals on"
    if os.name == "posix": # elsewhere a kernel cannot be signaled
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, pass_on)


def begin_process():
    "Prepare a process of the pool"
    hear_signals()
    when_parent_ends(lambda: os._exit(1)) # and with it its kernel


def stop_between_cells(**cell):
    "End before the next cell if an interruption came while a kernel did not listen"
    if INTERRUPTED:
        raise KeyboardInterrupt


def execute(notebook, out, given, position=0, threads=0):
    "Run the notebook; if it stops, what ran so far is written under another name"
    os.environ["TQDM_POSITION"] = str(position) # progress bars side by side have a line each
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    import papermill
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(notebook), str(out), given, kernel_name="python3", progress_bar=False, cwd=str(ROOT),
            stdout_file=sys.stdout, stderr_file=sys.stderr, on_cell_start=stop_between_cells,
            shutdown_kernel="immediate", # all is written by then, and an orderly shutdown takes two seconds
            extra_arguments=["--log-level=ERROR"]) # each kernel would warn of TCP, which does not leave this machine
    except papermill.PapermillExecutionError as e:
        failed = out.with_suffix(".failed.ipynb")
        out.replace(failed)
        fail(f"{notebook} stopped with {e.ename}: {e.evalue or 'no words'} (everything up to there is in {failed})")
    except KeyboardInterrupt:
        fail(f"{notebook} was interrupted")
    except RuntimeError as e: # also of a kernel that was just starting
        fail(f"{notebook} was interrupted ({e})") if INTERRUPTED else fail(f"{notebook} stopped: {e}")
    nbformat.write(tidy(nbformat.read(out, 4)), out)


def execute_all(notebook, runs):
    "Run side by side with a share of the cores each; on a GPU one after the other"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jobs = 1 if has_gpu() else min(len(runs), cores)
    if jobs == 1:
        for out, given in runs:
            execute(notebook, out, given)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), begin_process) as pool:
        waiting = [pool.submit(execute, notebook, out, given, i, cores//jobs) for i, (out, given) in enumerate(runs)]
        for w in waiting:
            w.result()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", help="a stage of dvc.yaml, without its group: knn, dino-vit, table_8")
    parser.add_argument("scale", help="a scale of params.yaml: smoke, mini, small, paper")
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE",
                        help="one parameter; wins over params.yaml")
    parser.add_argument("--each", metavar="NAME=A,B", help="run once for each value of this parameter, side by side")
    args = parser.parse_args()
    os.chdir(ROOT)
    stage, runs = plan_runs(args)
    code = same_code(stage, args.scale)
    os.environ["SIMPOOL_RUN_KEY"] = run_key(code, runs)
    hear_signals()
    if "DVC_STAGE" in os.environ: # a killed dvc: stop as if it had passed the signal on
        when_parent_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
    execute_all(stage.notebook, runs)
    if digests(ROOT/stage.notebook, args.scale) != code: # a kernel imports seconds after this process has looked
        fail(f"the code of {stage.name} was edited while it ran, so its results belong to neither: run it again")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        fail("interrupted")
