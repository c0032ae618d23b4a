# Thin: every line is a command that you could type.  The environment is .venv, made from requirements.lock.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PEERS  := $(VENV)/bench-peers
# stages find `python` on the PATH; what MLflow, Prefect and DVC would report home stays here
ENV    := PATH="$(CURDIR)/$(BIN):$$PATH" DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true
AUDIT  := $(VENV)/audit
AUDITOR := pip-audit==2.10.1
PROFILE ?=
TARGETS ?=
# as one word of the shell, whatever it holds
quoted  = '$(subst ','\'',$(1))'
PROFILED = $(if $(value PROFILE),--profile $(call quoted,$(value PROFILE)))
RUN     = $(PROFILED) $(foreach name,$(value TARGETS),$(call quoted,$(name)))

.PHONY: help repro flow reproduce test test-slow test-all faults ui report lint bench lock audit clean-venv

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/	/' | expand -t 14

repro: $(READY)  ## bring everything up to date (PROFILE=tiny|own|tiny+own|…, TARGETS="stage …")
	@$(ENV) python -m pipeline repro $(RUN)

flow: $(READY)   ## the same as a Prefect flow
	@$(ENV) python -m pipeline flow $(RUN)

reproduce: $(READY) ## the last commit in a fresh clone, compared with its record (PROFILE=tiny)
	@$(ENV) python -m pipeline reproduce $(PROFILED)

test: $(READY)   ## the default tests, in under 10 minutes on 2 cores
	@$(ENV) python -m pytest -m "not slow and not browser" -n 2 --dist loadfile

test-slow: $(READY) ## the other tests: full-size shapes, real servers, fault injection, a browser
	@$(ENV) python -m pytest -m "slow or browser" -n 2 --dist loadfile

test-all: test test-slow ## every test

faults: $(READY) ## kill it, flip its bits, feed it lies: all campaigns, some hours; can be stopped and goes on
	@$(ENV) python -m tests.faults --summary docs/faults.json

ui: $(READY)     ## Prefect's and MLflow's pages on this machine
	@$(ENV) python -m pipeline ui

report: $(READY) ## data/report/index.html
	@$(ENV) python -m pipeline report

lint: $(READY)   ## ruff and mypy
	@$(ENV) ruff check . && $(ENV) ruff format --check . && $(ENV) mypy

bench: $(READY) $(PEERS)/.ready ## speed and memory against other libraries → docs/benchmarks.md (half an hour)
	@test -d data/windows -a -d data/checkpoints/pretrain || { echo "bench measures the default run too: make repro first"; exit 1; }
	@$(ENV) python -m benchmarks --out docs/benchmarks.json

# beside the locked environment, on the path of the benchmark's workers only; without PyTorch, which the lock has
$(PEERS)/.ready: benchmarks/peers.txt | $(READY)
	@echo "installing the peers of the benchmark into $(PEERS)"
	@rm -rf $(PEERS)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(PEERS) -r benchmarks/peers.txt
	@touch $@

audit: $(READY) $(AUDIT)/.$(AUDITOR) ## known vulnerabilities in the locked dependencies (asks pypi.org)
	@$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement requirements.lock

# an environment of its own, so that it audits what is locked and changes nothing of it; --strict, for without it
# pip-audit calls a package that it could not look up no problem, and everything is well without a network
$(AUDIT)/.$(AUDITOR): | $(READY)
	@echo "installing $(AUDITOR) into $(AUDIT)"
	@rm -rf $(AUDIT) && $(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check $(AUDITOR)
	@touch $@

# Exact versions of everything.  pip resolves nothing: the lock names it all.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing the locked dependencies into $(VENV) (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@printf '#!/bin/sh\nexec "$$(dirname "$$0")/python" -m pipeline.orchestration.dvc_program "$$@"\n' > $(BIN)/dvc  # safe against a cut
	@touch $(READY)

lock:            ## refresh requirements.lock from pyproject.toml (then run the tests)
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet "torch==$$(sed -n 's/^torch==//p' numerics.lock)" "setuptools>=77"
	$(VENV)-lock/bin/python -m pip install --quiet ".[pipeline,dev]"
	{ echo "# Made by \`make lock\` on $$($(PYTHON) -c 'import platform as p; print("Python", p.python_version(), "on", p.system(), p.machine())'); tested there."; \
	  $(VENV)-lock/bin/python -m pip freeze --all --exclude pip --exclude gptcore | sed 's/+cpu$$//'; } > requirements.lock
	rm -rf $(VENV)-lock

clean-venv:
	rm -rf $(VENV)
