"""What a stage of dvc.yaml runs: its notebook and its parameters.

Everything follows from the stage's entry in dvc.yaml. The notebook is the one whose code the stage depends on
(`.code/knn.txt`: nbs/experiments/knn.ipynb). Its parameters are the sections of params.yaml that `params` lists.
A parameter that a section has and the notebook does not is an error before anything runs.
"""
import ast
import difflib
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[1]


def fail(message):
    "Stop with one sentence instead of a traceback"
    sys.exit(f"{Path(sys.argv[0]).stem}: {message}")


def did_you_mean(name, known):
    "The nearest known name, or all of them, as the end of a sentence"
    near = difflib.get_close_matches(name, known, 1)
    shown = [name if name.isprintable() else repr(name) for name in sorted(known)] # a sentence is one line
    return f"; did you mean {near[0]!r}?" if near else f": choose one of {', '.join(shown)}"


def load_yaml(path):
    "What a YAML file says; by the library in C, if PyYAML has it, ten times as fast"
    return yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def read_params(file="params.yaml"):
    "A file of parameters as it stands"
    return load_yaml(ROOT/file)


def section(params, dotted):
    "The parameters at `mini.dino.vit` of params.yaml; a single value such as `seed` comes under its own name"
    names = dotted.split(".")
    for i, name in enumerate(names):
        if not isinstance(params, dict) or name not in params:
            what = "section" if i else "scale"
            known = [k for k, v in params.items() if i or isinstance(v, dict)] if isinstance(params, dict) else []
            fail(f"params.yaml has no {what} {'.'.join(names[:i+1])!r}" + did_you_mean(name, known))
        params = params[name]
    return params if isinstance(params, dict) else {} if params is None else {names[-1]: params}


@dataclass
class Stage:
    "A stage of dvc.yaml, `foreach` taken apart"
    name: str # as in dvc.yaml; of a `foreach`, the item
    notebook: Path # what it runs
    sections: list # of params.yaml, or FILE:SECTION


def fill(text, values):
    "Replace ${name} and ${name.field} as DVC does"
    def value(match):
        name, *fields = match[1].split(".")
        found = values[name]
        for f in fields:
            found = found[f]
        return str(found)
    return re.sub(r"\$\{([\w.]+)\}", value, text)


def expand(name, entry, scale):
    "(name, definition, values of ${...}) of a stage, or of each item of its `foreach`"
    items = entry.get("foreach")
    if items is None:
        return [(name, entry, dict(scale=scale) | {k: v for d in entry.get("vars", []) for k, v in d.items()})]
    if isinstance(items, dict):
        return [(key, entry["do"], dict(scale=scale, key=key, item=item)) for key, item in items.items()]
    return [(item, entry["do"], dict(scale=scale, item=item)) for item in items]


def listed(params):
    "Names of sections; of another file than params.yaml as FILE:SECTION"
    names = []
    for entry in params:
        if isinstance(entry, dict):
            names += [f"{file}:{name}" for file, found in entry.items() for name in found]
        else:
            names.append(entry)
    return names


def read_stages(scale):
    "All stages that run a notebook, those of the smaller pipelines too: name -> Stage"
    files = [f for f in (ROOT/"dvc.yaml", ROOT/"bench"/"dvc.yaml", ROOT/"studies"/"dvc.yaml") if f.exists()]
    found = [(k, v) for f in files for k, v in load_yaml(f)["stages"].items()]
    entries = {k: v for k, v in found if "matrix" not in v} # a matrix repeats stages with other parameters
    stages = {}
    for group, entry in entries.items():
        for name, definition, values in expand(group, entry, scale):
            code = [fill(d, values) for d in definition.get("deps", []) if d.startswith(".code/")]
            if code: # all but the stage `code` itself
                sections = [fill(p, values) for p in listed(definition.get("params", []))]
                stages[name] = Stage(name, Path("nbs", "experiments", Path(code[0]).stem + ".ipynb"), sections)
    return stages


def code_cells(notebook):
    "Code cells of a notebook"
    return [c for c in notebook.cells if c.cell_type == "code"]


def declared(notebook, path):
    "Names and defaults in the one cell that is tagged `parameters`"
    tagged = [c for c in code_cells(notebook) if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1:
        fail(f"{path} must have exactly one cell tagged 'parameters', it has {len(tagged)}")
    assignments = [node for node in ast.parse(tagged[0].source).body if isinstance(node, ast.Assign)]
    return {target.id: ast.literal_eval(node.value) for node in assignments for target in node.targets}


def typed(what, value, default):
    "The value in the type of the notebook's default; None as a default takes anything, and may be any text or list"
    if default is None or value is None and not isinstance(default, (int, float)):
        return value
    if isinstance(default, bool) or not isinstance(default, (int, float)):
        kind, words = next((k, w) for k, w in KINDS.items() if isinstance(default, k))
        if not isinstance(value, kind):
            fail(f"{what} must be {words} like {default!r}, got {value!r}")
        return value
    try: # YAML reads 1e-3 as text
        number = value if isinstance(value, int) and not isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not abs(number) < 1e300:
        fail(f"{what} must be a number like {default}, got {value!r}")
    return number


KINDS = {bool: "true or false", str: "text", (list, tuple): "a list", dict: "a section"} # of values that are no numbers


def one_parameter(flag, text, notebook, names):
    "NAME=VALUE of the command line as {name: value}"
    name, _, value = text.partition("=")
    if name not in names:
        fail(f"{flag} {text}: {notebook} has no parameter {name!r}" + did_you_mean(name, names))
    return {name: typed(f"{flag} {name}", yaml.safe_load(value), names[name])}


def read_parameters(stage, scale, names, more=()):
    "Parameters of a run: scale and folders, the stage's sections of params.yaml, then NAME=VALUE of the command line"
    known = dict(scale=scale, data=f"data/sets/{scale}", results=f"results/{scale}")
    known |= dict(zip(("training", "name"), stage.name.split("-"))) if "-" in stage.name else {} # "dino-vit"
    given = {k: v for k, v in known.items() if k in names}
    for where in stage.sections:
        *file, dotted = where.split(":")
        source = file[0] if file else "params.yaml"
        for name, value in section(read_params(source), dotted).items():
            if name not in names:
                fail(f"{source}: {dotted} has an unknown parameter {name!r}" + did_you_mean(name, names))
            given[name] = typed(f"{source}: {dotted}.{name}", value, names[name])
    for text in more:
        given |= one_parameter("-p", text, stage.notebook, names)
    return given


def open_stage(name, scale):
    "The stage of this name, and names and defaults of its notebook's parameters"
    stages = read_stages(scale)
    if name not in stages:
        fail(f"dvc.yaml has no stage {name!r}" + did_you_mean(name, stages))
    stage = stages[name]
    if not (ROOT/stage.notebook).exists():
        fail(f"no notebook at {stage.notebook}")
    return stage, declared(nbformat.read(ROOT/stage.notebook, 4), stage.notebook)
