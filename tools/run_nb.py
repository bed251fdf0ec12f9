"""Run an experiment notebook with parameters from params.yaml, as the stages of dvc.yaml do.

    python tools/run_nb.py nbs/experiments/20_supervised.ipynb OUT.ipynb -s mini.supervised.common -s mini.supervised.vit -p pool=simpool

Four things papermill alone does not do. A parameter the notebook does not have is an error before the kernel starts.
The executed notebook holds no times and no progress bars, so the same run gives the same bytes. Under DVC a stage
whose code, parameters and inputs mean the same as in its last run keeps that run's outputs: comments, docstrings,
prose and cell outputs do not count, so editing them never trains again (SIMPOOL_RERUN=1 runs it all the same).
And with `--each pool=baseline,simpool` and {pool} in OUT a notebook is run once for each value: side by side with its
share of the cores each, since two small networks train faster so than one after the other; on a GPU one by one.
"""
import argparse
import ast
import difflib
import hashlib
import json
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[1]


def fail(message):
    sys.exit(f"run_nb: {message}")


def did_you_mean(name, known):
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f": choose one of {', '.join(sorted(known))}"


def section(params, dotted):
    "The mapping at `a.b.c` of params.yaml"
    for i, name in enumerate(dotted.split(".")):
        if not isinstance(params, dict) or name not in params:
            what = "scale" if i == 0 else "section"
            fail(f"params.yaml has no {what} {'.'.join(dotted.split('.')[:i+1])!r}" + did_you_mean(name, [k for k, v in params.items() if isinstance(v, dict)]))
        params = params[name]
    return params or {}


def code_cells(nb):
    return [c for c in nb.cells if c.cell_type == "code"]


def declared(nb, path):
    "Names and defaults of the one cell tagged `parameters`"
    tagged = [c for c in code_cells(nb) if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1: fail(f"{path} must have exactly one cell tagged 'parameters', it has {len(tagged)}")
    return {t.id: ast.literal_eval(node.value) for node in ast.parse(tagged[0].source).body if isinstance(node, ast.Assign) for t in node.targets}


def typed(what, value, default):
    "A number where the notebook declares one; YAML reads 1e-3 as a string"
    if isinstance(default, bool) or not isinstance(default, (int, float)) or isinstance(value, (int, float)): return value
    try: return float(value)
    except (TypeError, ValueError): fail(f"{what} must be a number like {default}, got {value!r}")


def read_parameters(args, names):
    "Sections of params.yaml, then -p, each name known to the notebook"
    params, given = yaml.safe_load((ROOT/"params.yaml").read_text()), {}
    for dotted in args.section:
        for name, value in section(params, dotted).items():
            if name not in names: fail(f"params.yaml: {dotted} has an unknown parameter {name!r}" + did_you_mean(name, names))
            given[name] = typed(f"params.yaml: {dotted}.{name}", value, names[name])
    for item in args.parameter: given |= one_parameter("-p", item, args.notebook, names)
    return given


def one_parameter(flag, item, notebook, names):
    "NAME=VALUE of the command line"
    name, _, value = item.partition("=")
    if name not in names: fail(f"{flag} {item}: {notebook} has no parameter {name!r}" + did_you_mean(name, names))
    return {name: typed(f"{flag} {name}", yaml.safe_load(value), names[name])}


def read_runs(args, names):
    "(executed notebook, parameters) of each run"
    given = read_parameters(args, names)
    if not args.each: return [(args.out, given)]
    name, _, values = args.each.partition("=")
    if f"{{{name}}}" not in str(args.out): fail(f"--each {args.each}: {args.out} must say {{{name}}} where the value goes")
    return [(Path(str(args.out).replace(f"{{{name}}}", v)), given | one_parameter("--each", f"{name}={v}", args.notebook, names)) for v in values.split(",")]


def meaning(source):
    "Code without comments and docstrings"
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.body and isinstance(node.body[0], ast.Expr) and isinstance(getattr(node.body[0], "value", None), ast.Constant): node.body[0] = ast.Pass()
    return ast.dump(tree)


def module_file(name):
    "The file of a module or package of this repository; None where there is none"
    path = ROOT.joinpath(*name.split("."))
    return next((f for f in (path/"__init__.py", path.with_suffix(".py")) if f.exists()), None)


def imports(source, package):
    "(module, names taken from it) of each import statement; a relative one starts at `package`"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((a.name, []) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            start = parts[:len(parts) + 1 - node.level] if node.level else []
            yield ".".join([*start, *filter(None, [node.module])]), [a.name for a in node.names]


def counted(name, taken):
    """The modules that one import statement stands for.

    Submodules that are named stand for themselves. Any other name of a package may come from any of its modules,
    perhaps only on first use, so then the whole package counts.
    """
    path = module_file(name)
    if path is None: return []
    parts = name.split(".")
    parents = [".".join(parts[:i]) for i in range(2, len(parts))]
    if path.name != "__init__.py": return [*parents, name]
    named = [f"{name}.{n}" for n in taken]
    if named and all(map(module_file, named)): return [*parents, *[name]*(name != "simpool"), *named]
    below = [p.relative_to(ROOT).with_suffix("").parts for p in sorted(path.parent.rglob("*.py"))]
    return [*parents, *(".".join(p[:-1] if p[-1] == "__init__" else p) for p in below)]


def always_imported():
    "Import statements that run whichever module of simpool is asked for: those that `simpool/__init__` makes outright"
    body = ast.parse(module_file("simpool").read_text()).body
    return "\n".join(ast.unparse(node) for node in body if isinstance(node, (ast.Import, ast.ImportFrom)))


def modules(source, package=""):
    "Modules of simpool that a source imports, and those that they import: name -> source"
    seen, waiting = {}, [(source, package)]
    while waiting:
        for name, taken in imports(*waiting.pop()):
            if name.split(".")[0] != "simpool": continue
            if not seen: waiting.append((always_imported(), "simpool"))
            for part in counted(name, taken):
                if part in seen: continue
                path = module_file(part)
                seen[part] = path.read_text()
                waiting.append((seen[part], part if path.name == "__init__.py" else part.rpartition(".")[0]))
    return seen


def file_digest(path):
    path = Path(path)
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    h = hashlib.sha256()
    for f in files: h.update(f.name.encode() + f.read_bytes())
    return h.hexdigest()


def has_card():
    "Whether there is a GPU, without the seconds that importing torch takes"
    return shutil.which("nvidia-smi") is not None


def used_modules(code):
    "What a notebook computes with; the kernels of a card are named by no notebook"
    return modules(code + ("\nimport simpool.kernels" if has_card() else ""))


def run_key(nb, runs, inputs):
    "Digest of all that gives the runs their result"
    code = "\n".join(c.source for c in code_cells(nb))
    parts = [meaning(code), json.dumps([given for _, given in runs], sort_keys=True), {k: meaning(v) for k, v in sorted(used_modules(code).items())}, {p: file_digest(p) for p in sorted(inputs)}]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def dvc_stage():
    "Inputs and outputs of the stage that DVC is running, where it does"
    name = os.environ.get("DVC_STAGE")
    if not name: return None
    from dvc.repo import Repo
    stage = Repo(str(ROOT)).stage.load_one(name=name)
    inputs = [d.def_path for d in stage.deps if d.protocol == "local" and not d.def_path.startswith(("nbs/", "simpool", "tools/", "params.yaml"))]
    return sorted(set(inputs)), [o.def_path for o in stage.outs]


def kept(outs, key, outputs):
    "Whether the outputs are those of runs with this key, byte for byte"
    if not all(Path(o).exists() for o in (*outs, *outputs)): return False
    now = digests(outs, outputs)
    return all(nbformat.read(o, 4).metadata.get("simpool", {}) == dict(key=key, outputs=now) for o in outs)


def digests(outs, outputs):
    "Of all outputs but the executed notebooks, which hold them"
    notebooks = {o.resolve() for o in outs}
    return {o: file_digest(o) for o in outputs if Path(o).resolve() not in notebooks}


def tidy(nb):
    "Drop what differs from run to run: times, ids papermill makes, progress bars"
    nb.metadata.pop("papermill", None)
    nb.metadata.get("language_info", {}).pop("version", None)
    for i, cell in enumerate(nb.cells):
        for k in ("papermill", "execution"): cell.metadata.pop(k, None)
        if "injected-parameters" in cell.metadata.get("tags", []): cell.id = "injected"
        if cell.cell_type == "code": cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    return nb


def execute(notebook, out, given, position=0, threads=0):
    "Run the notebook; where it stops, what it had done is kept under another name"
    os.environ["TQDM_POSITION"] = str(position) # bars side by side have a line each
    if threads: os.environ["OMP_NUM_THREADS"] = str(threads)
    import papermill
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(str(notebook), str(out), given, kernel_name="python3", progress_bar=False,
                                   stdout_file=sys.stdout, stderr_file=sys.stderr, cwd=str(ROOT),
                                   shutdown_kernel="immediate") # all is written by then, and an orderly farewell takes two seconds
    except papermill.PapermillExecutionError as e:
        failed = out.with_suffix(".failed.ipynb")
        out.replace(failed)
        fail(f"{notebook} stopped with {e.ename}: {e.evalue} (everything up to there is in {failed})")


def execute_all(notebook, runs):
    "Side by side with a share of the cores each; on a GPU one by one"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jobs = 1 if has_card() else min(len(runs), cores)
    if jobs == 1:
        for out, given in runs: execute(notebook, out, given)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        waiting = [pool.submit(execute, notebook, out, given, i, cores//jobs) for i, (out, given) in enumerate(runs)]
        for w in waiting: w.result()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("notebook", type=Path, help="notebook with one cell tagged 'parameters'")
    ap.add_argument("out", type=Path, help="where the executed notebook goes")
    ap.add_argument("-s", "--section", action="append", default=[], help="section of params.yaml, e.g. mini.dino; later ones win")
    ap.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="one parameter; wins over sections")
    ap.add_argument("--each", metavar="NAME=A,B", help="run once for each value of this parameter, side by side; OUT says {NAME}")
    args = ap.parse_args()
    if not args.notebook.exists(): fail(f"no notebook at {args.notebook}")
    nb = nbformat.read(args.notebook, 4)
    runs = read_runs(args, declared(nb, args.notebook))
    outs = [out for out, _ in runs]
    stage, key = dvc_stage(), None
    if stage:
        inputs, outputs = stage
        key = run_key(nb, runs, inputs)
        if not os.environ.get("SIMPOOL_RERUN") and kept(outs, key, outputs):
            print("same code, parameters and inputs as in the last run: its outputs are kept", flush=True)
            return
        os.environ["SIMPOOL_RUN_KEY"] = key # an interrupted training is taken up only by the same run
    execute_all(args.notebook, runs)
    for out in outs:
        done = tidy(nbformat.read(out, 4))
        if key: done.metadata["simpool"] = dict(key=key, outputs=digests(outs, outputs))
        nbformat.write(done, out)


if __name__ == "__main__":
    main()
