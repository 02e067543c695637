# `make` sets up and runs everything that this machine can; `make test` runs the test suite, `make test-long` the rest of it.
PYTHON ?= python3
CORES ?= all
BIN := .venv/bin

.PHONY: all setup test test-long lint format clean

all: setup
	$(BIN)/python -m bench run --cores $(CORES) $(TARGET)

setup: .venv/installed

# torch comes first: the other pins are then resolved around the build that was chosen. From PyPI, on Linux, that is the one
# for CUDA 13, with NVIDIA's libraries gigabytes, without a GPU too. From PyTorch's own index TORCH=cpu takes the one without
# CUDA, TORCH=cu126 one for drivers from 525 on; `make -B setup TORCH=...` puts it in the place of another.
# UV=uv installs the same packages with uv, for a fifth of pip's processor time or less.
TORCH_BUILD := $(if $(TORCH),+$(TORCH) --extra-index-url https://download.pytorch.org/whl/$(TORCH))
INSTALL := $(if $(UV),$(UV) pip install --quiet --python $(BIN)/python,$(BIN)/pip install --quiet --disable-pip-version-check)

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) tools/check_python.py
	$(PYTHON) -m venv .venv
	$(INSTALL) "$$(grep '^torch==' requirements.txt)"$(TORCH_BUILD)
	$(INSTALL) -r requirements.txt
	$(INSTALL) --no-deps --no-build-isolation -e .
	touch $@

test: setup
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

# What takes too long for every change: many seeds, many mutations, whole pipelines.
test-long: setup
	$(BIN)/python -m pytest -n auto --dist worksteal -m long $(ARGS)

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
