"""Write digests of the code behind each experiment: `.code/<experiment>.txt`, for all of nbs/experiments.

    python tools/code_digest.py mini

The stages of dvc.yaml depend on these files. What counts:

- the notebook's code cells and the modules of simpool that it imports, without comments, docstrings and prose;
- requirements.lock, since another torch may give another result;
- the version of the pack of cut-outs, where scenes are read or made;
- the fused form of the layer, which the package loads after the layer and which no module names; on a machine with a
  GPU its kernels too;
- for a table that a scale does not train (`epochs: 0`), the result of the larger scale that it shows instead.
"""
import argparse
import ast
import hashlib
import json
import shutil
from functools import cache
from pathlib import Path

from stages import load_yaml

ROOT = Path(__file__).resolve().parents[1]


def digest(data):
    "Short digest of text or bytes"
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:32]


@cache
def meaning(source):
    "The code without comments, docstrings and layout"
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body[0] = ast.Pass()
    return ast.unparse(tree)


def module_file(name):
    "The file of a module or package of this repository; None where there is none"
    path = ROOT.joinpath(*name.split("."))
    return next((f for f in (path/"__init__.py", path.with_suffix(".py")) if f.exists()), None)


@cache
def imports(source, package):
    "(module, names taken from it) of each import statement; a relative one starts at `package`"
    found, parts = [], package.split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(a.name, []) for a in node.names]
        if isinstance(node, ast.ImportFrom):
            start = parts[:len(parts) + 1 - node.level] if node.level else []
            found.append((".".join([*start, *filter(None, [node.module])]), [a.name for a in node.names]))
    return found


def counted(name, taken):
    """The modules that one import statement stands for.

    Submodules that are named stand for themselves. Any other name of a package may come from any of its modules,
    perhaps only on first use, so then the whole package counts.
    """
    path = module_file(name)
    if path is None:
        return []
    parts = name.split(".")
    parents = [".".join(parts[:i]) for i in range(2, len(parts))]
    if path.name != "__init__.py":
        return [*parents, name]
    named = [f"{name}.{n}" for n in taken]
    if named and all(map(module_file, named)):
        return [*parents, *[name]*(name != "simpool"), *named]
    files = [f for f in sorted(path.parent.rglob("*.py")) if f.name != "_modidx.py"] # nbdev's index is no code
    below = [f.relative_to(ROOT).with_suffix("").parts for f in files]
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
            if name.split(".")[0] != "simpool":
                continue
            if not seen:
                waiting.append((always_imported(), "simpool"))
            for part in counted(name, taken):
                if part in seen:
                    continue
                path = module_file(part)
                seen[part] = path.read_text()
                if part == "simpool.simpool":
                    waiting.append(("import simpool.fused", ""))
                waiting.append((seen[part], part if path.name == "__init__.py" else part.rpartition(".")[0]))
    return seen


def has_gpu():
    "Whether there is a GPU, without the seconds that importing torch takes"
    return shutil.which("nvidia-smi") is not None


def code_of(path):
    "Code cells of a notebook as one source"
    cells = json.loads(path.read_text())["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def shown(name, scale):
    "Digest of the result that a table shows which this scale does not train (epochs: 0): {folder: digest}"
    params = load_yaml(ROOT/"params.yaml")
    if ((params.get(scale) or {}).get(name) or {}).get("epochs") != 0:
        return {}
    scales = [k for k, v in params.items() if isinstance(v, dict) and k != "rehearsal"] # whose numbers mean nothing
    for other in reversed(scales): # from large to small, as `last_result` looks
        folder = ROOT/"results"/other/name
        if not (folder/"facts.json").exists():
            continue
        if json.loads((folder/"facts.json").read_text()).get("scale") != other: # it shows another one itself
            continue
        files = [f for f in sorted(folder.iterdir()) if f.suffix in (".csv", ".json", ".png")]
        return {f"results/{other}/{name}": digest(b"".join(f.read_bytes() for f in files))}
    return {}


def digests(notebook, scale):
    "What gives an experiment its results, besides parameters and data: lines of a name and its digest"
    code = code_of(notebook)
    used = modules(code + ("\nimport simpool.kernels" if has_gpu() else ""))
    found = {"notebook": digest(meaning(code))} | {name: digest(meaning(used[name])) for name in sorted(used)}
    files = ["requirements.lock", *["data/stamps/stamps.npz.dvc"]*("simpool.data.scenes" in used)]
    found |= {name: digest((ROOT/name).read_bytes()) for name in files}
    return "".join(f"{d}  {name}\n" for name, d in (found | shown(notebook.stem, scale)).items())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scale", help="a scale of params.yaml")
    scale = parser.parse_args().scale
    (ROOT/".code").mkdir(exist_ok=True)
    for notebook in sorted((ROOT/"nbs"/"experiments").glob("*.ipynb")):
        (ROOT/".code"/f"{notebook.stem}.txt").write_text(digests(notebook, scale))


if __name__ == "__main__":
    main()
