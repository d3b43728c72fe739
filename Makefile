# Everything sets itself up: `make test` on a fresh machine makes the virtual environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: quickstart test lint types docs docs-figures build smoke acceptance benchmark torture matrix gpu clean

quickstart: $(READY)
	$(BIN)/hf-paint quickstart

test: $(READY)
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/documentation

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

types: $(READY)
	$(BIN)/python tests/release/known_types.py

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --clean
	$(BIN)/python docs/check_site.py site
	$(BIN)/pytest tests/documentation -n 2

build: $(READY)
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

smoke: build
	$(PYTHON) tests/release/smoke.py dist

docs-figures: $(READY)
	$(BIN)/python docs/figures/make.py

acceptance: $(READY)
	$(BIN)/python tests/acceptance/nodes.py
	$(BIN)/python tests/acceptance/run.py

benchmark: $(READY)
	$(BIN)/python tests/benchmarks/run.py

torture: $(READY)
	$(BIN)/python tests/torture/run.py

matrix:
	$(PYTHON) tests/matrix.py

gpu: $(READY)
	$(BIN)/python tests/benchmarks/gpu.py

clean:
	rm -rf $(VENV) build dist site src/*.egg-info

# torch goes first and by itself: where the index offers a CPU build, nothing else may pull another one in.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[all,dev,docs]"
	touch $(READY)
