# make repro   set up, then train three pairs of networks and make the headline: a quarter of an hour on two cores
# make repro-all   the same for every table and figure (scale: params.yaml, or make repro-all SCALE=smoke)
# make test    set up, then run the tests (make test-slow: the long ones)
# make lab     set up, then open JupyterLab on the notebooks
# Needs Python 3.11 or newer, git and make. Everything goes into .venv; repeating any of these is harmless.
VENV := .venv
TARGET := # what dvc repro makes; none: everything
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
UV_VERSION := 0.13.8
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
unexport PYTHONDONTWRITEBYTECODE # some containers set it: each stage would compile its imports again, 13 seconds here

.PHONY: repro repro-all rerun test test-slow check oldest drill lab bench docs env lib readme lock help
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

repro: env ## train three pairs of networks and make the headline, of the scale in params.yaml or of SCALE=small
repro: TARGET := headline
repro-all: env ## regenerate every table and figure, also of SCALE=smoke, mini, small, paper, rehearsal
repro repro-all:
	@$(if $(SCALE),"$(BIN)"/python tools/set_scale.py $(SCALE))
	@$(if $(filter rehearsal,$(SCALE)),"$(BIN)"/python tools/make_rehearsal_data.py)
	"$(BIN)"/dvc repro $(TARGET)

test: env $(VENV)/.docs ## notebooks and all else, but for the long tests
	"$(BIN)"/python -m pytest -q -n auto --dist loadgroup -m "not slow"

test-slow: env $(VENV)/.docs ## the long tests: every stage on a few scenes, switching scales, the site, a share of the drills
	"$(BIN)"/python -m pytest -q -n auto --dist loadgroup -m slow

check: env ## run the notebooks again and compare every output with the committed one; which results are fresh
	"$(BIN)"/python tools/check.py

oldest: env ## the library's notebooks with the oldest packages that pyproject.toml allows, in an environment of their own
	"$(BIN)"/uv venv --quiet --allow-existing --python "$(BIN)"/python .venv-oldest
	"$(BIN)"/uv pip install --quiet --python .venv-oldest --resolution lowest-direct -e ".[reproduce,dev,explore,export]"
	PATH="$(CURDIR)/.venv-oldest/bin:$$PATH" .venv-oldest/bin/python -m pytest -q tests/test_notebooks.py

drill: env ## hunt for silent faults, tracebacks, hangs and lost results with random cases: 18 minutes on two cores
	"$(BIN)"/python tools/drill

lab: env ## JupyterLab on the notebooks
	"$(BIN)"/jupyter lab --config=tools/jupyter_server_config.py --ServerApp.root_dir="$(CURDIR)" nbs/index.ipynb

bench: $(VENV)/.bench ## speed beside lightly, faiss, scikit-learn and timm; needs an otherwise idle machine
	"$(BIN)"/dvc repro --force bench/dvc.yaml

docs: $(VENV)/.docs ## the documentation as a site in docs/_build/html: a minute, without network
	"$(BIN)"/python docs/make_site.py

rerun: env ## run every stage again, even those that are up to date
	"$(BIN)"/dvc repro --force

lib: env ## notebooks -> package, and notebooks without volatile metadata
	"$(BIN)"/nbdev-export
	"$(BIN)"/nbdev-clean
	"$(BIN)"/python tools/strip_experiments.py

readme: env ## nbs/index.ipynb -> README.md
	"$(BIN)"/python tools/make_readme.py

COMPILE = "$(BIN)"/uv pip compile --universal --generate-hashes --no-annotate --no-header --python-version 3.11
lock: env ## requirements.in -> requirements.lock, and the same for the packages of tests, benchmark and docs
	$(COMPILE) requirements.in -o requirements.lock
	for of in tests bench docs; do $(COMPILE) $$of/requirements.in -c requirements.lock -o $$of/requirements.lock || exit 1; done

env: $(VENV)/.ready ## virtual environment with the locked packages and this package, editable

$(VENV)/.ready: requirements.lock tests/requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found: install it, or name it with make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version): about 250 packages, 6 GB, a minute on a fast line"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python could not make a virtual environment: on Debian, apt install python3-venv" >&2; exit 1; }
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(VENV)/bin/uv pip install --python $(VENV)/bin/python --require-hashes -r requirements.lock -r tests/requirements.lock
	@$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --no-deps --no-build-isolation -e .
	@touch $@
	@echo "ready: make repro, make lab, or . $(VENV)/bin/activate and simpool --help"

$(VENV)/.bench $(VENV)/.docs: $(VENV)/.%: $(VENV)/.ready %/requirements.lock
	@"$(BIN)"/uv pip install --quiet --python "$(BIN)"/python --require-hashes -r $*/requirements.lock
	@touch $@
