# What a developer types. `make run` and `make test` do all the set-up themselves, into .venv; both are quick the second time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
#: Test processes: one per core, four at most, since each starts a PostgreSQL and a Redis of its own.
WORKERS ?= auto --maxprocesses 4

.PHONY: help run test repeat chaos check lint types contracts docs bench constraints clean

help: ## What there is
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

run: $(VENV)/installed ## Install, and serve a demo business on 127.0.0.1:8080
	@exec $(BIN)/chatbotctl serve --demo

test: $(VENV)/installed-dev ## Install what tests need, and run them, on a real PostgreSQL and a real Redis
	@$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

chaos: $(VENV)/installed-dev ## Long runs under load with kills and outages, on loopback; counts in ARGS
	@$(BIN)/python -W ignore::UserWarning -m tests.chaos $(ARGS)

repeat: $(VENV)/installed-dev ## What tests repeat a few times, many times (TEST_ROUNDS, TEST_BURSTS, TEST_EXAMPLES, TEST_STEPS)
	@TEST_LONG=1 $(BIN)/python -m pytest -n $(WORKERS) tests/integration/test_faults_copies.py \
	  tests/integration/test_engine_machine.py

# With ARGS only what they name is run.
ifeq ($(ARGS),)
chaos: repeat
endif

check: lint types contracts test ## All that must pass before a change is taken in

lint: $(VENV)/installed-dev ## Style
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/installed-dev ## Types
	@$(BIN)/mypy

contracts: $(VENV)/installed-dev ## Who may import whom
	@PYTHONPATH=. $(BIN)/lint-imports --no-logo

docs: $(VENV)/installed-dev ## Write docs/cli.md anew from the commands' --help
	@$(BIN)/python scripts/generate_cli_docs.py

bench: $(VENV)/installed-dev ## Benchmarks: ratios measured in one run
	@$(BIN)/python -m benchmarks $(ARGS)

constraints: $(VENV)/installed-dev ## Write constraints.txt anew from what is installed
	@$(PIP) freeze --exclude-editable --exclude chatbotctl | grep -E '^[A-Za-z0-9._-]+==' > constraints.txt

clean: ## Remove what was installed and cached
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "chatbotctl needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing chatbotctl (a minute the first time) ..."
	@$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing chatbotctl with what its tests need (a minute or two the first time) ..."
	@$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/installed
