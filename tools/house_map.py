"""Draw the map of the house in CONTRIBUTING.md: rooms, their modules, and which room imports which.

    python tools/house_map.py

Everything is read from nbs/ and from the import statements of simpool/. An arrow that follows from others is left out:
a room may use all that can be reached from it.
"""
import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = { # first number of a notebook -> room; a package is a room whatever its numbers are
    0: "core", 10: "the layer", 20: "data", 30: "networks", 38: "training", 49: "evaluation",
    64: "looking and shipping", 70: "reproduce", 80: "command line"}
BEGIN, END = "<!-- map of the house: python tools/house_map.py -->\n", "<!-- end of the map -->\n"


def modules():
    "Number of the notebook that exports each module of simpool: name -> number"
    found = {}
    for path in sorted((ROOT/"nbs").glob("[0-9]*.ipynb")):
        exports = re.search(r"#\| default_exp ([\w.]+)", path.read_text())
        if exports and exports[1] not in ("__init__", "__main__"): # these belong to no room
            found[exports[1].removesuffix(".__init__")] = int(path.stem.split("_")[0])
    return found


def room_of(name, number):
    "The room that a module is in"
    package = name.split(".")[0] if "." in name else None
    return package if package in ROOMS.values() else ROOMS[max(first for first in ROOMS if first <= number)]


def imported(name):
    "Modules of simpool that a module imports, anywhere in its code"
    path = ROOT/"simpool"/name.replace(".", "/")
    file, parts = path.with_suffix(".py"), name.split(".")
    if path.is_dir():
        file, parts = path/"__init__.py", [*parts, "__init__"]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield ".".join([*parts[:-node.level], *filter(None, [node.module])])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("simpool."):
            yield node.module.removeprefix("simpool.")


def reachable(room, arrows):
    "All rooms that a room uses, directly or through others"
    seen, waiting = set(), [room]
    while waiting:
        new = {b for a, b in arrows if a == waiting[-1]} - seen
        waiting = waiting[:-1] + sorted(new)
        seen |= new
    return seen


def draw():
    "The map as a Mermaid diagram, which GitHub and Jupyter show as a picture"
    numbers = modules()
    rooms = {name: room_of(name, number) for name, number in numbers.items()}
    used = {(rooms[name], rooms[other]) for name in numbers for other in imported(name) if other in rooms}
    arrows = {(a, b) for a, b in used if a != b}
    needed = {(a, b) for a, b in arrows if b not in reachable(a, arrows - {(a, b)})}
    key = {room: f"r{first}" for first, room in ROOMS.items()}
    lines = ["```mermaid", "flowchart BT"]
    for room in ROOMS.values():
        inside = [name.removeprefix(f"{room}.") for name in numbers if rooms[name] == room and name != room]
        rows = [" ".join(inside[i:i+5]) for i in range(0, len(inside), 5)]
        lines.append(f"    {key[room]}[\"{'<br>'.join([f'<b>{room}</b>', *rows])}\"]")
    lines += sorted(f"    {key[a]} --> {key[b]}" for a, b in needed)
    return "\n".join([*lines, "```", ""])


def page(text):
    "CONTRIBUTING.md with the map of today"
    before, rest = text.split(BEGIN)
    return before + BEGIN + draw() + END + rest.split(END)[1]


if __name__ == "__main__":
    path = ROOT/"CONTRIBUTING.md"
    path.write_text(page(path.read_text()))
