# Everything a fresh machine needs is python3 and make: each target first sets up .venv by itself.
#   make demo ARGS="--captures 20000 --json"     the whole pipeline on 2013's flights
#   make test ARGS="tests/unit -x"               the tests
#   make check                                   format, lint, strict types

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check reference report-examples bench bench-guard setup lock clean

# The first Python that is new enough and can make a virtual environment; PYTHON=… overrides the search.
SUITABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	if "$$p" -c '$(SUITABLE)' 2>/dev/null; then echo "$$p"; break; fi; done)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-deps
# At most this many tests at a time: they start real brokers, databases and model workers.
JOBS ?= 4
ARGS ?=

help:
	@echo 'make demo    the whole pipeline on real flights, no Docker, no root (ARGS="--captures 20000 --json")'
	@echo 'make test    the tests (ARGS="tests/unit -x")'
	@echo 'make check   format, lint, strict types'
	@echo 'make bench   scorer, drain, joiner and hook beside their peers on Kafka, 5 runs, 40 minutes (ARGS=--help)'
	@echo 'make setup   .venv with everything, to work on the code'
	@echo 'make lock    pin the requirements anew (needs uv)'

demo: $(VENV)/.demo
	@$(BIN)/gnomon demo $(ARGS)

test: $(VENV)/.all
	@$(BIN)/pytest -rs --numprocesses auto --maxprocesses $(JOBS) --dist loadgroup $(ARGS)

check: $(VENV)/.all
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .

bench: $(VENV)/.all .venv-peers/.peers
	@$(BIN)/python -m benchmarks $(ARGS)

bench-guard: $(VENV)/.all
	@$(BIN)/python -m benchmarks.guard $(ARGS)

# The pages that say what the commands and settings say; a test compares.
reference: $(VENV)/.all
	$(BIN)/python docs/reference.py

# docs/report-examples.md and the pictures of the HTML report, while `gnomon demo --open` serves what --keep kept.
report-examples: $(VENV)/.all
	$(BIN)/python docs/report_examples.py demo-output/gnomon.toml

setup: $(VENV)/.all

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "Gnomon needs Python 3.11 or later with its venv module; python3 here is: $$(python3 --version 2>&1)." >&2; \
		echo "Install one (on Debian and Ubuntu: python3.11 python3.11-venv) or name it: make PYTHON=/path/to/python3.12" >&2; \
		exit 2; fi
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) (a few minutes on a slow line; only once)" >&2
	@$(PYTHON) -m venv $(VENV)

# The project's own build tools are pinned too, hence no build isolation; pip checks every archive's hash.
$(VENV)/.build: requirements/build.txt | $(BIN)/python
	@$(PIP) --require-hashes --requirement $<
	@touch $@

$(VENV)/.demo $(VENV)/.all: $(VENV)/.%: requirements/%.txt pyproject.toml $(VENV)/.build
	@$(PIP) --require-hashes --no-build-isolation --requirement $<
	@$(PIP) --no-build-isolation --editable .
	@touch $@

.venv-peers/.peers: requirements/peers.txt $(VENV)/.build
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --require-hashes --requirement $<
	@touch $@

UV ?= uv
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	--no-emit-index-url --no-emit-find-links
lock:
	$(COMPILE) pyproject.toml --extra consumer --extra registry --extra quickstart --extra otel --group dev \
		--output-file requirements/all.txt
	$(COMPILE) pyproject.toml --extra quickstart --constraint requirements/all.txt --output-file requirements/demo.txt
	$(COMPILE) requirements/build.in --constraint requirements/all.txt --output-file requirements/build.txt
	$(COMPILE) requirements/peers.in --output-file requirements/peers.txt

clean:
	rm -rf $(VENV) .venv-peers .cache dist demo-output
