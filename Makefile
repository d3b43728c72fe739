# Everything sets itself up: `make test` on a fresh machine makes the virtual environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: quickstart test lint acceptance benchmark clean

quickstart: $(READY)
	$(BIN)/hf-paint quickstart

test: $(READY)
	$(BIN)/pytest -n 2 --dist loadgroup

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

acceptance: $(READY)
	$(BIN)/python tests/acceptance/run.py

benchmark: $(READY)
	$(BIN)/python tests/benchmarks/run.py

clean:
	rm -rf $(VENV) build dist src/*.egg-info

# Everything is written after torch, which pip finds as a CPU build where there is no accelerator.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[quickstart,dev]"
	touch $(READY)
