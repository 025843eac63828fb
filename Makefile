# make eval: set-up if needed, then the main command.  make test: set-up if needed, then all tests.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup eval test lint clean

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

lint: setup
	$(BIN)/ruff check senna_autoprune tests tools
	$(BIN)/mypy senna_autoprune

clean:
	rm -rf $(VENV) build dist *.egg-info
