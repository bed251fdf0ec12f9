"""Gather the pages of the site from the repository, and let Sphinx make HTML of them.

    python docs/make_site.py [FOLDER] [--no-explorer]    # FOLDER: docs/_build, as `make docs`; the site is FOLDER/html

FOLDER/pages gets, laid out as in the repository so that relative links hold:
- docs/*.md, the pages written by hand. Between {{ }} they call functions of placeholders.py, so that their numbers and
  lists are read from the repository when the site is made;
- nbs/*.ipynb with their outputs;
- nbs/experiments/*.ipynb with the results that are in git, and with outputs where `dvc repro` has left them;
- a page of the reference for each module; reports, papers.md, CHANGELOG.md and CONTRIBUTING.md as they are.
"""
import argparse
import csv
import json
import re
import subprocess
import sys
import time
from html import escape
from pathlib import Path

import jinja2
import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT/"docs"), str(ROOT/"tools")]
import placeholders  # noqa: E402
from placeholders import NOTEBOOKS, SCALES, module_sources, origin, states, toctree  # noqa: E402
from reference import module_page  # noqa: E402
from stages import read_stages  # noqa: E402

BUILD = ROOT/"docs"/"_build"
MARKER = ".made_by_make_site" # of the folder of pages: what is in it, and was not made now, is deleted
EXPERIMENTS = ROOT/"nbs"/"experiments"
AS_THEY_ARE = ["papers.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/bench/README.md",
               *(f"results/{scale}/report/{page}.md" for scale in SCALES for page in ("report", "framework"))]


# Links: from the root of the pages, so that a page can stand elsewhere than its notebook

def mend_link(target, folder):
    "A link from a file in `folder` as one in the site; a folder of results leads to the page of its experiment"
    if re.match(r"\w+:|#|/", target):
        return target
    name, sharp, anchor = target.partition("#")
    path = (folder/name).resolve()
    if path.is_dir():
        page = EXPERIMENTS/f"{path.name}.ipynb"
        path = page if page.exists() else ROOT/"docs"/"results.md"
    written = path.is_relative_to(ROOT/"docs") # pages that are at the root of the site
    return "/" + path.relative_to(ROOT/"docs" if written else ROOT).as_posix() + sharp + anchor


def mend(text, folder):
    "Text of a page with its links and pictures mended"
    for pattern, form in ((r"\]\(([^)\s]+)\)", "]({})"), (r'src="([^"]+)"', 'src="{}"')):
        text = re.sub(pattern, lambda found: form.format(mend_link(found[1], folder)), text)
    return text


def linked_files(text):
    "Files of the repository that a page shows or links to, and that are no pages themselves"
    targets = re.findall(r"\]\(/([^)\s#]+)", text) + re.findall(r'src=\\?"/([^"\\]+)', text) # a notebook has \" for "
    found = {ROOT/target for target in targets}
    return {path for path in found if path.is_file() and path.suffix not in (".md", ".ipynb")}


# Notebooks

def shown_cells(cells, folder):
    "Cells as a reader wants them: without hidden ones, without nbdev's directives and words on stderr"
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = mend(cell.source, folder)
            yield cell
            continue
        hidden = re.search(r"^#\| *hide", cell.source, re.M)
        cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M).strip()
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        for output in cell.outputs:
            if "text/markdown" in output.get("data", {}):
                output["data"]["text/markdown"] = mend(output["data"]["text/markdown"], folder)
        if cell.source and not hidden:
            yield cell


def read_notebook(path, folder):
    "A notebook with the cells that are shown, their links mended for a page in `folder`"
    notebook = nbformat.read(path, 4)
    notebook.cells = list(shown_cells(notebook.cells, folder))
    return notebook


def markdown_cell(*parts):
    "Paragraphs as a cell"
    return nbformat.v4.new_markdown_cell("\n\n".join(parts), id="site") # not random: what stays is not made again


def tutorials():
    "{page: notebook} of nbs, each with a link to the reference of its module"
    pages = {f"nbs/{p.name}": read_notebook(p, p.parent) for p in NOTEBOOKS}
    for name, (_, notebook) in module_sources().items():
        words = f"Reference: [simpool.{name}](/reference/simpool.{name}.md)"
        pages[f"nbs/{notebook.name}"].cells.append(markdown_cell(words))
    return pages


# Results

def html_table(rows):
    "A table in a box that scrolls; as HTML, since it may have hundreds of rows"
    names = dict.fromkeys(name for row in rows for name in row)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = ["".join(f"<td>{escape(str(row.get(name, '')))}</td>" for name in names) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="results"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def table_result(scale, stage):
    "Figures, table and origin of a result that is in git"
    folder, where = ROOT/"results"/scale/stage, f"/results/{scale}/{stage}"
    if not (folder/"table.csv").exists():
        return []
    with (folder/"table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    pictures = sorted([*folder.glob("*.png"), *folder.glob("*.gif")], key=lambda p: (p.stem != "figure", p.name))
    words = f"{len(rows)} rows ([CSV]({where}/table.csv), [facts]({where}/facts.json)). {origin(f'{scale}/{stage}')}"
    shown = [f"![{stage}, {p.stem}]({where}/{p.name})" for p in pictures]
    return [f"### At scale {scale}", *shown, html_table(rows), words]


def training_result(scale, runs):
    "Last epoch and origin of each training, both poolings"
    files = [p for run in runs for p in sorted((ROOT/"results"/scale/"train"/run).glob("*.json"))]
    rows = []
    for p in (p for p in files if p.stem != "metrics"):
        facts = json.loads(p.read_text())
        kept = {k: facts[k] for k in ("minutes", "seed", "commit", "machine", "date") if k in facts}
        state = states().get(f"{scale}/train/{p.parent.name}/{p.stem}", "")
        rows.append(dict(run=facts["run"]) | facts.get("last", {}) | kept | dict(state=state))
    return [f"### At scale {scale}, last epoch", html_table(rows)] if rows else []


def executed(stage):
    "Notebooks of a stage that `dvc repro` has executed here; a training has one for each pooling"
    files = [p for scale in SCALES for p in sorted((ROOT/"results"/scale/"notebooks").glob("*.ipynb"))]
    return [p for p in files if stage in (p.stem, p.stem.rpartition("-")[0])]


def experiment(path, stages):
    "{page: notebook} of an experiment: results, then code, with outputs where they are"
    training = path.stem.startswith("train_")
    runs = [p for stage in stages for p in executed(stage)]
    found = [training_result(s, stages) if training else table_result(s, path.stem) for s in SCALES]
    notes, pages = ["The code is shown without outputs: `dvc repro` makes them, and then `make docs` shows them."], {}
    notebook = read_notebook(path, EXPERIMENTS)
    if runs and training:
        pages = {run.relative_to(ROOT).as_posix(): read_notebook(run, EXPERIMENTS) for run in runs}
        notes = ["With outputs:", toctree([f"{Path(p).stem}, {Path(p).parts[1]} </{p}>" for p in pages])]
    elif runs:
        notebook = read_notebook(runs[0], EXPERIMENTS)
        notes = [f"With the outputs of scale {runs[0].parent.parent.name}."]
    words = [words for result in found for words in result] or ["There are none in git."]
    notebook.cells.insert(1, markdown_cell("## Results", *words, "## Notebook", *notes))
    return {f"nbs/experiments/{path.name}": notebook} | pages


def experiments():
    "{page: notebook} of all experiments"
    stages = [(stage.notebook.stem, name) for name, stage in read_stages(SCALES[0]).items()]
    pages = {}
    for path in sorted(EXPERIMENTS.glob("*.ipynb")):
        pages |= experiment(path, [name for stem, name in stages if stem == path.stem])
    return pages


# All pages

def written_pages():
    "{page: Markdown} of docs/*.md, with their placeholders filled, and of files that are pages as they are"
    pages = {}
    for path in sorted((ROOT/"docs").glob("*.md")):
        text = jinja2.Template(path.read_text("utf-8"), undefined=jinja2.StrictUndefined).render(vars(placeholders))
        pages[path.name] = mend(text, path.parent)
    for path in [ROOT/name for name in AS_THEY_ARE if (ROOT/name).exists()]:
        text = re.sub(r"^---+$", "", path.read_text("utf-8"), flags=re.M) # lines around headings
        pages[path.relative_to(ROOT).as_posix()] = mend(text, path.parent)
    for name, (file, notebook) in module_sources().items():
        explained = f"Explained and tested in [{notebook.stem}](/nbs/{notebook.name})."
        pages[f"reference/simpool.{name}.md"] = module_page(f"simpool.{name}", file.read_text("utf-8"), explained)
    return pages


def claim(folder):
    "Mark a folder as one of pages; one that has files already, and was not made here, is left alone"
    if folder != BUILD/"pages" and folder.exists() and any(folder.iterdir()) and not (folder/MARKER).exists():
        sys.exit(f"{folder} has files that make_site.py has not made, and would delete: give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder/MARKER).touch()


def gather(folder):
    "Write the pages and the files they show; what is there already stays, so that Sphinx makes only what has changed"
    notebooks = {name: nbformat.writes(page) for name, page in (tutorials() | experiments()).items()}
    pages = written_pages() | notebooks
    linked = {file for text in pages.values() for file in linked_files(text)}
    files = {file.relative_to(ROOT).as_posix(): file.read_bytes() for file in linked}
    files |= {name: text.encode() for name, text in pages.items()} | {MARKER: b""}
    for path in [p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).as_posix() not in files]:
        path.unlink()
    for name, content in files.items():
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        if not (folder/name).exists() or (folder/name).read_bytes() != content:
            (folder/name).write_bytes(content)


def start_explorer(page):
    "Make the explorer's page in another process, unless it is newer than all that it is made of"
    made_of = [*(ROOT/"simpool").rglob("*.*"), *(ROOT/"data").rglob("*.dvc")]
    newest = max(path.stat().st_mtime for path in made_of)
    if not placeholders.EXPLORED or page.exists() and page.stat().st_mtime > newest:
        return None
    page.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "simpool", "export", *placeholders.EXPLORED, "--html", "-o", page]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=BUILD)
    parser.add_argument("--no-explorer", action="store_true", help="leave out the page that takes longest")
    args = parser.parse_args()
    started, out = time.monotonic(), args.folder.resolve()
    claim(out/"pages")
    explorer = None if args.no_explorer else start_explorer(out/"html"/"explore.html")
    gather(out/"pages")
    print("pages gathered; Sphinx makes HTML of them", flush=True)
    folders = ["-c", ROOT/"docs", "-d", out/"doctrees", out/"pages", out/"html"]
    done = subprocess.run([sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-j", "auto", *folders])
    if explorer and explorer.wait():
        sys.exit("the explorer's page could not be made: simpool export --html says why")
    print(f"{out/'html'/'index.html'}: {time.monotonic() - started:.0f} seconds")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
