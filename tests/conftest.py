"""Tests call tools' `main`, which changes the process it runs in as if nothing came after."""
import os
import signal

import pytest

BEGAN = dict(os.environ) # before test modules are imported


def pytest_collection_finish(session):
    "Undo what the import of a test module changed in the environment"
    os.environ.clear()
    os.environ.update(BEGAN)


@pytest.fixture(autouse=True)
def process_as_before():
    "Give the next test the working directory, the environment and the signal handlers that this one began with"
    folder, environment = os.getcwd(), dict(os.environ)
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    yield
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, handler in handlers.items():
        signal.signal(number, handler)
