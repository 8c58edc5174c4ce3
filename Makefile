# Each target does its own set-up; nothing needs to be installed before but Python 3.11+.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
# Tests wait for processes and clocks more than they compute: four keep two cores busy.
WORKERS ?= 4
# Thousands of tests sync files: in memory that costs nothing, and a kill leaves the same files there.
# Some come as another account (PostgreSQL, a stranger at the ring): it must be let through.
# Containers have little of it by default: then they lie where temporary files lie.
SCRATCH ?= $(shell df -Pk /dev/shm 2>/dev/null | awk -v t="$${TMPDIR:-/tmp}" 'NR == 2 && $$4 > 8e6 {t = "/dev/shm"} END {print t}')
.DEFAULT_GOAL := help
.PHONY: help demo test check bench lock clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort

demo: $(VENV)/.demo ## the main job end to end, on real data (no password, no Docker)
	$(BIN)/gateway demo $(ARGS)

check: $(VENV)/.dev ## lint, types, contracts, house rules (seconds)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house.py

# Tests start hundreds of processes: with bytecode each takes half as long to start.
test: check ## all tests; ARGS=--long for the long campaigns
	@place=$$(mktemp -d $(SCRATCH)/gwXXXX) && trap 'rm -rf "$$place"' EXIT && chmod 711 $$place && \
	env -u PYTHONDONTWRITEBYTECODE TMPDIR=$$place $(BIN)/python -m pytest -n $(WORKERS) \
	--dist loadfile --no-loadscope-reorder --basetemp=$$place/p $(ARGS)

bench: $(VENV)/.dev ## measured ratios; rewrites the table of docs/explain/performance.md
	$(BIN)/python tests/bench/report.py $(ARGS)

lock: ## rewrite requirements/*.txt (needs uv); no host is ever recorded
	$(LOCK) --extra demo --extra sources --extra aws --extra pkcs11 --group dev -o requirements/dev.txt
	$(LOCK) -c requirements/dev.txt -o requirements/client.txt
	$(LOCK) -c requirements/dev.txt --extra cli -o requirements/cli.txt
	$(LOCK) -c requirements/dev.txt --extra server -o requirements/server.txt
	$(LOCK) -c requirements/dev.txt --extra demo --group build -o requirements/demo.txt

clean: ## remove what the targets made
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header $(UPGRADE) pyproject.toml

# One environment for every target: the locks agree with each other, dev holds all of demo.
# uv installs the same locked, hashed files as pip, only faster; pip is the way when uv is not there.
$(VENV)/.dev: requirements/dev.txt
$(VENV)/.demo: requirements/demo.txt
$(VENV)/.dev $(VENV)/.demo: pyproject.toml Makefile
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed (set PYTHON=)"; exit 78; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@set -e; file=requirements/$(patsubst .%,%,$(notdir $@)).txt; echo "installing $$file into $(VENV)"; \
	(uv --version && uv pip install --quiet --python $(BIN)/python --require-hashes -r $$file) >/dev/null 2>&1 || \
	$(PIP) install --quiet --require-hashes -r $$file; \
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

PIP := $(BIN)/python -m pip --disable-pip-version-check
