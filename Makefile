# Every habit of this repository as one word. CI and people call the same targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
PORT ?= 8080
# Tests share two cores with the servers and browsers they start: two threads each would be ten times slower.
export TOKENIZERS_PARALLELISM := false
export HF_HUB_OFFLINE := 1
export TRANSFORMERS_OFFLINE := 1
fast test campaign: export OMP_NUM_THREADS := 1

# Two processes, each with whole files in the order of the tree: the sample company learns while browsers are driven.
TOGETHER := --numprocesses=2 --dist=loadfile --no-loadscope-reorder

SUITES := understanding memory peer_setfit discovery retriever vectors scale peer_search server widget

.PHONY: help install check test fast campaign bench $(SUITES:%=bench-%) demo lock browser widget widget-parts clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 22

install: $(VENV)/.installed  ## the environment, with frontdesk at .venv/bin/frontdesk (offline when nothing changed)

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "frontdesk needs Python 3.11, '$(PYTHON)' is $$($(PYTHON) -V 2>&1): set PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || .ci/apt python3-venv
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "[1/3] torch (pinned; its wheel differs by machine)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@echo "[2/3] $$(grep -c '==' requirements.lock) parts, each checked against its hash"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@echo "[3/3] frontdesk itself"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

check: install  ## style, types and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fast: install  ## the tests that need no model, no child process and no browser; under a minute
	$(BIN)/python -m pytest -m "not slow and not browser and not gpu and not campaign" $(TOGETHER)

browser: install
	@test -x /usr/bin/chromium || .ci/apt chromium

WIDGET := bot/channels/web/widget

widget: widget-parts  ## the chat widget anew from its source, with types and unit tests; commit dist/ afterwards
	cd $(WIDGET) && npm run --silent check && npm run --silent build && npm test --silent

widget-parts: $(WIDGET)/node_modules/.installed

$(WIDGET)/node_modules/.installed: $(WIDGET)/package-lock.json
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || { echo "the widget is built with Node 20.19 or newer" >&2; exit 2; }
	cd $(WIDGET) && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

test: check browser widget-parts  ## a seeded sample of every suite, browser included; under 30 minutes on 2 cores
	$(BIN)/python -m pytest -m "not campaign and not gpu" $(TOGETHER) --cov --cov-fail-under=90

campaign: check browser widget-parts  ## all of it: thousands of kills, whole attack corpora
	FRONTDESK_KILLS=$${FRONTDESK_KILLS:-300} FRONTDESK_MUTATIONS=$${FRONTDESK_MUTATIONS:-480} FRONTDESK_CAMPAIGN=1 $(BIN)/python -m pytest -m "not gpu" $(TOGETHER) --timeout=7200

bench: bench-understanding bench-discovery bench-retriever bench-server  ## measure everything side by side and rewrite docs/benchmarks.md

$(SUITES:%=bench-%): bench-%: install
	$(BIN)/python -m tests.bench.$*

bench-understanding: bench-memory bench-peer_setfit

bench-retriever: bench-vectors bench-scale bench-peer_search

bench-server: bench-widget

bench-widget: browser widget-parts

demo: install  ## the sample company end to end: ingest, train, serve, open the page (CHECK=1 asks ten questions and ends)
	$(BIN)/frontdesk demo --port $(PORT) $(if $(CHECK),--check)

lock:  ## requirements.lock anew from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python .ci/lock.py

clean:  ## caches and the demo's home; the environment stays
	rm -rf .frontdesk .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.* .artifacts
