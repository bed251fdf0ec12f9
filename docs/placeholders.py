"""What the pages written by hand call between {{ and }}: lists of pages, and numbers and tables of results."""
import contextlib
import io
import json
import os
import re
import sys
from functools import cache
from pathlib import Path

import nbformat
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/"tools"))
import freshness  # noqa: E402

NOTEBOOKS = sorted((ROOT/"nbs").glob("*.ipynb"))
WANTED = ["supervised-vit-simpool", "dino_pairs-vit-baseline", "dino_pairs-vit-simpool"] # networks of the explorer
STORE = ROOT/"data"/"store"/"files"/"md5"
SCALES = [scale for scale in ("mini", "small", "paper") if (ROOT/"results"/scale).exists()]


def in_store(name):
    "Whether this checkout has the weights of a network"
    md5 = re.search(r"md5: (\w+)", (ROOT/"data"/"networks"/f"{name}.safetensors.dvc").read_text())[1]
    return (STORE/md5[:2]/md5[2:]).exists()


EXPLORED = WANTED if all(map(in_store, WANTED)) else []


def explorer_page():
    "Link to the explorer's page, or why there is none"
    if EXPLORED:
        return '<p><a class="open-page" href="explore.html">Open the explorer</a></p>'
    return "**This site was made without the networks**, so the page is not part of it. Make it as above."


def toctree(entries, hidden=False):
    "Sphinx' list of the pages below a page; hidden, they are in the navigation only"
    return "\n".join(["```{toctree}", ":hidden:" if hidden else ":titlesonly:", "", *entries, "```"])


@cache
def first_words(notebook):
    "Title of a notebook and the line that introduces it"
    text = next(c.source for c in nbformat.read(notebook, 4).cells if c.cell_type == "markdown")
    about = re.search(r"^> (.+)", text, re.M)
    return re.search(r"^# (.+)", text, re.M)[1], about[1] if about else ""


def notebooks(first, last):
    "List of the notebooks with numbers from first to last"
    some = [p for p in NOTEBOOKS if p.stem[0].isdigit() and first <= int(p.stem.split("_")[0]) <= last]
    lines = [f"- [{p.stem}](/nbs/{p.name}): {first_words(p)[1]}" for p in some]
    return "\n".join([*lines, "", toctree([f"{p.stem.replace('_', ' ', 1)} </nbs/{p.stem}>" for p in some], True)])


def experiments():
    "Table of the experiments"
    lines = ["| experiment | what it shows | results in git |", "|---|---|---|"]
    paths = sorted((ROOT/"nbs"/"experiments").glob("*.ipynb"))
    for p in paths:
        title, about = first_words(p)
        has = [s for s in SCALES if p.stem.startswith("train_") or (ROOT/"results"/s/p.stem).exists()]
        lines.append(f"| [{title}](/nbs/experiments/{p.name}) | {about} | {', '.join(has)} |")
    return "\n".join([*lines, "", toctree([f"/nbs/experiments/{p.stem}" for p in paths], True)])


@cache
def module_sources():
    "{module: (file, notebook)} in reading order"
    found = {}
    for notebook in NOTEBOOKS:
        name = re.search(r"#\| default_exp ([\w.]+)", notebook.read_text("utf-8"))
        if name and name[1] not in ("__init__", "__main__"):
            file = ROOT/"simpool"/(name[1].replace(".", "/") + ".py")
            found[name[1].removesuffix(".__init__")] = (file, notebook)
    return found


def modules():
    "Table of the modules"
    lines = ["| module | |", "|---|---|"]
    for name, (_, notebook) in module_sources().items():
        about = first_words(notebook)[1].replace("|", r"\|")
        lines.append(f"| [simpool.{name}](/reference/simpool.{name}.md) | {about} |")
    return "\n".join([*lines, "", toctree([f"/reference/simpool.{name}" for name in module_sources()], True)])


def public_names():
    "List of what `from simpool import ...` offers"
    import simpool
    lines = [f"- {{py:obj}}`~simpool.{simpool._HOME[name]}.{name}`" for name in simpool.__all__]
    return "\n".join(lines)


def command_help():
    "What --help prints, of each command"
    from simpool.cli import COMMANDS
    os.environ |= dict(COLUMNS="100", NO_COLOR="1")
    parts = [f"```text\n{help_of()}```", *(f"## {name}\n\n```text\n{help_of(name)}```" for name in COMMANDS)]
    return "\n\n".join(parts)


def help_of(*command):
    "Help of a command, as it is printed"
    from simpool.cli import main
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    return printed.getvalue()


@cache
def states():
    "{result: fresh, or what has changed since}; takes ten seconds, and knows nothing outside of a git repository"
    try:
        return {row["result"]: freshness.state(row) for row in freshness.freshness()}
    except SystemExit as e: # e.g. DVC is busy with the pipeline
        print(f"{e}; the pages do not say which results are fresh", file=sys.stderr)
        return {}


def origin(result):
    "Where a result, such as mini/knn, comes from, and whether the code of today is that which made it"
    facts = json.loads((ROOT/"results"/result/"facts.json").read_text())
    seeds = [f"seed {facts['seed']}"] if "seed" in facts else []
    made = [f"scale {facts['scale']}", *seeds, f"{facts['minutes']:.3g} minutes on {facts['machine']}"]
    now = [states()[result]] if result in states() else []
    return f"*{', '.join([*made, 'commit ' + facts['commit'], facts['date'], *now])}*"


@cache
def read(result):
    "Table of a result; `test.top1` becomes top1, and `mass_percent` is added"
    rows = pd.read_csv(ROOT/"results"/result/"table.csv")
    rows = rows.rename(columns=lambda name: name.removeprefix("test.").replace(".", "_"))
    return rows.assign(mass_percent=100*rows["mass"]) if "mass" in rows else rows


def cell(row, form):
    "Text of a cell: `test ± test_interval` becomes 75.2 ± 2.4; nothing where a number is missing"
    values = [row[name] for name in form.split(" ± ")]
    if any(pd.isna(v) for v in values):
        return ""
    if isinstance(values[0], str) or len(values) == 1 and values[0] == int(values[0]):
        return values[0] if isinstance(values[0], str) else f"{values[0]:,.0f}"
    digits = 1 if abs(values[0]) >= 10 else 2
    return " ± ".join(f"{v:.{digits}f}" for v in values)


def table(result, columns, where=None, sort=None):
    "Table of a result: `columns` are {heading: form of `cell`}, `where` is a query of pandas; and where it comes from"
    rows = read(result).query(where) if where else read(result)
    rows = rows.sort_values(sort, ascending=False, kind="stable") if sort else rows
    lines = ["| " + " | ".join(columns) + " |", "|---"*len(columns) + "|"]
    lines += ["| " + " | ".join(cell(row, form) for form in columns.values()) + " |" for _, row in rows.iterrows()]
    return "\n".join([*lines, "", origin(result)])


def number(result, column, where):
    "One number of a result"
    found, = read(result).query(where)[column]
    return f"{found:.1f}" if abs(found) >= 10 else f"{found:.2f}"


def best(result, column, n, where=None, name="name"):
    "Names of the n rows with the largest values, with these"
    rows = read(result).query(where) if where else read(result)
    rows = rows.nlargest(n, column)
    return ", ".join(f"{row[name]} ({row[column]:.1f})" for _, row in rows.iterrows())


def rank(result, column, where, of=None):
    "Place of a row among all, as 3rd of 15"
    rows = read(result).query(of) if of else read(result)
    found, = rows.query(where)[column]
    place = int((rows[column] > found).sum()) + 1
    return f"{place} of {rows[column].notna().sum()}"
