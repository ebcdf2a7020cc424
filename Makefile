# Everything a developer or an operator types. Needs make and Python 3.11 or later, nothing else.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
ARGS ?=

.DEFAULT_GOAL := help
# The last state of its source that the Go module proxy has; `go` checks its sum.
MINIO_VERSION := v0.0.0-20260212201848-7aac2a2c5b7c
MINIO_BINARY ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/desifre/$(MINIO_VERSION)/minio
GO ?= $(shell command -v go || echo go)

.PHONY: help install tools up down test test-long test-minio minio check lock bench clean

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## Make the virtual environment with the service in it (`up` does it when it needs it)

tools: $(VENV)/.tools ## Add what tests, checks and measurements need (they do it when they need it)

up: install ## Install what is missing and start everything; stop with Ctrl-C
	@exec $(BIN)/desifre up $(ARGS)

down: install ## Stop what runs on this home
	@$(BIN)/desifre down

# Hundreds of processes start: what was compiled is kept, whatever the environment says, or each would do it anew.
test: install tools ## Run the tests (minutes)
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -m "not long" -n 3 $(ARGS)

test-long: install tools ## Run the tests that take long
	$(BIN)/pytest -m long --timeout=3600 $(ARGS)

minio: $(MINIO_BINARY) ## Build a MinIO server from its source (needs Go; minutes, once)

$(MINIO_BINARY):
	GOBIN=$(@D) CGO_ENABLED=0 GOFLAGS=-trimpath $(GO) install -ldflags "-s -w" github.com/minio/minio@$(MINIO_VERSION)

test-minio: install tools minio ## Run the tests of store and bucket against MinIO
	DESIFRE_STORE_KIND=minio MINIO_BINARY=$(abspath $(MINIO_BINARY)) $(BIN)/pytest -m "not long" $(ARGS) \
		tests/contract/test_runtime.py tests/doors/test_servers.py tests/doors/test_drop.py tests/doors/test_drop_binding.py

check: install tools ## Style, types, import rules, links of the docs, lock
	@status=0; for step in "ruff check ." "ruff format --check ." "mypy" "lint-imports --no-cache" \
		"python -m infra.tools.links" "python -m infra.tools.lock check"; \
	do echo "+ $$step"; $(BIN)/$$step || status=1; done; exit $$status

lock: install tools ## Write the locks in requirements/ anew from pyproject.toml (needs the network)
	$(BIN)/uv pip compile --universal --generate-hashes --python-version 3.11 --extra dev pyproject.toml -o requirements/dev.lock
	$(BIN)/uv pip compile --universal --generate-hashes --python-version 3.11 --extra all -c requirements/dev.lock pyproject.toml -o requirements/run.lock
	for image in keys ingest "transcriber --extra weights"; do \
		$(BIN)/uv pip compile --universal --generate-hashes --python-version 3.11 --extra build --extra $$image -c requirements/run.lock pyproject.toml -o requirements/$${image%% *}.lock || exit 1; \
	done
	$(BIN)/uv pip compile --universal --generate-hashes --python-version 3.11 --no-deps --group speech -o requirements/speech.lock
	$(BIN)/python -m infra.tools.lock stamp

bench: install tools ## Measure; ARGS="--help" shows what can be chosen
	$(BIN)/python -m bench $(ARGS)

clean: ## Remove the virtual environment and caches (keeps ./var)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Two steps, so that a change of pyproject.toml alone does not go through all packages again.
$(VENV)/.locked: requirements/run.lock
	@test -n "$(PYTHON)" || { echo "desifre needs Python 3.11 or later: none of python3.11 … python3 is." >&2; exit 1; }
	@echo "Installing into $(VENV) with $$($(PYTHON) --version); the first time takes a few minutes."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements/run.lock
	@touch $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-build-isolation --no-deps -e .
	@touch $@

# What only tests, checks and measurements need, their spoken samples among it.
$(VENV)/.tools: requirements/dev.lock requirements/speech.lock $(VENV)/.locked
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes --no-deps -r requirements/speech.lock
	@touch $@
