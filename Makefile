# Everything a fresh machine needs is python3 and make: each target first sets up .venv by itself.
#   make demo ARGS="--captures 20000 --json"     the whole pipeline on 2013's flights
#   make test ARGS="tests/unit -x"               the tests
#   make check                                   format, lint, strict types

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-quick check reference report-examples site wheel audit simulate soak mutation fuzz bench bench-guard setup lock clean compose-test release-check

# The first Python that is new enough and can make a virtual environment; PYTHON=… overrides the search.
SUITABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	if "$$p" -c '$(SUITABLE)' 2>/dev/null; then echo "$$p"; break; fi; done)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-deps
# At most this many tests at a time: they start real brokers, databases and model workers. Three to a core, since a test
# waits for its servers longer than it computes: on two cores all of them took 21 to 22 minutes by four, 17 by six.
JOBS ?= 6
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
WORKERS := $(shell [ $$((3 * $(CORES))) -lt $(JOBS) ] && echo $$((3 * $(CORES))) || echo $(JOBS))
ARGS ?=

help:
	@echo 'make demo    the whole pipeline on real flights, no Docker, no root (ARGS="--captures 20000 --json")'
	@echo 'make test    the tests (ARGS="tests/unit -x")'
	@echo 'make test-quick   the tests without servers, a few minutes'
	@echo 'make check   format, lint, strict types, plain words'
	@echo 'make simulate    scorer and joiner over simulated Kafka and PostgreSQL (ARGS="--seeds 10000", "--replay 42")'
	@echo 'make soak    storms on three Kafka nodes, verified after (ARGS="--seeds 20 --minutes 10")'
	@echo 'make mutation   plant bugs and print what finds each (ARGS="fencing" chooses by name)'
	@echo 'make bench   scorer, drain, joiner and hook compared with peers on Kafka, 5 runs, 40 minutes (ARGS=--help)'
	@echo 'make site    the documentation as a site with search, in dist/site'
	@echo 'make audit   known vulnerabilities of the pinned requirements, asked of PyPI'
	@echo 'make setup   .venv with everything, to work on the code'
	@echo 'make release-check   build, check and install what would be released (needs uv)'
	@echo 'make lock    pin the requirements again (needs uv)'

demo: $(VENV)/.demo
	@$(BIN)/gnomon demo $(ARGS)

test: $(VENV)/.all
	@$(BIN)/pytest -rs --numprocesses $(WORKERS) --dist loadgroup $(ARGS)

# Nothing here starts Kafka or PostgreSQL: pure cores, codecs, model runners, commands' messages.
test-quick: $(VENV)/.all
	@$(BIN)/pytest -rs --numprocesses $(WORKERS) --dist loadgroup -m "not kafka and not postgres" \
		tests/unit tests/property tests/conformance tests/field tests/packaging/test_imports.py $(ARGS)

check: $(VENV)/.all
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python docs/plain_words.py
	$(BIN)/mypy .

# Needs a Docker engine; without a registry of images also root and debootstrap (see tests/compose/images.sh).
compose-test: $(VENV)/.all
	@tests/compose/run.sh

soak: $(VENV)/.all
	@$(BIN)/python -m tests.storms $(ARGS)

mutation: $(VENV)/.all
	@$(BIN)/python -m tests.mutation $(ARGS)

# Needs atheris (pip install atheris in .venv, Python 3.11 to 3.13).
fuzz: $(VENV)/.all
	@$(BIN)/python -m tests.fuzz $(ARGS)

simulate: $(VENV)/.all
	@$(BIN)/python -m tests.simulation $(ARGS)

bench: $(VENV)/.all .venv-peers/.peers
	@$(BIN)/python -m benchmarks $(ARGS)

bench-guard: $(VENV)/.all
	@$(BIN)/python -m benchmarks guard $(ARGS)

# The pages that say what the commands and settings say; a test compares.
reference: $(VENV)/.all
	$(BIN)/python docs/reference.py
	$(BIN)/python docs/import_drawing.py

# dist/gnomon-VERSION-py3-none-any.whl, by the pinned build tools.
wheel: $(VENV)/.all
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist . >/dev/null
	@ls dist/*.whl

# Wheel and sdist from a clean tree, checked and installed with the lowest and the newest versions of all dependencies.
# Needs uv; the Pythons that are here (3.11 to 3.14) are tried, the others are named.
release-check: $(VENV)/.all
	@$(BIN)/python tests/release/check.py --uv $(UV) $(ARGS)

# The documentation as a site with search, in dist/site; a page or link that is missing fails it.
site: .venv-docs/.docs
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

.venv-docs/.docs: requirements/docs.txt $(VENV)/.build
	@$(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --require-hashes --requirement $<
	@touch $@

# Asks PyPI for known vulnerabilities of every pinned requirement; one that it cannot ask about fails too.
audit: .venv-audit/.audit
	@for file in service all demo build docs; do echo "requirements/$$file.txt"; \
		.venv-audit/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
			--requirement requirements/$$file.txt || exit 1; done

.venv-audit/.audit: requirements/audit.txt $(VENV)/.build
	@$(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --require-hashes --requirement $<
	@touch $@

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
	$(COMPILE) pyproject.toml --extra consumer --extra registry --constraint requirements/all.txt \
		--output-file requirements/service.txt
	$(COMPILE) requirements/build.in --constraint requirements/all.txt --output-file requirements/build.txt
	$(COMPILE) requirements/peers.in --output-file requirements/peers.txt
	$(COMPILE) requirements/docs.in --output-file requirements/docs.txt
	$(COMPILE) requirements/audit.in --output-file requirements/audit.txt

clean:
	rm -rf $(VENV) .venv-peers .venv-docs .venv-audit .cache dist demo-output
