"""Run an experiment notebook with parameters from params.yaml, as the stages of dvc.yaml do.

    python tools/run_nb.py nbs/experiments/20_supervised.ipynb OUT.ipynb -s mini.supervised.common -s mini.supervised.vit -p pool=simpool

Three things papermill alone does not do. A parameter the notebook does not have is an error before the kernel starts.
The executed notebook holds no times and no progress bars, so the same run gives the same bytes. And under DVC a stage
whose code, parameters and inputs mean the same as in its last run keeps that run's outputs: comments, docstrings,
prose and cell outputs do not count, so editing them never trains again (SIMPOOL_RERUN=1 runs it all the same).
"""
import argparse
import ast
import difflib
import hashlib
import json
import os
import sys
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
    for item in args.parameter:
        name, _, value = item.partition("=")
        if name not in names: fail(f"-p {item}: {args.notebook} has no parameter {name!r}" + did_you_mean(name, names))
        given[name] = typed(f"-p {name}", yaml.safe_load(value), names[name])
    return given


def meaning(source):
    "Code without comments and docstrings"
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.body and isinstance(node.body[0], ast.Expr) and isinstance(getattr(node.body[0], "value", None), ast.Constant): node.body[0] = ast.Pass()
    return ast.dump(tree)


def modules(source, seen):
    "simpool modules that a source imports, with those they import"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom): names = ["simpool." + (node.module or "") if node.level else node.module] # the export makes imports relative
        elif isinstance(node, ast.Import): names = [a.name for a in node.names]
        else: continue
        for name in names:
            if name == "simpool": name = "simpool.__init__"
            path = ROOT/f"{name.replace('.', '/')}.py"
            if name.startswith("simpool.") and name not in seen and path.exists():
                seen[name] = path.read_text()
                modules(seen[name], seen)
    return seen


def file_digest(path):
    path = Path(path)
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    h = hashlib.sha256()
    for f in files: h.update(f.name.encode() + f.read_bytes())
    return h.hexdigest()


def run_key(nb, given, inputs):
    "Digest of all that gives the run its result"
    code = "\n".join(c.source for c in code_cells(nb))
    parts = [meaning(code), json.dumps(given, sort_keys=True), {k: meaning(v) for k, v in sorted(modules(code, {}).items())}, {p: file_digest(p) for p in sorted(inputs)}]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def dvc_stage():
    "Inputs and outputs of the stage that DVC is running, where it does"
    name = os.environ.get("DVC_STAGE")
    if not name: return None
    from dvc.repo import Repo
    stage = Repo(str(ROOT)).stage.load_one(name=name)
    inputs = [d.def_path for d in stage.deps if d.protocol == "local" and not d.def_path.startswith(("nbs/", "simpool", "tools/", "params.yaml"))]
    return sorted(set(inputs)), [o.def_path for o in stage.outs]


def kept(out, key, outputs):
    "Whether the outputs are those of a run with this key, byte for byte"
    if not out.exists() or not all(Path(o).exists() for o in outputs): return False
    seen = nbformat.read(out, 4).metadata.get("simpool", {})
    return seen.get("key") == key and seen.get("outputs") == digests(out, outputs)


def digests(out, outputs):
    return {o: file_digest(o) for o in outputs if Path(o).resolve() != out.resolve()}


def tidy(nb):
    "Drop what differs from run to run: times, ids papermill makes, progress bars"
    nb.metadata.pop("papermill", None)
    nb.metadata.get("language_info", {}).pop("version", None)
    for i, cell in enumerate(nb.cells):
        for k in ("papermill", "execution"): cell.metadata.pop(k, None)
        if "injected-parameters" in cell.metadata.get("tags", []): cell.id = "injected"
        if cell.cell_type == "code": cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    return nb


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("notebook", type=Path, help="notebook with one cell tagged 'parameters'")
    ap.add_argument("out", type=Path, help="where the executed notebook goes")
    ap.add_argument("-s", "--section", action="append", default=[], help="section of params.yaml, e.g. mini.dino; later ones win")
    ap.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="one parameter; wins over sections")
    args = ap.parse_args()
    if not args.notebook.exists(): fail(f"no notebook at {args.notebook}")
    nb = nbformat.read(args.notebook, 4)
    given = read_parameters(args, declared(nb, args.notebook))
    stage, key = dvc_stage(), None
    if stage:
        inputs, outputs = stage
        key = run_key(nb, given, inputs)
        if not os.environ.get("SIMPOOL_RERUN") and kept(args.out, key, outputs):
            print("same code, parameters and inputs as in the last run: its outputs are kept", flush=True)
            return
        os.environ["SIMPOOL_RUN_KEY"] = key # an interrupted training is taken up only by the same run
    import papermill
    args.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(str(args.notebook), str(args.out), given, kernel_name="python3", progress_bar=False,
                                   stdout_file=sys.stdout, stderr_file=sys.stderr, cwd=str(ROOT))
    except papermill.PapermillExecutionError as e:
        failed = args.out.with_suffix(".failed.ipynb")
        args.out.replace(failed)
        fail(f"{args.notebook} stopped with {e.ename}: {e.evalue} (everything up to there is in {failed})")
    done = tidy(nbformat.read(args.out, 4))
    if key: done.metadata["simpool"] = {"key": key, "outputs": digests(args.out, outputs)}
    nbformat.write(done, args.out)


if __name__ == "__main__":
    main()
