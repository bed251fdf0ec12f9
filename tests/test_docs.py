"The site of `make docs`: complete, no broken link, and nothing that a browser would fetch from elsewhere."
import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest

import simpool

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT/"docs"))
import make_site  # noqa: E402
from reference import module_page  # noqa: E402

FETCHED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("link", "href"), ("source", "src"), ("video", "src")}


# The reference, without Sphinx

SOURCE = '''"A module"
from fastcore.basics import patch

def pool(
    x:Tensor, # tokens (B, N, D), "a * b" and `c * d`
    *more, # further tokens
    gamma:float|None=None, # exponent
)->Tensor: # vectors (B, D)
    "Pool tokens"

class Layer(Module):
    "A layer"
    def __init__(
        self,
        dim:int=4, # number of channels
    ):
        "Not shown"

@patch
def forward(self:Layer, x:Tensor)->Tensor: # vectors
    "Apply it"

@dataclass
class Config:
    "Settings"
    lr:float = 1e-3 # learning rate

def _hidden(): pass
'''

PAGE = r'''# m

A module

```{py:module} m
```

:::{py:function} pool(x, *more, gamma=None)

Pool tokens

:param x: tokens (B, N, D), "a \* b" and `c * d`
:type x: Tensor
:param \*more: further tokens
:param gamma: exponent
:type gamma: float | None
:returns: *Tensor* – vectors (B, D)
:::

::::{py:class} Layer(dim=4)

A layer

:param dim: number of channels
:type dim: int

:::{py:method} forward(x)

Apply it

:param x:
:type x: Tensor
:returns: *Tensor* – vectors
:::
::::

::::{py:class} Config(lr=0.001)

Settings

:param lr: learning rate
:type lr: float
::::
'''


def test_reference_of_a_module():
    assert module_page("m", SOURCE) == PAGE


# The site

def test_a_folder_of_other_files_is_left_alone(tmp_path, monkeypatch):
    "FOLDER/pages loses what was not made now: not where it has files of someone else"
    monkeypatch.setattr(sys, "argv", ["make_site.py", str(tmp_path), "--no-explorer"])
    monkeypatch.setattr(make_site, "gather", lambda folder: pytest.fail("it would delete"))
    (tmp_path/"pages").mkdir()
    (tmp_path/"pages"/"thesis.tex").write_text("years of work")
    with pytest.raises(SystemExit, match="give another folder"):
        make_site.main()
    assert [p.name for p in (tmp_path/"pages").iterdir()] == ["thesis.tex"]


def test_pages_of_an_earlier_site_are_cleared(tmp_path, monkeypatch):
    for made_of in ("tutorials", "experiments"):
        monkeypatch.setattr(make_site, made_of, dict)
    monkeypatch.setattr(make_site, "written_pages", lambda: {"a.md": "# a"})
    for _ in range(2):
        make_site.claim(tmp_path/"pages")
        make_site.gather(tmp_path/"pages")
        assert {p.name for p in (tmp_path/"pages").iterdir()} == {make_site.MARKER, "a.md"}
        (tmp_path/"pages"/"old.md").write_text("# old")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("sphinx", reason="Sphinx is not installed: `make docs` once, and the site is tested")
    pytest.importorskip("myst_nb", reason="MyST-NB is not installed: `make docs` once, and the site is tested")
    out, started = tmp_path_factory.mktemp("site"), time.monotonic()
    command = [sys.executable, ROOT/"docs"/"make_site.py", out, "--no-explorer"]
    run = subprocess.run(command, capture_output=True, text=True)
    print(f"site made in {time.monotonic() - started:.0f} s")
    assert run.returncode == 0, run.stderr[-3000:] + run.stdout[-500:] # a warning of Sphinx counts as an error
    return out/"html"


class Page(HTMLParser):
    "Links, names of places and what a browser would fetch of a page"
    def __init__(self, path):
        super().__init__()
        self.links, self.places, self.fetched = [], set(), []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id" or (tag, name) == ("a", "name"):
                self.places.add(value)
            if (tag, name) == ("a", "href"):
                self.links.append(value)
            if (tag, name) in FETCHED and ("rel", "canonical") not in attributes:
                self.fetched.append(value)
            if name == "style":
                self.fetched += re.findall(r"url\(['\"]?([^'\")]+)", value or "")


@pytest.fixture(scope="module")
def pages(site):
    found = [path for path in sorted(site.rglob("*.html")) if path.relative_to(site).parts[0] != "_static"]
    return {path: Page(path) for path in found if path.name != "explore.html"} # the explorer has tests of its own


def elsewhere(address):
    "Whether an address is not a file of the site"
    return bool(urlsplit(address).scheme not in ("", "data") or address.startswith("//"))


@pytest.mark.slow
def test_nothing_is_fetched_from_elsewhere(site, pages):
    found = [(path.name, address) for path, page in pages.items() for address in page.fetched if elsewhere(address)]
    for path in site.rglob("*.css"):
        named = re.findall(r"(?:url\(|@import )['\"]?([^'\")]+)", path.read_text("utf-8"))
        found += [(path.name, address) for address in named if elsewhere(address)]
    assert not found
    scripts = "".join(path.read_text("utf-8") for path in pages)
    assert "require.js" not in scripts and "mathjax" not in scripts.lower().replace("mathjax_ignore", "")


@pytest.mark.slow
def test_every_link_leads_somewhere(site, pages):
    broken = []
    for path, page in pages.items():
        for link in [a for a in page.links + page.fetched if not elsewhere(a) and not a.startswith("data:")]:
            where, anchor = urlsplit(link).path, unquote(urlsplit(link).fragment)
            to = (path.parent/unquote(where)).resolve() if where else path
            if to.name == "explore.html": # made by `make docs`, left out here
                continue
            if not to.is_file() or anchor and to in pages and anchor not in pages[to].places:
                broken.append((path.relative_to(site).as_posix(), link))
    assert not broken, broken[:20]


@pytest.mark.slow
def test_every_notebook_has_a_page(site):
    for path in [*(ROOT/"nbs").glob("*.ipynb"), *(ROOT/"nbs"/"experiments").glob("*.ipynb")]:
        assert (site/path.relative_to(ROOT).with_suffix(".html")).exists(), path


@pytest.mark.slow
def test_results_are_shown(site):
    "Each table that git has, all its rows, and its commit"
    for folder in sorted((ROOT/"results").glob("*/*/table.csv")):
        scale, stage = folder.parts[-3:-1]
        if scale in ("mini", "small") and (ROOT/"nbs"/"experiments"/f"{stage}.ipynb").exists():
            text = (site/"nbs"/"experiments"/f"{stage}.html").read_text("utf-8")
            facts = json.loads(folder.with_name("facts.json").read_text())
            assert f"{len(pd.read_csv(folder))} rows" in text and facts["commit"] in text, (scale, stage)


@pytest.mark.slow
def test_public_names_are_in_the_reference(site, pages):
    for name in simpool.__all__:
        full = f"simpool.{simpool._HOME[name]}.{name}"
        page = site/"reference"/f"simpool.{simpool._HOME[name]}.html"
        assert full in pages[page].places, full
        assert f"#{full}" in (site/"reference.html").read_text("utf-8"), full


@pytest.mark.slow
def test_formulas_are_drawn_by_the_browser(site, pages):
    assert (site/"nbs"/"11_simpool.html").read_text("utf-8").count("<math") > 10
    for path in pages:
        for formula in re.findall("<math.*?</math>", path.read_text("utf-8"), re.S):
            assert not re.search(r"\\[A-Za-z]|&amp;", formula), (path.name, formula) # TeX that was not understood


# Pages written by hand

def test_recipes_run(tmp_path, monkeypatch):
    "The Python of docs/howto.md and docs/index.md, one block after the other"
    from PIL import Image
    for name in ("dvc.yaml", "data"): # the networks are found from inside a checkout
        (tmp_path/name).symlink_to(ROOT/name)
    monkeypatch.chdir(tmp_path)
    Image.radial_gradient("L").convert("RGB").save("photo.png")
    for page in ("howto", "index"):
        names = {}
        for block in re.findall(r"```python\n(.*?)```", (ROOT/"docs"/f"{page}.md").read_text("utf-8"), re.S):
            exec(block, names)
    assert names and Path("attention.png").exists() and Path("model.onnx").exists()


def test_what_the_page_on_poolings_says_in_short():
    "docs/which_pooling.md begins with sentences: they hold in the results"
    def read(result):
        return pd.read_csv(ROOT/"results"/"mini"/result/"table.csv")
    maps = read("attention").query("split == 'test' and resolution == 64 and network == 'vit'")
    mass = maps.pivot_table(index="training", columns="pool", values="mass")
    assert {"supervised", "dino_pairs", "bam_pairs"} == set(mass.index[mass.simpool > mass.cls])
    labels = read("figure_3").set_index("name")
    assert labels.test.idxmax() == labels.novel.idxmax() == "GeM" and labels.mass.idxmax() == "SimPool"
    vit = read("table_9").set_index("name").test
    assert vit["CLS, BASE"] > vit["SimPool, BASE"]
    knn = read("knn").query("k == 10 and weights == 'trained' and pool == 'simpool' and split == 'test'")
    gain = knn.set_index(["training", "backbone"]).gain
    assert min(gain["dino", "vit"], gain["dino_pairs", "vit"]) > 0
    assert gain["dino", "resnet"]*gain["dino_pairs", "resnet"] < 0
    probes = read("probes").query("network == 'cls' and arm == 'patches'").set_index("pool")
    better = probes[probes["test.top1"] > probes["test.top1"]["simpool"]]
    assert {"cae", "vit", "coca"} <= set(better.index) and (better.parameters.loc[["cae", "vit", "coca"]] > 33024).all()
