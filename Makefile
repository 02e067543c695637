# `make` sets up and runs everything that this machine can; `make test` runs the test suite, `make test-long` the rest of it.
PYTHON ?= python3
CORES ?= all
BIN := .venv/bin

.PHONY: all setup test test-long lint format clean

all: setup
	$(BIN)/python -m bench run --cores $(CORES) $(TARGET)

setup: .venv/installed

# torch comes first and pinned: anything looser fetches gigabytes on machines without a GPU
.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

test: setup
	$(BIN)/python -m pytest -n auto $(ARGS)

# What takes too long for every change: many seeds, many mutations.
test-long: setup
	$(BIN)/python -m pytest -n auto -m long $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/codespell
	$(BIN)/snakemake --lint

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/snakefmt Snakefile workflow

# Everything generated, records included; the committed reference stays.
clean:
	rm -rf results/runs results/live results/kept results/checkpoints results/noise results/datasets results/figures results/logs results/*.csv report/report.html .snakemake
