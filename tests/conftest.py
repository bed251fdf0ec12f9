"""Tests call tools' `main`, which changes the process it runs in as if nothing came after."""
import os
import shutil
import signal

import pytest

if "PYTEST_XDIST_WORKER" in os.environ: # one of several processes that test side by side: a core for each
    os.environ["OMP_NUM_THREADS"] = "1"
BEGAN = dict(os.environ) # before test modules are imported


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes long, 20 seconds to 4 minutes; `make test-slow` runs it")


def pytest_collection_modifyitems(items):
    "Leave the tests of a file to one process, as they share what was made for them; notebooks share nothing"
    for item in items:
        if item.path.stem != "test_notebooks":
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_collection_finish(session):
    "Undo what the import of a test module changed in the environment"
    os.environ.clear()
    os.environ.update(BEGAN)


@pytest.fixture(autouse=True)
def process_as_before():
    "Give the next test the working directory, the environment and the signal handlers that this one began with"
    folder, environment = os.getcwd(), dict(os.environ)
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)}
    yield
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def browser():
    "Chromium, which asks nothing of the network by itself"
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("there is no Chromium on this machine: no page is opened")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no page is opened")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*quiet, "--disable-sync"])
        yield browser
        browser.close()
