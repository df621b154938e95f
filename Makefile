# One command each. Every target makes what it needs first, on a fresh clone too.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test check format protos clean

help:  ## show the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

install: $(STAMP)  ## make .venv with everything in it, at the pinned versions

# Made again when what it depends on changes. A .venv that is there already is kept and brought to the pins.
$(STAMP): pyproject.toml constraints.txt
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(STAMP)  ## export, prove, serve and search the standard library's documentation
	$(BIN)/python docs/demo.py

test: $(STAMP)  ## all tests
	$(BIN)/python -m pytest

check: $(STAMP)  ## lint, format, types, generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	protos/generate --check

format: $(STAMP)  ## put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos:  ## generate the stubs from protos/
	protos/generate

clean:  ## remove everything that was made, the environment too
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
