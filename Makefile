# Two commands matter: `make start` trains a model under supervision, `make test` runs the tests.
# Both set up what they need.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What we are measured beside has an environment of its own.
PEERS ?= .venv-peers

.DEFAULT_GOAL := help
.PHONY: help start test torture bench rescue lint format models units grafana install system system-test system-bench clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

start: install ## Train the shipped model on Rust with MaxRL, and watch it
	@$(BIN)/maxrl-ops start --use-maxrl --follow

# Folders in the order of the alphabet: e2e and process take longest and come first, so that no worker waits at the end.
test: install system-test ## Run the test suite
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile \
		--no-loadscope-reorder

torture: install system-test ## Kill trainings and daemons, verify a thousand candidates (minutes); make test does a share
	@PATH="$(CURDIR)/$(BIN):$$PATH" TORTURE_KILLS=50 TORTURE_FAULTS=100 TORTURE_DIRECTORIES=10000 \
		TORTURE_CANDIDATES=1000 TORTURE_RUNS=20 TORTURE_DAEMON_KILLS=200 TORTURE_TAILER_STEPS=10000 \
		TORTURE_FUZZ=500 \
		$(BIN)/pytest tests/torture tests/unit/test_autopilot_properties.py tests/unit/test_dialects.py

bench: install system-bench $(PEERS)/.installed ## Measure ourselves, and beside our peers (three hours)
	@$(BIN)/python -m benchmarks.start_to_sample
	@$(BIN)/python -m benchmarks.verifier
	@$(BIN)/python -m benchmarks.resume
	@$(BIN)/python -m benchmarks.log_to_store
	@$(BIN)/python -m benchmarks.latency
	@$(BIN)/python -m benchmarks.thousand_runs
	@$(BIN)/python -m benchmarks.scrape
	@$(BIN)/python -m benchmarks.backtest
	@$(BIN)/python -m benchmarks.objectives
	@$(BIN)/python -m benchmarks.engines
	@$(BIN)/python -m benchmarks.autopilot
	@$(BIN)/python -m benchmarks.real_runs
	@$(BIN)/python -m benchmarks.convergence
	@$(BIN)/python -m benchmarks.supervision --peer-python $(PEERS)/bin/python
	@$(BIN)/python -m benchmarks.trainer_vs_trl --peer-python $(PEERS)/bin/python

rescue: install ## Make trainings sick, and see who is rescued (two hours; goes on where it was ended)
	@$(BIN)/python -m benchmarks.rescue --publish

lint: install ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: install ## Let ruff format and mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

models: install ## Build the shipped models anew (minutes of CPU)
	@$(BIN)/python -P -m trainer.warm_start --task rust --to trainer/tasks/rust/model
	@$(BIN)/python -P -m trainer.warm_start --task arithmetic --to trainer/tasks/arithmetic/model
	@$(BIN)/python -m benchmarks.small_tasks.build

units: install ## Write systemd/ anew from maxrl_ops/systemd_files.py
	@$(BIN)/python scripts/write_units.py

grafana: install ## Write grafana/ and docs/metrics.md anew from signals.py and alerts.py
	@$(BIN)/python scripts/write_grafana.py

install: system $(VENV)/.installed ## Make the virtual environment

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)
	@echo "installing Python packages into $(VENV) (a few minutes the first time)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(PEERS)/.installed: benchmarks/peers.txt constraints.txt
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -r benchmarks/peers.txt
	@touch $@

system:
	@scripts/system-packages bwrap:bubblewrap cc:gcc
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || scripts/system-packages ensurepip:python3-venv

system-test: system
	@scripts/system-packages promtool:prometheus amtool:prometheus-alertmanager chromium:chromium \
		systemctl:systemd openssl:openssl curl:curl

system-bench:
	@scripts/system-packages mtail:mtail

clean: ## Remove the virtual environment and every cache
	@rm -rf $(VENV) $(PEERS) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
