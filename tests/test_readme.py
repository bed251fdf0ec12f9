"README.md is what nbs/index.ipynb says, and names only what exists."
import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("make_readme", ROOT/"tools"/"make_readme.py")
make_readme = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_readme)


def test_readme_is_the_index():
    assert (ROOT/"README.md").read_text() == make_readme.readme(), "run `make readme`"


def test_links_lead_somewhere():
    text = (ROOT/"README.md").read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        assert target.startswith("http") or (ROOT/target).exists(), target


def test_ci_calls_the_readmes_test_command():
    assert "make test" in (ROOT/".ci"/"run").read_text() and "make test" in (ROOT/"README.md").read_text()
