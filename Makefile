# make eval: set-up if needed, then the main command.  make test: set-up if needed, then all tests.  All targets: CONTRIBUTING.md.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VENV_LMMS ?= .venv-lmms
READY_LMMS := $(VENV_LMMS)/.ready
VENV_DOCS ?= .venv-docs
READY_DOCS := $(VENV_DOCS)/.ready
VENV_MUTANTS ?= .venv-mutants
READY_MUTANTS := $(VENV_MUTANTS)/.ready
VENV_NEWEST ?= .venv-newest
# of make test: processes
WORKERS ?= 2
# names of mutants, with wildcards, as mutmut prints them; empty: all that have no result yet, or this share of them, and with AGAIN survivors; ENOUGH: seconds of tests
MUTANTS ?=
SAMPLE ?= 1
AGAIN ?=
ENOUGH ?=

# tests of under a minute together on one idle core: pure functions, methods, measures, rules, laws
FAST := tests/test_habits.py tests/docs/test_add_a_method.py tests/docs/test_commands.py tests/docs/test_links.py tests/docs/test_tables.py \
	tests/cli/test_lazy.py tests/evaluation/measures tests/evaluation/runs/test_durable.py tests/evaluation/sweep/test_table.py tests/files \
	tests/fuzz/test_schedule.py tests/lmms/test_answers.py tests/nuscenes/test_rules.py tests/nuscenes/test_streaming.py \
	tests/pruning/test_budget.py tests/pruning/test_checks.py tests/pruning/parts tests/pruning/methods/test_front_door.py tests/pruning/methods/test_pure.py tests/replay/test_heat.py \
	tests/senna/test_expansion.py tests/senna/test_modeling.py tests/senna/test_processing.py tests/senna/test_prompts.py \
	tests/senna/test_tokenization.py

.PHONY: setup eval test test-fast lint clean lmms test-lmms docs bench bench-gpu test-gpu mutants hooks test-newest test-slow verdict

setup: $(READY)

$(READY): setup.cfg pyproject.toml configs/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint configs/constraints.txt --editable '.[test]'
	touch $@

eval: setup
	$(BIN)/python tools/maintain/first_eval.py --retention 0.25

# one process a core, each of one thread: on two cores half the time of one process of two threads
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-fast: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(FAST)

# every method's certificate on the embedded model -> docs/results/budget, and the first block of the README
verdict: setup
	$(BIN)/python tools/maintain/verdict.py

# simulations of 10,000 models; their figures are in docs/results/statistics.md
test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/evaluation/budget/slow_false_safe.py

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

# the newest transformers of the registry, also above the bound of setup.cfg: a break is seen before users see it; made afresh each time
test-newest:
	$(PYTHON) -m venv --clear $(VENV_NEWEST)
	$(VENV_NEWEST)/bin/pip install --quiet --constraint configs/constraints.txt --editable '.[test]'
	$(VENV_NEWEST)/bin/pip install --quiet --upgrade transformers
	$(VENV_NEWEST)/bin/pip list | grep '^transformers '
	HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 $(VENV_NEWEST)/bin/python -m pytest -q tests/pruning tests/senna tests/adapters tests/cli/test_doctor.py

lint: setup
	$(BIN)/ruff check senna_autoprune tests tools
	$(BIN)/ruff format --check --quiet senna_autoprune tests tools
	$(BIN)/mypy senna_autoprune
	$(BIN)/typos

hooks: setup
	$(BIN)/pip install --quiet --constraint configs/constraints.txt --editable '.[dev]'
	$(BIN)/pre-commit install

# the site is plain Markdown; its builder has an environment of its own, without torch
docs: $(READY_DOCS)
	NO_MKDOCS_2_WARNING=1 $(VENV_DOCS)/bin/mkdocs build --quiet --strict --config-file configs/mkdocs.yml

$(READY_DOCS): configs/constraints.txt
	$(PYTHON) -m venv $(VENV_DOCS)
	$(VENV_DOCS)/bin/pip install --quiet --constraint configs/constraints.txt mkdocs-material
	touch $@

bench: setup
	$(BIN)/senna-prune bench

# the 7B shape in bfloat16 on one GPU: stages by CUDA events, kernels, peak memory, shares of both bounds, batches
bench-gpu: setup
	$(BIN)/senna-prune bench --shape senna-7b --dtype bfloat16 --device cuda --rounds 9 --control-rounds 9 --batch-size 2,4,8 --concurrency 2,4,8

# what must hold on every device, on one GPU; without one it fails and says so
test-gpu: setup
	SENNA_NEEDS_GPU=1 $(BIN)/python -m pytest tests/gpu

# one mutant at a time on one thread; goes on where it was stopped: mutants/ keeps what was done
mutants: $(READY_MUTANTS)
	OMP_NUM_THREADS=1 SENNA_SHARED=$(abspath ../shared) $(VENV_MUTANTS)/bin/python tools/maintain/mutants.py --sample $(SAMPLE) $(if $(AGAIN),--again) $(if $(ENOUGH),--enough $(ENOUGH)) $(MUTANTS)
	$(VENV_MUTANTS)/bin/mutmut results

$(READY_MUTANTS): setup.cfg configs/constraints.txt
	$(PYTHON) -m venv $(VENV_MUTANTS)
	$(VENV_MUTANTS)/bin/pip install --quiet --constraint configs/constraints.txt --editable '.[test,mutants]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV_LMMS) $(VENV_DOCS) $(VENV_MUTANTS) $(VENV_NEWEST) build dist mutants *.egg-info
