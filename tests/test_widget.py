"The explorer in JupyterLab: in Chromium its pictures are those of Python, and sliders, clicks and keys move them."
import base64
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import pytest
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from PIL import Image
from traitlets.config import PyFileConfigLoader

from simpool.widget import Exploration

ROOT = Path(__file__).parents[1]
NAMES = {"CLS": "supervised-vit-baseline", "SimPool": "supervised-vit-simpool"}
CELL = f"""
import os
import numpy as np
from simpool.widget import explore
pictures = np.load("pictures.npz")
os.chdir({str(ROOT)!r}) # where the networks are found by name
explore({NAMES!r}, pictures["image"], pictures["mask"], mass=60)
"""
OPEN = ".jp-NotebookPanel:not(.lm-mod-hidden)"
QUIET = {"apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
         "notebook-extension/tracker": '{"autoStartDefaultKernel": true}'} # no question which kernel


def pictures():
    "Two pictures with a disk, and where it is"
    rows, columns = np.mgrid[:96, :96]
    masks = np.stack([np.hypot(rows - y, columns - x) < 22 for y, x in ((40, 30), (60, 66))])
    noise = np.random.default_rng(0).integers(0, 60, (2, 96, 96, 3))
    return (noise + np.where(masks[..., None], [180, 60, 40], [40, 90, 60])).astype(np.uint8), masks


def write_settings(folder, **settings):
    "Settings of a JupyterLab that asks nothing and fetches nothing"
    for name, text in {**QUIET, **settings}.items():
        path = folder/"settings"/"@jupyterlab"/f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    places = dict(LAB_SETTINGS="settings", LAB_WORKSPACES="workspaces", _CONFIG="config", _RUNTIME="runtime")
    return {f"JUPYTER{name}_DIR": str(folder/place) for name, place in places.items()} | dict(TQDM_DISABLE="1")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "Address of a JupyterLab with a notebook of one cell"
    if not shutil.which("jupyter", path=os.path.dirname(sys.executable)):
        pytest.skip("JupyterLab is not installed: the explorer is not opened")
    folder, hidden = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("hidden")
    image, mask = pictures()
    np.savez(folder/"pictures.npz", image=image, mask=mask)
    kernel = dict(name="python3", display_name="Python 3", language="python")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)], metadata=dict(kernelspec=kernel)),
                   folder/"explore.ipynb")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root",
               "--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}",
               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with open(hidden/"log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | write_settings(hidden))
    try:
        wait(lambda: answers(f"http://127.0.0.1:{port}/api"), "JupyterLab does not start", 60)
        yield f"http://127.0.0.1:{port}/lab/tree/explore.ipynb?reset"
    finally:
        server.terminate()
        server.wait(20)


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=1)
    except OSError:
        return None


def wait(condition, words, seconds=40):
    "Wait until a condition holds"
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, words
        time.sleep(.05)
    return found


@pytest.fixture(scope="module")
def tab(browser, lab):
    tab = browser.new_page(viewport=dict(width=1400, height=1000))
    tab.asked = []
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.set_default_timeout(60_000)
    tab.goto(lab)
    tab.locator(f"{OPEN} .jp-Cell").first.wait_for()
    wait(lambda: re.search(r"\| (Idle|Busy)", tab.inner_text("#jp-main-statusbar")), "the kernel does not start")
    tab.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
    tab.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
    tab.locator(".simpool-stage figure").nth(2).wait_for()
    yield tab
    tab.close()


def shown(tab, k):
    "Pixels of a panel as Chromium has them"
    url = tab.evaluate("""k => {
        const image = document.querySelectorAll(".simpool-stage figure img")[k];
        const canvas = document.createElement("canvas");
        if (!image.complete || !image.naturalWidth) return "";
        Object.assign(canvas, {width: image.naturalWidth, height: image.naturalHeight});
        canvas.getContext("2d").drawImage(image, 0, 0);
        return canvas.toDataURL();
    }""", k)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")) if url else None


def check(tab, exploration, words):
    "Wait until every panel and its words are those that Python gives"
    names = [None, *NAMES]
    def same():
        captions = tab.locator(".simpool-stage figcaption span").all_inner_texts()
        right = all(text.splitlines() == exploration.caption(name) for text, name in zip(captions[1:], names[1:]))
        return right and all(np.array_equal(shown(tab, k), np.asarray(exploration.panel(name)))
                             for k, name in enumerate(names))
    wait(same, f"{words}: the browser shows something else")


def test_browser_shows_what_python_computes(tab):
    "Sliders, a click, keys and a file, one after another, as a reader would"
    exploration = Exploration(NAMES, *pictures(), mass=60)
    check(tab, exploration, "at the beginning")
    opacity = tab.locator(".widget-slider", has_text="Opacity of the map").locator(".noUi-handle")
    opacity.focus()
    opacity.press("ArrowLeft")
    exploration.set(opacity=65)
    check(tab, exploration, "slider")
    picture = tab.locator(".simpool-stage figure img").nth(2)
    size = picture.bounding_box()
    picture.click(position=dict(x=.31*size["width"], y=.45*size["height"]))
    exploration.set(patch=(.31, .45))
    check(tab, exploration, "click")
    tab.locator(".simpool-stage").press("ArrowRight")
    exploration.set(index=1)
    check(tab, exploration, "right")
    tab.locator(".simpool-stage .strip button").nth(0).click()
    exploration.set(index=0)
    check(tab, exploration, "thumbnail")
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save as NPZ").click()
    with np.load(download.value.path()) as saved:
        for name, weights in exploration.maps().items():
            np.testing.assert_array_equal(saved[f"{name}, map"], weights)
    assert all(url.startswith(("http://127.0.0.1:", "blob:", "data:")) for url in tab.asked) # nothing leaves


def test_saved_without_widgets():
    "`make lab` saves the picture of an explorer, and no widget, which would be another in each kernel"
    config = PyFileConfigLoader("jupyter_server_config.py", str(ROOT/"tools")).load_config()
    manager = AsyncLargeFileManager(root_dir=str(ROOT), config=config)
    path = ROOT/"nbs"/"68_widget.ipynb"
    model = dict(type="notebook", format="json", content=json.loads(path.read_text()))
    pictures = [o["data"] for cell in model["content"]["cells"] for o in cell.get("outputs", []) if "data" in o]
    assert any("image/png" in data for data in pictures), "the notebook shows no picture"
    for data in pictures:
        data["application/vnd.jupyter.widget-view+json"] = dict(model_id="of this kernel", version_major=2)
    model["content"]["metadata"]["widgets"] = dict(state="much")
    manager.run_pre_save_hooks(model=model, path=str(path.relative_to(ROOT)))
    assert nbformat.reads(json.dumps(model["content"]), 4) == nbformat.read(path, 4)
