# Needs Python 3.11, 3.12 or 3.13 with venv, and make. Every target installs what it needs first; installing again is no work.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: setup quickstart test test-slow test-tf220 ray test-ray lint format types bench kills tpu-check lock clean

setup: $(VENV)/installed

$(VENV)/installed: requirements.lock
	@$(PYTHON) tools/can_install.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	touch $@

quickstart: setup
	$(BIN)/python train.py --config experiments/quickstart.toml --overwrite
	$(BIN)/python predict.py --ckpt runs/quickstart "alex lives in london"

test: setup
	$(BIN)/python -m pytest -n 2 -m "not slow"

# The tests that train for minutes.
test-slow: setup
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m slow

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

# A run killed a hundred times, against one never killed; takes about half an hour.
kills: setup
	$(BIN)/python tests/kills.py

# An update compiled for a TPU that need not be there; see tools/tpu_check.py and docs/scaling.md.
TOPOLOGY ?= v3:2x2
CONFIG ?= experiments/gmb_bert_base.toml
tpu-check: setup .venv-tpu/installed
	$(BIN)/python tools/tpu_check.py --topology $(TOPOLOGY) --config $(CONFIG) $(ARGUMENTS)

.venv-tpu/installed: tools/tpu.lock
	$(PYTHON) -m venv .venv-tpu
	.venv-tpu/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r tools/tpu.lock
	touch $@

# The tests on the newest TensorFlow that has a TPU wheel. Its tensorboard needs pkg_resources, which setuptools 82 dropped.
test-tf220: .venv-tf220/installed
	.venv-tf220/bin/python -m pytest

.venv-tf220/installed: requirements.lock
	$(PYTHON) -m venv .venv-tf220
	.venv-tf220/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	.venv-tf220/bin/pip install --quiet --disable-pip-version-check --no-deps tensorflow-cpu==2.20.0 tensorboard==2.20.0 setuptools==81.0.0
	touch $@

# An environment with Ray, for tag.py and launch.py: that of `make setup` and what Ray needs. RAY_VENV=.venv adds it to that of `make setup`.
RAY_VENV ?= .venv-ray
ray: $(RAY_VENV)/installed-ray

$(RAY_VENV)/installed-ray: ray.lock
	[ -d $(RAY_VENV) ] || $(PYTHON) -m venv $(RAY_VENV)
	$(RAY_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r ray.lock
	touch $@

# The tests that start Ray.
test-ray: ray
	$(RAY_VENV)/bin/python -m pytest -m slow tests/test_tag.py tests/test_launch.py

# Renew the pins with uv; the locks name versions and hashes, no index. What both have is the same version.
lock: setup
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra cpu --extra onnx --extra dev --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --no-emit-index-url --upgrade -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra cpu --extra onnx --extra dev --extra ray --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --no-emit-index-url --upgrade -c requirements.lock -o ray.lock

clean:
	rm -rf $(VENV) .venv-bench .venv-tpu .venv-tf220 .venv-ray
