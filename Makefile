# make eval: set-up if needed, then the main command.  make test: set-up if needed, then all tests.
# make lmms: an environment with lmms-eval in it.  make test-lmms: the tests against the real lmms-eval, which CI leaves out.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VENV_LMMS ?= .venv-lmms
READY_LMMS := $(VENV_LMMS)/.ready

.PHONY: setup eval test lint clean lmms test-lmms

setup: $(READY)

$(READY): setup.cfg pyproject.toml configs/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint configs/constraints.txt --editable '.[test]'
	touch $@

eval: setup
	$(BIN)/python tools/first_eval.py --retention 0.25

test: setup
	$(BIN)/python -m pytest

lmms: $(READY_LMMS)

# torchvision from PyPI is built for CUDA and does not load beside a CPU-only torch; nothing here needs it, so there it goes again
$(READY_LMMS): setup.cfg pyproject.toml configs/constraints-lmms.txt
	$(PYTHON) -m venv $(VENV_LMMS)
	$(VENV_LMMS)/bin/pip install --quiet --upgrade pip
	$(VENV_LMMS)/bin/pip install --quiet --constraint configs/constraints-lmms.txt --editable '.[lmms]' pytest hypothesis
	$(VENV_LMMS)/bin/python -c 'import torchvision' 2> /dev/null || $(VENV_LMMS)/bin/pip uninstall --quiet --yes torchvision
	touch $@

test-lmms: lmms
	HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 TRANSFORMERS_OFFLINE=1 $(VENV_LMMS)/bin/python -m pytest tests/lmms --durations=5

lint: setup
	$(BIN)/ruff check senna_autoprune tests tools
	$(BIN)/mypy senna_autoprune

clean:
	rm -rf $(VENV) $(VENV_LMMS) build dist *.egg-info
