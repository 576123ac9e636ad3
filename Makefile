# make demo   set up and run the whole loop on this machine      make test      set up and run the fast tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export SELFDEV_HOME ?= $(CURDIR)/.selfdev
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-all test-mergekit test-vllm lint bench bench-loop bench-families bench-sandbox bench-durability \
	bench-merge bench-grading bench-vllm clean help
help:
	@echo "make demo | test | test-all | test-mergekit | test-vllm | lint | clean"
	@echo "make bench | bench-loop | bench-families | bench-sandbox | bench-durability | bench-merge | bench-grading | bench-vllm"

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("selfdev needs Python 3.11 or newer; set PYTHON=…" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/selfdev demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow"

test-all: $(INSTALLED)
	$(BIN)/python -m pytest

test-mergekit: $(INSTALLED)
	$(BIN)/python -m pytest -m mergekit

VLLM := $(SELFDEV_HOME)/vllm/environment/bin/python
$(VLLM): | $(INSTALLED)
	$(BIN)/selfdev vllm install --cpu

test-vllm: $(INSTALLED) $(VLLM)
	VLLM_PYTHON=$(VLLM) $(BIN)/python -m pytest -m vllm tests/vllm

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: bench-loop

bench-loop: $(INSTALLED)
	$(BIN)/python -m benchmarks.loop

bench-families: $(INSTALLED)
	$(BIN)/python -m benchmarks.families

bench-sandbox: $(INSTALLED)
	$(BIN)/python -m benchmarks.sandbox

bench-durability: $(INSTALLED)
	$(BIN)/python -m benchmarks.durability

bench-merge: $(INSTALLED)
	$(BIN)/python -m benchmarks.merge

bench-grading: $(INSTALLED)
	$(BIN)/python -m benchmarks.grading

bench-vllm: $(INSTALLED) $(VLLM)
	VLLM_PYTHON=$(VLLM) $(BIN)/python -m benchmarks.vllm

clean:
	-$(BIN)/selfdev server stop
	rm -rf $(VENV) .venv-mergekit .selfdev
