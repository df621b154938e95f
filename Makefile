# One command each. Every target makes what it needs first, on a fresh clone too.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs

BUNDLE := engines/minilm/1/manifest.json

.DEFAULT_GOAL := help
.PHONY: help install demo demo-multimodal models test test-slow test-python test-lowest test-nice mutations check bench format protos clean peers promises gpu docs reference

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

install: $(STAMP)  ## make .venv with everything in it, at the pinned versions

# Made again when what it depends on changes. A .venv that is there already is kept and brought to the pins.
$(STAMP): pyproject.toml constraints.txt
	@echo "Installing torch, transformers, ONNX Runtime, gRPC and the tools of development into $(VENV). pip says nothing"
	@echo "while it works, a minute or more: it is about 2 GB with PyTorch's CPU wheels, several more with CUDA's."
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(STAMP)  ## export, prove, serve and search the standard library's documentation
	$(BIN)/python docs/demo.py

demo-multimodal: $(STAMP)  ## train two towers on pictures and captions, serve them, search each with the other
	$(BIN)/python docs/demo_multimodal.py

models: $(STAMP)  ## export and serve every stand-in, hold it against its original over gRPC; figures in docs/models.md
	$(BIN)/python -m tests.export.models_table --write

# Two workers, a module to one of them: what its tests share is made once.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadscope

test: $(STAMP)  ## the tests, all but the slow ones; minutes
	$(PYTEST) -m "not slow"

test-slow: $(STAMP)  ## the slow tests: every family of models, a million simulated requests, the demos
	$(PYTEST) -m slow

# The runtime's tests, without torch, in an environment for each interpreter. $(1): its name, $(2): pip's constraints.
define test-runtime
	@$(PYTHON) --version || { echo "$(PYTHON) can't be run: install it, or name another with PYTHON=PATH"; exit 1; }
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install -qq -c $(2) -e ".[test-runtime]"
	$(1)/bin/python -m pytest -n 2 --dist loadscope -m "not slow" tests/runtime
endef

test-python:  ## the runtime's tests on another Python: make test-python PYTHON=python3.13
	$(call test-runtime,.venv-$(notdir $(PYTHON)),constraints.txt)

test-lowest: $(STAMP)  ## the same with the oldest dependencies of pyproject.toml; PYTHON=python3.10
	@mkdir -p build
	$(BIN)/python -m tests.structure.lowest > build/lowest.txt
	$(call test-runtime,.venv-lowest,build/lowest.txt)

test-nice: $(STAMP)  ## the tests of builds, at a lower priority
	nice -n 5 $(BIN)/python -m pytest -m "not slow" tests/runtime/plans

mutations: $(STAMP)  ## take each wait, event and lock out of the lanes, see a test fail; about ten minutes; docs/mutations.md
	$(BIN)/python -m tests.mutations --write

check: $(STAMP)  ## lint, format, types, generated code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTHON) protos/generate --check

docs: $(DOCS_STAMP)  ## build the documentation site into build/docs, strictly and offline; needs Python 3.11
	$(BIN)/python docs/site.py
	$(BIN)/zensical build --strict --clean

# Its tools take 100 MB and few people build it, so they are not among those of development.
$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install -qq -c constraints.txt -e ".[docs]"
	@touch $@

reference: $(STAMP)  ## generate the pages about settings and commands from the code
	$(BIN)/python docs/reference.py

bench: $(STAMP) $(BUNDLE)  ## measure in process and over gRPC, side by side; report in build/
	@mkdir -p build
	$(BIN)/embedge bench compare inproc:engines/minilm serve:engines/minilm --json build/bench.json --html build/bench.html

$(BUNDLE): | $(STAMP)
	$(BIN)/embedge export --recipe engines/recipes/minilm.toml --out engines

format: $(STAMP)  ## put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos:  ## generate the stubs from protos/
	$(PYTHON) protos/generate

clean:  ## remove everything that was made, the environment too
	rm -rf $(VENV) .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

peers: $(STAMP) $(BUNDLE)  ## measure beside Triton and Infinity, about an hour; report in build/
	@mkdir -p build
	$(BIN)/python benchmarks/peers/compare.py engines/minilm/1 -w short -w mixed -w long --concurrency 1,8,32 \
	  --json build/peers.json --html build/peers.html

gpu: $(STAMP)  ## the tests that need a GPU, then all that is measured on one (MEASURE="--write …")
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python -m benchmarks.gpu $(MEASURE)

promises: $(STAMP) $(BUNDLE)  ## measure what we promise about speed, beside the peers; about half an hour
	$(BIN)/python benchmarks/peers/promises.py engines/minilm/1
