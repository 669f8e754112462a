# Every target sets up what it needs: Python 3.11 or later, make and a C compiler are enough.
# `make PYTHON=/path/to/python` picks another interpreter.

PYTHON ?= $(or $(shell command -v python3.11 2>/dev/null),$(shell command -v python3 2>/dev/null),python3)
BIN := .venv/bin

# The environment is made anew when the interpreter changes, the checkout moves or an installation was cut off, and
# installed into again when the lock file or pyproject.toml changes. Both keys are names of empty files in it.
FINGERPRINT = $(PYTHON) -c "import hashlib, os, pathlib, sys; \
	base = '|'.join([sys.version, os.path.realpath(sys.base_prefix), os.getcwd()]).encode(); \
	pins = b''.join(pathlib.Path(name).read_bytes() for name in ('requirements.lock', 'pyproject.toml')); \
	print(*(hashlib.sha256(text).hexdigest()[:16] for text in (base, base + pins)))"
KEYS := $(shell $(FINGERPRINT) 2>/dev/null)
MADE := .venv/.made-$(firstword $(KEYS))
INSTALLED := .venv/.installed-$(lastword $(KEYS))

.DEFAULT_GOAL := help
.PHONY: help install demo ui docs test soak lint format bench lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(INSTALLED) ## Make .venv with the pinned packages (the others do this by themselves)

demo: $(INSTALLED) ## From a real retailer's orders to audiences in three sandbox email platforms
	@$(BIN)/mailwright demo

ui: $(INSTALLED) ## Open the Dagster UI
	@$(BIN)/mailwright ui

docs: $(INSTALLED) ## Write the dbt documentation as one page and serve it
	@$(BIN)/mailwright docs --serve

# In the order of the folders: e2e, whose few tests take longest, must not be what one process does while the others idle.
test: $(INSTALLED) ## Run all tests
	@$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadgroup --no-loadscope-reorder

soak: $(INSTALLED) ## Stop and kill applies again and again, for every connector (SOAK=20: how often)
	@SOAK=$(or $(SOAK),20) $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist load \
		tests/integration/activation/conformance/test_stops.py

lint: $(INSTALLED) ## Check style and types: ruff, mypy, sqlfluff
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/sqlfluff lint dbt_project

format: $(INSTALLED) ## Mend what ruff and sqlfluff can mend by themselves
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format
	@$(BIN)/sqlfluff fix dbt_project

bench: $(INSTALLED) ## Measure speed and size (SIZES="10000 100000 1000000": customers, HOMES=folder: keep and re-use them)
	@$(BIN)/python -m tests.benchmarks $(if $(SIZES),--sizes $(SIZES)) $(if $(HOMES),--homes $(HOMES))

lock: $(INSTALLED) ## Pin what pyproject.toml asks for (UPGRADE=1: the newest versions)
	@$(BIN)/uv pip compile --quiet $(if $(UPGRADE),--upgrade) --generate-hashes --no-emit-index-url --no-header --no-annotate \
		--extra dev --extra postgres --output-file requirements.lock pyproject.toml

clean: ## Remove .venv, caches and build products; the data stay
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	@rm -rf dbt_project/target dbt_project/logs dbt_project/.user.yml
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED):
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" \
		|| { echo "Mailwright needs Python 3.11 or later: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@if [ -e $(MADE) ]; then \
		rm -f $(MADE) .venv/.installed-*; \
	else \
		echo "Making .venv"; rm -rf .venv && $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet uv; \
	fi
	@echo "Installing the packages of requirements.lock"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $(MADE) $@
