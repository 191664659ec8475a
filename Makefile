# orchx: everything that is typed more than once. Needs make and Python 3.11 or newer; the first
# target makes its own .venv, which is remade only when pyproject.toml or constraints.txt change.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# Ray starts a process per worker: without cached bytecode each of them compiles Ray anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.orchx-ready
CODE := $(wildcard orchx tests benchmarks tools)
CHECKS := check-format check-lint check-types check-imports check-sizes check-hosts

.PHONY: test-cluster help demo up test services services-down check bench chaos clean $(CHECKS)

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## start orchx, run the example requests through it, show what happened
	@$(BIN)/orchx demo

up: $(READY) ## start orchx with the examples and what they call; stay until Ctrl-C
	@$(BIN)/orchx up --examples

test: $(READY) ## run every test: unit, contract, property; simulation; integration, e2e
	@$(BIN)/python -m tools.run_tests

services: $(READY) ## start Redis, MongoDB and Kafka for development, on loopback; they stay
	@$(BIN)/python -m tools.services up

services-down: $(READY) ## stop them again
	@$(BIN)/python -m tools.services down

check: $(READY) ## format, lint, types, import layers, sizes: all run, all failures reported
	@$(MAKE) --no-print-directory --keep-going -j 2 \
		$(if $(filter output-sync,$(.FEATURES)),--output-sync=target) $(CHECKS) \
		&& echo "make check: passed" || { echo "make check: FAILED, see above"; exit 1; }

bench: $(READY) ## measure the engine on this machine
	@tools/system_packages.sh wrk || echo "bench: what needs wrk is left out"
	@$(BIN)/python -m benchmarks.engine

test-cluster: $(READY) ## nodes that come and go, and `ray up` by SSH (root; Linux)
	@$(BIN)/python -m tools.run_tests --cluster

chaos: $(READY) ## break everything under load, in network namespaces of its own (root; Linux)
	@tools/system_packages.sh ip:iproute2 nft:nftables losetup:mount mkfs.ext4:e2fsprogs cc:gcc
	@$(BIN)/python -m tests.chaos --write

clean: ## remove caches and build output (rm -r .venv to start anew)
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -path ./$(VENV) -prune -o -path ./.git -prune -o -name __pycache__ -type d -print0 \
		| xargs -0 -r rm -rf
	@echo "clean: caches and build output are gone"

check-format: $(READY)
	@$(BIN)/ruff format --check --quiet .

check-lint: $(READY)
	@$(BIN)/ruff check --quiet .

check-types: $(READY)
	@$(BIN)/mypy --strict --no-error-summary $(CODE)

check-imports: $(READY)
	@out=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$out"; exit 1; }

check-sizes: $(READY)
	@$(BIN)/python tools/check_sizes.py

check-hosts: $(READY)
	@$(BIN)/python tools/check_hosts.py

$(READY): pyproject.toml constraints.txt
	@tools/make_venv.sh $(VENV)
	@touch $@
