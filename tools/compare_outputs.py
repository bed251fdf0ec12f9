"""Compare the outputs of a notebook's cell with those of another run: identical, close, volatile or different.

`tools/check.py` says what these mean.
"""
import base64
import io
import re

import numpy as np
from PIL import Image

RELATIVE, ABSOLUTE = 1e-3, 1e-5 # tolerances of "close": of numbers, of numbers near 0
LEVELS, FAR, SHARE = 1.0, 8, 1e-4 # of pictures: 255 levels on average, levels of a pixel that is far off, their share
NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d,]*(?:\.\d*)?(?:e[-+]?\d+)?")
WIDGET = "application/vnd.jupyter.widget-view+json"
RANK = dict(identical=0, close=1, volatile=2, different=3)


def flagged(cell, flag):
    "Whether a cell has a directive such as `#| slow`"
    return bool(re.search(rf"^#\| *{flag}\b", cell.source, re.M))


def value(number):
    "A printed number and one unit of its last decimal; whole numbers have none, since they may be counts"
    number = number.replace(",", "").replace("−", "-")
    digits, _, exponent = number.partition("e")
    rounded = "." in number or exponent
    return float(number), 10.**(int(exponent or 0) - len(digits.partition(".")[2])) if rounded else 0.


def compare_numbers(old, new):
    "(whether the numbers of two texts are close, the pair that is furthest apart)"
    ok, worst, words = True, -1., ""
    for a, b in zip(old, new):
        (x, unit), (y, other) = value(a), value(b)
        allowed = max(RELATIVE*max(abs(x), abs(y)), 1.001*max(unit, other), ABSOLUTE)
        if abs(x - y)/allowed > worst:
            worst, words = abs(x - y)/allowed, f"{a} is now {b}"
        ok = ok and abs(x - y) <= allowed
    return ok, words


def first_difference(old, new):
    "Where two texts part"
    old, new = old.split(), new.split()
    at = next((i for i, (a, b) in enumerate(zip(old, new)) if a != b), min(len(old), len(new)))
    return f"{' '.join(old[at:at+5])!r} is now {' '.join(new[at:at+5])!r}"


def compare_text(old, new):
    "Words must be equal, layout need not be: a number of another width moves its column"
    if old == new:
        return "identical", ""
    words = [re.sub(r"[\s─━-]+", " ", NUMBER.sub("#", text)).strip() for text in (old, new)]
    if words[0] != words[1]:
        return "different", first_difference(old, new)
    ok, words = compare_numbers(NUMBER.findall(old), NUMBER.findall(new))
    return "close" if ok else "different", words or "layout"


def compare_images(old, new):
    """Pictures of the same size, by their decoded pixels as they look on white

    A mean alone would accept another title: few pixels change, but they change much.
    """
    if old == new:
        return "identical", ""
    old, new = [Image.open(io.BytesIO(base64.b64decode(i))).convert("RGBA") for i in (old, new)]
    if old.size != new.size:
        return "different", "picture of {} x {} is now {} x {}".format(*old.size, *new.size)
    if old.tobytes() == new.tobytes():
        return "identical", ""
    white = Image.new("RGBA", old.size, "white")
    old, new = [np.asarray(Image.alpha_composite(white, i).convert("RGB"), float) for i in (old, new)]
    distance = np.abs(old - new)
    mean, far = distance.mean(), (distance.max(2) > FAR).mean()
    why = f"picture, {mean:.3g} of 255 on average, {far:.2%} of its pixels by over {FAR}"
    return "close" if mean <= LEVELS and far <= SHARE else "different", why


def shown(outputs):
    "What a cell shows: (kind, content) of each output, streams joined, without stderr and widgets, which are not saved"
    found = []
    for o in outputs:
        if o.output_type == "stream" and o.name == "stdout":
            before = found.pop()[1] if found and found[-1][0] == "text" else ""
            found.append(("text", before + o.text))
        if o.output_type == "error":
            found.append(("error", f"{o.ename}: {o.evalue}"))
        for kind, content in sorted(o.get("data", {}).items()):
            if kind == WIDGET:
                continue
            found.append((kind, re.sub(r" at 0x[0-9a-f]+(?=>)", "", str(content)))) # nbdev-clean drops addresses too
    return found


def compare_cell(old, new, volatile=False):
    "(result, why) of a cell: that of its worst output"
    old, new = shown(old), shown(new)
    kinds, now = [kind for kind, _ in old], [kind for kind, _ in new]
    if "error" in now:
        return "different", new[now.index("error")][1]
    if kinds != now:
        return "different", f"{', '.join(kinds) or 'nothing'} is now {', '.join(now) or 'nothing'}"
    if old == new: # also where both show nothing
        return "identical", ""
    if volatile:
        return "volatile", ""
    found = [(compare_images if kind in ("image/png", "image/jpeg") else compare_text)(a, b)
             for (kind, a), (_, b) in zip(old, new)]
    return max(found, key=lambda f: RANK[f[0]])
