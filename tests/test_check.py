"tools/check.py finds each kind of difference and no other; tools/freshness.py tells fresh results from stale ones."
import base64
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from test_notebooks import COMPARED

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT/"tools"))
import check  # noqa: E402
from compare_outputs import compare_cell, compare_images, compare_text  # noqa: E402

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.hooksPath=/dev/null"]


@pytest.mark.parametrize("name", COMPARED)
def test_outputs_of_two_notebooks(name, monkeypatch):
    "Each cell of a committed notebook gives its committed output again, in a kernel of its own"
    monkeypatch.delenv("MPLBACKEND", raising=False) # pictures as in JupyterLab
    findings, _ = check.check_notebook(ROOT/"nbs"/f"{name}.ipynb")
    different = [f for f in findings if f.result == "different"]
    assert len(findings) > 1 and not different, different


# -- comparing

@pytest.mark.parametrize("old, new, result", [
    ("loss 0.123 of 7", "loss 0.123 of 7", "identical"),
    ("loss 0.123 of 7", "loss 0.124 of 7", "close"), # one in the last decimal
    ("loss 0.123 of 7", "loss 0.126 of 7", "different"),
    ("loss 0.123 of 7", "loss 0.123 of 8", "different"), # a count
    ("1,234.5 steps", "1,235.5 steps", "close"), # below a thousandth
    ("1,234.5 steps", "1,237.5 steps", "different"),
    ("error 4.1e-07", "error 9.3e-07", "close"), # rounding
    ("error 4.1e-05", "error 9.3e-05", "different"),
    ("at -0.5", "at 0.5", "different"), # a sign
    ("a  9.999 |", "a 10.000 |", "close"), # a number of another width moves its column
    ("vit_toy 1.0", "resnet_toy 1.0", "different"),
    ("1 2", "1 2 3", "different"),
    ("x16 1.0", "x17 1.0", "different"), # part of a name
])
def test_text(old, new, result):
    assert compare_text(old, new)[0] == result


def encoded(pixels, **options):
    "A picture as notebooks hold it"
    file = io.BytesIO()
    Image.fromarray(pixels.astype("uint8")).save(file, "PNG", **options)
    return base64.b64encode(file.getvalue()).decode()


def test_images():
    pixels = np.full((8, 8, 3), 100)
    same, spot = encoded(pixels), pixels.copy()
    spot[0, 0] = 108 # 8 levels at one of 64 places
    assert compare_images(same, same)[0] == "identical"
    assert compare_images(same, encoded(pixels, compress_level=0))[0] == "identical", "other bytes, the same pixels"
    why = "picture, 0.125 of 255 on average, 0.00% of its pixels by over 8"
    assert compare_images(same, encoded(spot)) == ("close", why)
    spot[0, 0] = 109
    assert compare_images(same, encoded(spot))[0] == "different", "one of 64 is more than 0.01%"
    large = np.full((100, 100, 3), 100)
    one, two = large.copy(), large.copy()
    one[0, 0], two[0, :2] = 200, 200
    assert [compare_images(encoded(large), encoded(i))[0] for i in (one, two)] == ["close", "different"]
    assert compare_images(same, encoded(pixels + 2))[0] == "different"
    assert compare_images(same, encoded(np.full((8, 9, 3), 100))) == ("different", "picture of 8 x 8 is now 9 x 8")


def test_widgets():
    "A widget lives as long as its kernel: what is compared is the picture beside it"
    data = {"image/png": encoded(np.full((8, 8, 3), 100)), "text/plain": "explorer"}
    saved = new_output("display_data", data)
    live = new_output("display_data", data | {"application/vnd.jupyter.widget-view+json": dict(model_id="ab12")})
    assert compare_cell([saved], [live]) == ("identical", "")
    other = new_output("display_data", data | {"image/png": encoded(np.full((8, 8, 3), 90))})
    assert compare_cell([other], [live])[0] == "different"


def figure(draw):
    "A small figure as a notebook shows it"
    fig, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
    draw(ax)
    file = io.BytesIO()
    fig.savefig(file, format="png")
    plt.close(fig)
    return base64.b64encode(file.getvalue()).decode()


def title(words):
    return figure(lambda ax: ax.set_title(f"IoU {words}"))


def dots(seed):
    return figure(lambda ax: ax.scatter(*np.random.default_rng(seed).random((2, 12)), s=12))


def bars(*lengths):
    return figure(lambda ax: (ax.barh(["a", "b", "c"], lengths, .3), ax.set(xlim=(0, 100))))


@pytest.mark.parametrize("draw, old, new", [
    (title, [.81], [.12]), (dots, [0], [1]), (bars, [40, 50, 60], [41, 48, 60])], ids=["title", "dots", "bars"])
def test_small_changes_of_a_figure(draw, old, new):
    "Few pixels of a figure say what was found: the mean over all would hide them"
    assert compare_images(draw(*old), draw(*old))[0] == "identical"
    result, why = compare_images(draw(*old), draw(*new))
    assert result == "different", why


# -- running

CELLS = ["print('always ' + 'the same')", "print(0.5004)", "print(1.5)", "import os; print(os.getpid())",
         "from PIL import Image; display(Image.new('RGB', (8, 8), (9, 9, 9)))", "print('new'); x = 1", "y = 2",
         "import sys; print('progress', file=sys.stderr)", "#| volatile\nimport os; print(os.getpid(), 's')"]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    "A small repository whose notebook was run, and then changed by hand"
    folder = tmp_path_factory.mktemp("house")
    (folder/"nbs").mkdir()
    shutil.copytree(ROOT/"tools", folder/"tools", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder/"nbs"/"1_a.ipynb"
    nbformat.write(new_notebook(cells=[new_markdown_cell("words"), *map(new_code_cell, CELLS)]), path)
    notebook = check.execute(path)
    cells = notebook.cells
    cells[2].outputs[0].text = "0.5\n"
    cells[3].outputs[0].text = "2.5\n"
    cells[5].outputs[0].data["image/png"] = encoded(np.full((8, 8, 3), 90))
    cells[6].outputs = []
    cells[7].outputs = cells[1].outputs
    cells[8].outputs = []
    nbformat.write(notebook, path)
    for cell in cells[7:]: # a notebook that stops, and writes beside itself
        cell.outputs = []
    cells[7].source = "open('left.txt', 'w').close(); 1/0"
    nbformat.write(notebook, folder/"nbs"/"2_b.ipynb")
    kept = [*CELLS[:1], *CELLS[4:5], CELLS[-1]]
    nbformat.write(new_notebook(cells=[*map(new_code_cell, kept)]), folder/"nbs"/"3_c.ipynb")
    again = check.execute(folder/"nbs"/"3_c.ipynb")
    again.cells.append(new_code_cell("#| hide\n#| slow\n1/0")) # left out, unless --slow asks for it
    nbformat.write(again, folder/"nbs"/"3_c.ipynb")
    (folder/".gitignore").write_text("__pycache__\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*GIT, *command], cwd=folder, check=True)
    return folder


def run_check(house, *args):
    "tools/check.py as a process of its own"
    command = [sys.executable, "tools/check.py", *args]
    return subprocess.run(command, cwd=house, capture_output=True, text=True, timeout=300)


def test_each_difference_is_found(house):
    found = run_check(house, "1", "--json", str(house/"check.json"))
    assert found.returncode == 1, found.stderr
    said = json.loads((house/"check.json").read_text())
    results = {f["cell"]: (f["result"], f["why"]) for f in said["notebooks"]["1_a"]["not_identical"]}
    assert {cell: result for cell, (result, _) in results.items()} == {
        2: "close", 3: "different", 4: "different", 5: "different", 6: "different", 7: "different", 9: "volatile"}
    assert results[2][1] == "0.5 is now 0.5004" and results[3][1] == "2.5 is now 1.5"
    assert results[5][1].startswith("picture, ") and results[6][1] == "nothing is now text"
    assert results[7][1] == "text is now nothing"
    assert (said["cells"], said["identical"], said["close"], said["volatile"], said["different"]) == (8, 1, 1, 1, 5)
    assert said["sentence"] == "1 of 8 output cells identical, 1 close, 1 show times that differ, 5 different"
    assert said["sentence"] in found.stdout
    assert "1_a, cell 3: 2.5 is now 1.5" in found.stdout and "changed the tree" not in found.stdout
    run_check(house, "3_c", "--json", str(house/"check.json")) # its part of the file, beside what is there
    both = json.loads((house/"check.json").read_text())
    assert both["notebooks"]["1_a"] == said["notebooks"]["1_a"] and both["notebooks"]["3_c"]["cells"] == 3
    assert both["sentence"] == "3 of 11 output cells identical, 1 close, 2 show times that differ, 5 different"
    (house/"check.json").unlink()


def test_new_outputs_are_written(house):
    "Of five that are different all but the number of the process stay then; a notebook with an error is left alone"
    assert run_check(house, "1", "2", "--write").returncode == 0
    (house/"nbs"/"left.txt").unlink()
    changed = subprocess.run(["git", "diff", "--name-only"], cwd=house, capture_output=True, text=True).stdout.split()
    assert changed == ["nbs/1_a.ipynb"]
    assert "1_a, cell 4" in (again := run_check(house, "1").stdout) and "1 different" in again
    subprocess.run(["git", "checkout", "-q", "."], cwd=house, check=True)


def test_errors_and_leftovers(house):
    "A cell that fails ends its notebook: it and those after it that had outputs are different"
    found = run_check(house, "2_b")
    assert found.returncode == 1
    assert "2_b, cell 7: ZeroDivisionError: division by zero" in found.stdout
    assert "changed the tree:\n?? nbs/left.txt" in found.stdout
    (house/"nbs"/"left.txt").unlink()


def test_the_same_again(house):
    "The check ends well when nothing differs"
    found = run_check(house, "3_c")
    assert found.returncode == 0, found.stdout
    assert "2 of 3 output cells identical, 0 close, 1 show times that differ, 0 different" in found.stdout
    assert not subprocess.run(["git", "status", "--porcelain"], cwd=house, capture_output=True).stdout


def test_unknown_notebook(house):
    found = run_check(house, "no_such")
    assert found.returncode == 1 and found.stderr.strip().startswith("check: nbs/ has no notebook 'no_such'")


# -- results

DVC = """stages:
  code: {cmd: 'python tools/code_digest.py ${scale}', always_changed: true, outs: [.code: {cache: false}]}
  a:
    cmd: python tools/run_nb.py a ${scale}
    params: ["${scale}.a"]
    deps: [.code/a.txt]
    outs: ["results/${scale}/notebooks/a.ipynb"]
    plots: ["results/${scale}/a/facts.json": {cache: false}, "results/${scale}/a/table.csv": {cache: false}]
  b:
    cmd: python tools/run_nb.py b ${scale}
    deps: [.code/b.txt, "results/${scale}/a"]
    outs: ["results/${scale}/notebooks/b.ipynb"]
    plots: ["results/${scale}/b/facts.json": {cache: false}]
"""
WRITE = """import json, subprocess
from pathlib import Path
commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
folder = Path(results)/"{name}"
folder.mkdir(parents=True, exist_ok=True)
(folder/"facts.json").write_text(json.dumps(dict(commit=commit, scale=results.split("/")[1], seed=3, minutes=.5)))
"""


def save(path, code):
    "An experiment of one cell"
    tagged = new_code_cell("results = 'results/smoke'; n = 1".replace("; ", "\n"), metadata=dict(tags=["parameters"]))
    kernel = dict(kernelspec=dict(name="python3", display_name="python3", language="python"))
    nbformat.write(new_notebook(metadata=kernel, cells=[tagged, new_code_cell(code)]), path)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    "A repository whose two stages were run, the second reads what the first has written, and another scale's results"
    folder = tmp_path_factory.mktemp("pipeline")
    (folder/"nbs"/"experiments").mkdir(parents=True)
    shutil.copytree(ROOT/"tools", folder/"tools", ignore=shutil.ignore_patterns("__pycache__"))
    save(folder/"nbs/experiments/a.ipynb", WRITE.format(name="a") + "(folder/'table.csv').write_text(str(n))")
    save(folder/"nbs/experiments/b.ipynb", WRITE.format(name="b"))
    (folder/"dvc.yaml").write_text(DVC)
    (folder/"params.yaml").write_text("scale: small\nsmall: {a: {n: 2}}\nlarge: {a: {n: 3}}\n")
    (folder/"requirements.lock").write_text("torch==2.14.1")
    (folder/".gitignore").write_text(".code\nresults/*/notebooks\n__pycache__\n")
    shell(folder, *GIT, "init", "-q")
    shell(folder, *GIT, "add", "-A")
    shell(folder, *GIT, "commit", "-qm", "code")
    shell(folder, sys.executable, "-m", "dvc", "init", "-q")
    shell(folder, sys.executable, "-m", "dvc", "repro", "-q")
    shutil.copytree(folder/"results"/"small"/"a", folder/"results"/"large"/"a")
    shell(folder, *GIT, "add", "-A")
    shell(folder, *GIT, "commit", "-qm", "results")
    return folder


def shell(folder, *command):
    "Run a command that must succeed; its output"
    env = {k: v for k, v in os.environ.items() if not k.startswith("DVC_") or k == "DVC_NO_ANALYTICS"}
    run = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def states(folder):
    "What tools/freshness.py says: result -> state, and its last line"
    *lines, last = shell(folder, sys.executable, "tools/freshness.py").splitlines()
    return {line.split()[0]: line.split("  ")[-1].strip() for line in lines[1:]}, last


NOTEBOOK = "nbs/experiments/a.ipynb"


@pytest.mark.parametrize("file, old, new, first, second, other", [
    (NOTEBOOK, "n = 1", "n = 1 # how many", "fresh", "fresh", "fresh"),
    (NOTEBOOK, "str(n)", "str(2*n)", "stale: notebook", "stale: reads small/a", "stale: notebook"),
    ("requirements.lock", "2.14", "2.15", *["stale: requirements.lock"]*3),
    ("params.yaml", "n: 2", "n: 4", "stale: params.yaml", "stale: reads small/a", "fresh"),
    ("results/small/a/table.csv", "2", "5", "stale: results/small/a/table.csv", "stale: results/small/a", "fresh"),
])
def test_fresh_or_stale(pipeline, file, old, new, first, second, other):
    path = pipeline/file
    before = path.read_text()
    assert before.count(old) == 1
    path.write_text(before.replace(old, new))
    try:
        found, last = states(pipeline)
    finally:
        path.write_text(before)
    assert found == {"small/a": first, "small/b": second, "large/a": other}
    assert last == f"{sum(s == 'fresh' for s in found.values())} of 3 results fresh"


def test_results_of_edited_files_are_unknown(pipeline):
    path = pipeline/"results/large/a/facts.json"
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | dict(commit="abc1234+")))
    try:
        assert states(pipeline)[1] == "2 of 3 results fresh (1 cannot be told)"
    finally:
        path.write_text(before)
