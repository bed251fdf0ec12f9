"The page of the explorer: one file, nothing fetched; in Chromium its maps are those of PyTorch."
import base64
import gzip
import re
import time

import numpy as np
import onnxruntime
import pytest
import torch

from simpool.checkpoint import load_checkpoint
from simpool.data.transforms import normalize
from simpool.explorer import example_pictures, export_html
from simpool.maps import similarity_maps
from simpool.watch import attention_maps, to_batch

NAMES = ("supervised-vit-baseline", "supervised-vit-simpool")


@pytest.fixture(scope="module")
def networks():
    return {name: load_checkpoint(name)[0] for name in NAMES}


@pytest.fixture(scope="module")
def page(networks, tmp_path_factory):
    return export_html(networks, tmp_path_factory.mktemp("page")/"explore.html")


def test_one_file_that_fetches_nothing(page):
    text = page.read_text("utf-8")
    markup = re.sub("<script.*?</script>", "", text, flags=re.S)
    assert not re.search(r"""(src|href|action|data)\s*=\s*["']?\s*(https?:)?//|@import|url\(""", markup, re.I)
    assert "default-src 'none'" in markup
    assert len(text) < 12e6


def test_networks_inside_are_those_of_pytorch(page, networks):
    text, images = page.read_text("utf-8"), example_pictures()[0][:2]
    for i, (name, model) in enumerate(networks.items()):
        content = re.search(rf'id="network-{i}">([^<]+)<', text)[1]
        session = onnxruntime.InferenceSession(gzip.decompress(base64.b64decode(content)))
        outputs = [output.name for output in session.get_outputs()]
        found = dict(zip(outputs, session.run(None, dict(images=normalize(to_batch(images), model.stats).numpy()))))
        with torch.no_grad():
            tokens, grid = model.float().tokens(normalize(to_batch(images), model.stats))
        np.testing.assert_allclose(found["tokens"], tokens.unflatten(1, grid), atol=2e-3*float(tokens.abs().max()))
        if "baseline" in name:
            np.testing.assert_allclose(found["attention"].mean(1), attention_maps(model, images), atol=1e-4)


def open_page(browser, page, **options):
    "The page, ready, and the addresses that it asked for"
    tab, asked = browser.new_page(**options), []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    end = time.monotonic() + 120
    while not tab.evaluate("window.explorer?.ready || window.explorer?.error"):
        assert time.monotonic() < end, tab.inner_text("#status")
        time.sleep(.1)
    assert not tab.evaluate("window.explorer.error")
    return tab, asked


def test_maps_are_those_of_pytorch(browser, page, networks):
    tab, asked = open_page(browser, page)
    image = example_pictures()[0][0]
    tab.evaluate("state.size = 192") # of the example itself: nothing is resized
    maps = {}
    for view in ("own", "gap"):
        tab.evaluate(f"state.view = '{view}'")
        tab.evaluate("look()")
        maps[view] = tab.evaluate("explorer.networks.map(n => Array.from(n.map))")
    for k, model in enumerate(networks.values()):
        for view, right in (("own", attention_maps), ("gap", similarity_maps)):
            np.testing.assert_allclose(maps[view][k], right(model, image).flatten(), atol=1e-4)
    assert [url for url in asked if not url.startswith("blob:")] == [page.as_uri()]


def test_everything_moves_the_picture(browser, page):
    "Sliders, the kind of map, a patch by mouse and by keyboard; Escape leads back"
    tab, _ = open_page(browser, page, viewport=dict(width=390, height=844), color_scheme="dark")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390 # no sideways scrolling on a phone
    def seen():
        tab.evaluate("draw()")
        return tab.evaluate("explorer.networks[1].canvas.toDataURL()")
    before = first = seen()
    for action in ("$('temperature').value = .7", "$('opacity').value = 30", "$('mass').value = 50",
                   "$('smooth').checked = true", "state.view = 'share'", "state.gamma = 8", "state.view = 'max'"):
        tab.evaluate(action)
        after = seen()
        assert after != before, action
        before = after
    tab.reload()
    while not tab.evaluate("window.explorer?.ready"):
        time.sleep(.1)
    canvas = tab.locator("figure canvas").nth(2)
    canvas.focus()
    for key in ("ArrowRight", "ArrowDown"):
        canvas.press(key)
        after = seen()
        assert after != first, key
        first, before = after, first
    canvas.press("Escape")
    assert tab.evaluate("state.query") is None
