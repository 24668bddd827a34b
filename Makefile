# OpsRiver. `make demo` and `make test` install what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BUILT := $(VENV)/.built
KERNELS := stream_processors/kernels
WORKERS ?= 2
ROUNDS ?= 200
SEED ?= 1
MINUTES ?= 30

.PHONY: help install demo test lint format validate build lock headers schemas chaos soak bench bench-peers clean
.DEFAULT_GOAL := help

help: ## Show what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(BUILT) ## Make .venv with everything and the command .venv/bin/opsriver

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "OpsRiver needs Python 3.11 or newer; '$(PYTHON)' is not. Name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "'$(PYTHON)' cannot make virtual environments; install its venv package (Debian: python3-venv)" >&2; exit 2; }
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@echo "Installing $$(grep -c '^[a-z]' requirements.lock) pinned packages; this takes a minute or two"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@touch $@

$(BUILT): $(STAMP) $(wildcard $(KERNELS)/*.c $(KERNELS)/*.h)
	@rm -f $(KERNELS)/_kernels*
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@ls $(KERNELS)/_kernels* >/dev/null 2>&1 || echo "No C compiler was found: NumPy computes alone, to the same results, slower"
	@touch $@
	@echo "Installed: $(BIN)/opsriver"

demo: install ## Run the whole pipeline on this machine, to a delivered alert
	@$(BIN)/opsriver demo

test: install ## Run all tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -q

lint: install ## Check style, types and imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: install ## Format the code
	@$(BIN)/ruff check --fix -q . ; $(BIN)/ruff format .

validate: install ## Lint the template
	@SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 $(BIN)/sam validate --lint

build: install ## Build every function and print the sizes
	@SAM_CLI_TELEMETRY=0 $(BIN)/sam build
	@$(BIN)/python tools/function_sizes.py

lock: ## Pin dependencies anew (needs uv)
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header -q -o requirements.lock
	for set in light scorer archive; do \
	  uv pip compile requirements/$$set.in -c requirements.lock --python-version 3.13 \
	    --python-platform aarch64-manylinux_2_28 --generate-hashes --no-emit-index-url --no-emit-find-links \
	    --no-annotate --no-header -q -o requirements/$$set.lock; done
	uv pip compile requirements/cross.in --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header -q -o requirements/cross.lock

headers: install ## Write the C headers of the compiled kernels from their Python faces
	@$(BIN)/python tools/kernel_headers.py

schemas: install ## Write the JSON Schema files from the types
	@$(BIN)/python -m schemas.generate

chaos: install ## Kill the parts at every point, ROUNDS rounds from SEED
	@$(BIN)/python -m tests.chaos --rounds $(ROUNDS) --seed $(SEED) --json build/chaos.json

soak: install ## Run for MINUTES at steady load with faults; fails if anything is lost, doubled or grows
	@$(BIN)/python -m tests.soak --minutes $(MINUTES) --json build/soak.json

bench: install ## Measure speed, archive, scale, limits and cold start
	@for part in benchmarks benchmarks.archive benchmarks.limits benchmarks.scale benchmarks.cold_start; do \
	  $(BIN)/python -m $$part $(BENCH_OPTIONS) || exit; done

bench-peers: install ## Measure against Bytewax and Faust, each in an environment of its own
	@$(BIN)/python -m benchmarks.peers $(BENCH_OPTIONS)

clean: ## Remove what was built (not .venv)
	rm -rf build .aws-sam .opsriver .pytest_cache .mypy_cache .ruff_cache

# What `sam build` calls for each function (BuildMethod: makefile).
PACKAGE = $(CURDIR)/$(BIN)/python $(CURDIR)/tools/package_function.py

build-ScorerFunction:
	@$(PACKAGE) scorer "$(ARTIFACTS_DIR)"

build-ArchiverFunction build-CompactorFunction:
	@$(PACKAGE) archive "$(ARTIFACTS_DIR)"

build-MetricStoreFunction build-PublisherFunction build-SweeperFunction build-NotifierFunction \
build-HeartbeatFunction build-MetricStreamFunction:
	@$(PACKAGE) light "$(ARTIFACTS_DIR)"
