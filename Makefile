# Everything here is a short front to plain tools: read a recipe to see the command.
# Needs git, GNU make and a Python that pyproject.toml admits; the rest is installed into .venv.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
BIN := .venv/bin

# The first of these that fits makes .venv. `make PYTHON=/path/to/python3.12 ...` leaves one choice.
PYTHON ?= python3.13 python3.12 python3.11 python3
FITS := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))

# The classes of the suites that `make bench` runs.
LIST ?= smoke
CLASSES_smoke := Smoke
CLASSES_standard := Smoke|Standard
CLASSES_full := Smoke|Standard|Full
CLASSES := $(CLASSES_$(LIST))
ifeq ($(CLASSES),)
$(error LIST is '$(LIST)'; expected smoke, standard or full)
endif

# Forking from one warm server saves an import of TensorFlow per benchmark, but CUDA does not
# survive a fork. Asked only where it is used: waking a driver can take a second.
LAUNCH = $(if $(filter 0,$(shell $(BIN)/python requirements/install.py --gpus)),forkserver,spawn)

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

# Fails where asv would ask its questions; answering them again would overwrite a user's answers.
KNOWN := from asv.machine import *; MachineCollection.load(Machine.get_unique_machine_name())

# asv files results under a commit, so there must be one. What failed does not hide what was
# measured: the page and the table are made in any case, and the first failure is the exit status.
.PHONY: bench
bench: $(INSTALLED)  ## Measure HEAD with asv: LIST=smoke (the default), standard or full
	@commit=$$(git rev-parse --verify --quiet HEAD) || { \
		echo "bench: results are recorded under a commit, and there is none. Commit first." >&2; \
		exit 1; \
	}; \
	if [ -n "$$(git status --porcelain)" ]; then \
		echo "WARNING: the working tree is not clean: what is measured is the tree as it is," \
			"but it is recorded under HEAD ($${commit:0:8})." >&2; \
	fi; \
	if ! $(BIN)/python -c '$(KNOWN)' 2>/dev/null; then \
		$(BIN)/asv machine --yes >/dev/null && echo "Described this machine in ~/.asv-machine.json."; \
	fi; \
	if [ '$(LIST)' = full ]; then export CONVBENCH_FULL=1; fi; \
	$(BIN)/asv run --environment existing:$(BIN)/python --set-commit-hash "$$commit" \
		--launch-method $(LAUNCH) --bench '\.($(CLASSES))\.'; measured=$$?; \
	if [ $$measured != 0 ]; then \
		echo "bench: asv run failed ($$measured): the table may show what was stored before." >&2; \
	fi; \
	$(BIN)/asv publish; published=$$?; \
	$(BIN)/convbench results "$$commit"; printed=$$?; \
	echo "The page is in .asv/html; to open it: $(BIN)/asv preview --browser"; \
	for status in $$measured $$published $$printed; do \
		if [ $$status != 0 ]; then exit $$status; fi; \
	done

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
		--constraint gpu.txt --extra dev
	@cd requirements && echo "uv==$(UV)" | $(COMPILE) - --output-file uv.txt

.PHONY: clean
clean:  ## Remove what can be made again; the results in .asv/results stay
	@rm -rf .venv build dist .asv/env .asv/html
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find src tests benchmarks requirements -name __pycache__ -prune -exec rm -rf {} +
