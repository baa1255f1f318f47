# Everything here works from a fresh clone with Python 3.11 or newer and make: the first target that needs it builds
# .venv, later ones find it ready. Variables are given on the command line: make test ARGS="-k floors".

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input -qq

# Two degrees of readiness: enough to run the library, and everything the tests and checks need.
# A tree that has the second does not need the first.
RUN := $(VENV)/.ready-to-run
DEV := $(VENV)/.ready-to-develop
RUNNABLE := $(if $(wildcard $(DEV)),$(DEV),$(RUN))
RECIPE := pyproject.toml constraints.txt budgetguard/_version.py

# Benchmarks run where the peers are installed too, which nothing else needs.
BENCH_VENV := .venv-bench
BENCH_PY := $(BENCH_VENV)/bin/python
BENCH := $(BENCH_VENV)/.ready

# Some images forbid bytecode; then every process of a test, a fleet or a chaos run would compile the library anew.
export PYTHONDONTWRITEBYTECODE :=

CODE := budgetguard tests $(if $(wildcard benchmarks/*.py),benchmarks)

.DEFAULT_GOAL := help
.PHONY: help demo test check bench search fuzz fleet chaos secrets wheel audit clean

help:  ## Say what can be made
	@echo "make TARGET [VARIABLE=value ...]"
	@echo
	@sed -n 's/^\([a-z]*\):.*  ## /  \1@/p' $(firstword $(MAKEFILE_LIST)) | while IFS=@ read -r name what; do \
		printf '%-10s %s\n' "$$name" "$$what"; done

demo: $(RUNNABLE)  ## Watch a batch run against a made-up provider (WAY=transport, job or pool)
	@$(PY) -m budgetguard demo $(if $(WAY),--way $(WAY))

test: $(DEV)  ## Run the tests (ARGS=... goes to pytest)
	@$(PY) -m pytest -n 2 $(ARGS)

check: $(DEV)  ## Lint, check the format and the types, and run the house guards
	@echo "ruff check" && $(BIN)/ruff check --quiet .
	@echo "ruff format" && $(BIN)/ruff format --quiet --diff .
	@echo "mypy" && $(BIN)/mypy --no-error-summary $(CODE)
	@echo "pyright" && $(BIN)/pyright
	@echo "house guards" && $(PY) -m pytest -q tests/house

bench: $(BENCH)  ## Measure what the guard costs, beside its peers (FAST=1: under two minutes; ONLY=memory,herd; PICTURE=1)
	@$(BENCH_PY) -m benchmarks $(if $(filter-out 0,$(FAST)),--fast) $(if $(ONLY),--only $(ONLY)) $(ARGS)
	@$(if $(filter-out 0,$(PICTURE)),$(BENCH_PY) -m benchmarks.picture)

search: $(DEV)  ## Search for an order of events that breaks a promise (SCHEDULES=how many, SEED=which to replay)
	@$(PY) -m tests.search $(if $(SCHEDULES),--schedules $(SCHEDULES)) $(if $(SEED),--seed $(SEED))

fuzz: $(DEV)  ## Look for input that misleads or breaks the guard (MINUTES=how long, SEED=, ARGS="--target vidu-credits")
	@$(PY) -m tests.fuzz $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(ARGS)

fleet: $(DEV)  ## Send many processes against one account (STORE=sqlite or valkey, ARGS="--kill 4 --seed 7")
	@$(PY) -m tests.fleet --store $(or $(STORE),sqlite) $(ARGS)

chaos: $(DEV)  ## Let everything go wrong that can (MINUTES=10, SEED=which to replay, SCENE=one of it, ARGS="--keep DIR")
	@$(PY) -m tests.chaos --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED)) $(if $(SCENE),--scene $(SCENE)) $(ARGS)

secrets: $(DEV)  ## Look for API keys in everything the library writes (ARGS="--plant 'in hex'" leaks one on purpose)
	@$(PY) -m tests.secrets $(ARGS)

wheel: $(DEV)  ## Build the wheel and the source archive into dist/, look into them, and test the wheel where nothing else is
	@rm -rf dist
	@echo "building" && $(PY) -m build --outdir dist . > /dev/null
	@$(PY) -m tests.house.wheel dist

audit: $(DEV)  ## Ask whether a version in constraints.txt has a known vulnerability
	@$(PY) -m tests.house.audit

clean:  ## Remove .venv and everything that was built
	@rm -rf $(VENV) $(BENCH_VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage fuzz-findings
	@find budgetguard tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(RUN): $(RECIPE) | $(PY)
	@echo "Installing budgetguard into $(VENV) (once) ..."
	@$(PIP) install -c constraints.txt -e '.[cli,testing]'
	@touch $@

$(DEV): $(RECIPE) | $(PY)
	@echo "Installing budgetguard and its tools into $(VENV) (once, about a minute) ..."
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

$(BENCH): $(RECIPE) benchmarks/peers.txt | $(BENCH_PY)
	@echo "Installing budgetguard and what it is measured beside into $(BENCH_VENV) (once, a few minutes) ..."
	@$(BENCH_PY) -m pip --disable-pip-version-check --no-input -qq install \
		-c constraints.txt -r benchmarks/peers.txt -e '.[bench,redis,testing,trio]'
	@touch $@

# PYTHON=... names an interpreter; otherwise the first of these that is new enough is taken.
PYTHON ?= python3 python3.13 python3.12 python3.11 python

$(PY) $(BENCH_PY):
	@for python in $(PYTHON); do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "Creating $(@:/bin/python=) with $$($$python --version) ..."; \
			$$python -m venv --clear $(@:/bin/python=) && exit 0; \
			echo "$$python cannot create virtual environments; on Debian and Ubuntu, install python3-venv." >&2; \
			rm -rf $(@:/bin/python=); exit 1; \
		fi; \
	done; \
	echo "budgetguard needs Python 3.11 or newer, and none of these is: $(PYTHON)." >&2; \
	echo "Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; \
	exit 1
