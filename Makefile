# The environment lives in .venv and is made from hashed requirements; every target makes it first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTS ?= tests
JOBS ?= auto
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help run test check soak endurance bench fuzz fmt generate generated-is-current docs release lock wheel clean

help: ## Lists the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## ?(.*)/  \1\t\2/' | expand -t 14

$(READY): requirements/uv.txt requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes requirements/dev.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

run: $(READY) ## Starts an agent on a private socket and says what to try.
	@env -u MAKELEVEL -u MAKEFLAGS -u MFLAGS guyline up

test: check ## Everything that must hold: the checks, then all tests.
	@tools/install_test_programs
	python -m pytest -n $(JOBS) $(TESTS)

check: $(READY) generated-is-current ## Lint, types, protos, imports: seconds.
	ruff format --check --quiet .
	ruff check --quiet .
	buf lint
	@if [ -f proto/released.binpb ]; then buf breaking --against proto/released.binpb; fi
	lint-imports --no-cache
	mypy --no-error-summary

soak: $(READY) ## Every fault at its full size: takes its time.
	@tools/install_test_programs
	GUYLINE_SOAK=1 python -m pytest -n $(JOBS) --timeout 1800 $(TESTS)

endurance: $(READY) ## An hour of mixed work, after which nothing may have grown; SECONDS bounds it.
	python -m tests.endurance --seconds $(or $(SECONDS),3600)

bench: $(READY) ## Measures beside references; BENCH=name runs one.
	python -m tests.bench $(BENCH)

fuzz: $(READY) ## Feeds garbage to the parsers; FUZZ=name runs one, SECONDS_EACH bounds each.
	python -m tests.fuzz $(FUZZ)

fmt: $(READY) ## Formats and sorts what can be.
	ruff format --quiet .
	ruff check --fix --quiet .
	buf format --write

generate: $(READY) ## Regenerates all code under generated/ and the API reference from proto/.
	@tools/generate

generated-is-current: $(READY)
	@tools/generated_is_current

release: $(READY) ## Freezes the wire: writes proto/released.binpb, which breaking changes are judged against.
	buf build --output proto/released.binpb

lock: $(READY) ## Resolves the requirements anew.
	uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --universal $(LOCK) \
	  --python-version 3.11 requirements/uv.in --output-file requirements/uv.txt
	uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --universal $(LOCK) \
	  --python-version 3.11 --all-extras --group dev pyproject.toml --output-file requirements/dev.txt

wheel: $(READY) ## Builds the distribution into dist/.
	uv build --quiet --wheel --no-build-isolation --out-dir dist

clean: ## Removes the environment and all caches.
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
