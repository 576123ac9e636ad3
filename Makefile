# make demo   set up and run the whole loop on this machine      make test      set up and run the fast tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export SELFDEV_HOME ?= $(CURDIR)/.selfdev
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-all lint bench bench-loop bench-families bench-sandbox bench-durability clean help
help:
	@echo "make demo | test | test-all | lint | bench | bench-loop | bench-families | bench-sandbox | bench-durability | clean"

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

clean:
	-$(BIN)/selfdev server stop
	rm -rf $(VENV) .selfdev
