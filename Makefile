# Two commands do all the set-up on a machine with Python >= 3.11 and make:
#   make demo   the seed's product and a trained network's kernel, in JAX
#   make test   everything that CI runs, in JAX and PyTorch

# 3.11 first: the versions in constraints/tested.txt are those for it.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
CONSTRAINTS ?= constraints/tested.txt
WORKERS ?= 2
PYTEST_ARGS ?=

bin = $(VENV)/bin
pip = $(bin)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint types format tests docs clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

demo: $(VENV)/.demo  ## run the demo (JAX only)
	$(bin)/jacgram demo

test: $(VENV)/.test lint types tests  ## lint, types and tests, in JAX and PyTorch

tests: $(VENV)/.test  ## the tests alone
	$(bin)/python -m pytest -n $(WORKERS) -m "not slow" $(PYTEST_ARGS)

test-slow: $(VENV)/.test  ## every test, the slow ones too
	$(bin)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

lint: $(VENV)/.test  ## ruff, formatting included
	$(bin)/ruff check
	$(bin)/ruff format --check

types: $(VENV)/.test  ## pyright, strict, over src
	$(bin)/pyright --pythonpath $(bin)/python

format: $(VENV)/.test  ## rewrite files as the linter wants them
	$(bin)/ruff check --fix
	$(bin)/ruff format

docs: $(VENV)/.docs  ## build the pages into site/, strictly
	$(bin)/mkdocs build

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis site

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 found; pass one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml $(CONSTRAINTS)
	$(pip) --editable '.[demo]'
	@touch $@

$(VENV)/.docs: $(VENV)/.python pyproject.toml $(CONSTRAINTS)
	$(pip) --editable '.[docs]'
	@touch $@

# torch goes first and alone: a range asked for by another package could otherwise take a newer build with CUDA.
$(VENV)/.test: $(VENV)/.python pyproject.toml $(CONSTRAINTS)
	$(pip) "$$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' $(CONSTRAINTS))"
	$(pip) --editable '.[all,test]'
	@touch $@
