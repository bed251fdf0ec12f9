"settings.ini is the project's card, pyproject.toml is what tools read: they say the same."
import configparser
import re
import tomllib
from pathlib import Path

import simpool

ROOT = Path(__file__).parents[1]
card = configparser.ConfigParser(delimiters=["="])
card.read(ROOT/"settings.ini")
card = card["DEFAULT"]
toml = tomllib.loads((ROOT/"pyproject.toml").read_text())
project, nbdev = toml["project"], toml["tool"]["nbdev"]


def test_project():
    assert card["lib_name"] == project["name"]
    assert card["description"] == project["description"]
    assert card["license"] == project["license"]
    assert ">=" + card["min_python"] == project["requires-python"]
    assert card["author"] == project["authors"][0]["name"]
    assert card["keywords"].split(", ") == project["keywords"]
    assert any(card["audience"] in c for c in project["classifiers"])


def test_version():
    assert card["version"] == simpool.__version__


def test_requirements():
    assert card["requirements"].split() == project["dependencies"]
    assert card["dev_requirements"].split() == project["optional-dependencies"]["dev"]
    assert card["bench_requirements"].split() == project["optional-dependencies"]["bench"]


def test_commands():
    assert [f"{name}={where}" for name, where in project["scripts"].items()] == card["console_scripts"].split()


def test_nbdev():
    for key in ("nbs_path", "doc_path", "tst_flags"):
        assert card[key] == nbdev[key]
    assert card["allowed_cell_metadata_keys"].split() == nbdev["allowed_cell_metadata_keys"]
    assert card.getboolean("jupyter_hooks") == nbdev["jupyter_hooks"]


def test_lock_holds_the_pins_and_no_address():
    lock = (ROOT/"requirements.lock").read_text()
    locked = dict(re.findall(r"^([a-z0-9_.-]+)==(\S+)", lock, re.M))
    for pin in card["dev_requirements"].split() + (ROOT/"requirements.in").read_text().split():
        if "==" in pin:
            assert locked[pin.split("==")[0]] == pin.split("==")[1]
    assert "://" not in lock and "--index" not in lock
