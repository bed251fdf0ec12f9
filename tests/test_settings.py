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


def test_lock_holds_the_pins_and_no_address():
    lock = (ROOT/"requirements.lock").read_text()
    locked = dict(re.findall(r"^([a-z0-9_.-]+)==(\S+)", lock, re.M))
    for pin in ini["dev_requirements"].split() + (ROOT/"requirements.in").read_text().split():
        if "==" in pin:
            assert locked[pin.split("==")[0]] == pin.split("==")[1]
    assert "://" not in lock and "--index" not in lock
