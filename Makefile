# Needs Python 3.11 or newer with venv, and make. Every target installs what it needs first; installing again is no work.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: setup quickstart test lint format types bench lock clean

setup: $(VENV)/installed

$(VENV)/installed: requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	touch $@

quickstart: setup
	$(BIN)/python train.py --config experiments/quickstart.toml --overwrite
	$(BIN)/python predict.py --ckpt runs/quickstart "alex lives in london"

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup
	$(BIN)/mypy

# Speed against Hugging Face's PyTorch stack, in an environment of its own; on an idle machine. GMB_CSV names the corpus; see benchmarks/run.py.
BENCH ?= all
bench: setup .venv-bench/installed
	$(BIN)/python benchmarks/run.py $(BENCH)

# PyTorch is pinned by version, not by hash: which of its wheels (CPU or CUDA) is right depends on the machine.
.venv-bench/installed: benchmarks/requirements.lock
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r benchmarks/requirements.lock
	.venv-bench/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	touch $@

# Renew the pins with uv; the lock names versions and hashes, no index.
lock: setup
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra cpu --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --no-emit-index-url --upgrade -o requirements.lock

clean:
	rm -rf $(VENV)
