"settings.ini holds the project's metadata, pyproject.toml is what tools read: they say the same."
import configparser
import re
import tomllib
from pathlib import Path

import simpool

ROOT = Path(__file__).parents[1]
ini = configparser.ConfigParser(delimiters=["="])
ini.read(ROOT/"settings.ini")
ini = ini["DEFAULT"]
toml = tomllib.loads((ROOT/"pyproject.toml").read_text())
project, nbdev = toml["project"], toml["tool"]["nbdev"]


def test_project():
    assert ini["lib_name"] == project["name"]
    assert ini["description"] == project["description"]
    assert ini["license"] == project["license"]
    assert ">=" + ini["min_python"] == project["requires-python"]
    assert ini["author"] == project["authors"][0]["name"]
    assert ini["keywords"].split(", ") == project["keywords"]
    assert any(ini["audience"] in c for c in project["classifiers"])


def test_version():
    assert ini["version"] == simpool.__version__


def test_requirements():
    assert ini["requirements"].split() == project["dependencies"]
    for extra, packages in project["optional-dependencies"].items():
        assert ini[f"{extra}_requirements"].split() == packages


def test_commands():
    assert [f"{name}={where}" for name, where in project["scripts"].items()] == ini["console_scripts"].split()


def test_nbdev():
    for key in ("nbs_path", "doc_path", "tst_flags"):
        assert ini[key] == nbdev[key]
    assert ini["allowed_cell_metadata_keys"].split() == nbdev["allowed_cell_metadata_keys"]
    assert ini.getboolean("jupyter_hooks") == nbdev["jupyter_hooks"]


def test_locks_hold_the_pins_and_no_address():
    "Results depend on the first lock; tools of the tests are in the second, and what both need has one version"
    texts = [(ROOT/folder/"requirements.lock").read_text() for folder in ("", "tests")]
    locked, tools = (dict(re.findall(r"^([a-z0-9_.-]+)==(\S+)", text, re.M)) for text in texts)
    assert "pytest" in tools and "pytest" not in locked and "torch" in locked and "torch" not in tools
    assert all(locked.get(name, version) == version for name, version in tools.items())
    wanted = [word for folder in ("", "tests") for word in (ROOT/folder/"requirements.in").read_text().split()]
    for pin in ini["dev_requirements"].split() + wanted:
        if "==" in pin:
            assert (tools | locked)[pin.split("==")[0]] == pin.split("==")[1]
    assert all("://" not in text and "--index" not in text for text in texts)
