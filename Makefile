# make demo: a job from submit to result, in a fresh directory. make test: the tests. Both do all the set-up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-all fuzz check format schemas bench clean
help:
	@echo "make demo     see one job from submit to result"
	@echo "make test     run the tests: a sample of what can be tried for long"
	@echo "make test-all run all of it: every crash point and schedule, power cuts, NFS hosts (as root; takes more than half an hour)"
	@echo "make fuzz     fuzz the parsers for some minutes"
	@echo "make check    format, lint, types, layers, schemas"
	@echo "make bench    measure against bare system calls and other queues, and write docs/performance.md (five to ten minutes)"
	@echo "make format   let ruff lay out the code"
	@echo "make schemas  write spool/schemas from the records"
	@echo "make clean    remove what the others made"

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11; say which to use: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(VENV)/installed
	@PATH="$(abspath $(BIN)):$$PATH" bash docs/demo/demo.sh

test: $(VENV)/installed
	$(BIN)/python -m pytest -n auto

test-all: $(VENV)/installed
	$(BIN)/python -m pytest -n auto --dist worksteal --whole

fuzz: $(VENV)/installed
	$(BIN)/python -m tests.fuzz --seconds 60

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.schemas --check

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schemas: $(VENV)/installed
	$(BIN)/python -m tests.schemas

# Without the peers their columns say so, and all else is measured.
$(VENV)/bench-installed: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]' && touch $@ || echo "not all peers could be installed"

bench: $(VENV)/bench-installed
	$(BIN)/python -m tests.bench --docs docs

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
