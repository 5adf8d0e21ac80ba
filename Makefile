# `make study` on a clean clone sets up .venv and finishes with a report; so does each other target
# with what it is for. Needs Python 3.11 or newer and pip, nothing else.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help study test lint format docs benchmark benchmark-speed benchmark-reliability floors metrics mutants pictures tutorial coverage release-check clean

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 28

study: $(VENV)/.report ## run the study and write its report, into out/study
	@$(BIN)/densitometer study $(ARGS)

test: $(VENV)/.dev ## run the tests
	@$(BIN)/python -m pytest -q -n 2 $(ARGS)

coverage: $(VENV)/.dev ## run the tests and see what they reach, in build/coverage/index.html
	@$(BIN)/python -m pytest -q -n 2 --cov --cov-report=html $(ARGS)

lint: $(VENV)/.dev ## check style, types, imports and the gallery's script
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/oxlint --quiet --format=unix src
	@said=$$($(BIN)/lint-imports --no-logo --no-cache) || { echo "$$said"; exit 1; }
	@$(BIN)/pyright

format: $(VENV)/.dev ## put the source into its style
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

benchmark: $(VENV)/.report ## measure all families with many seeds (an hour) and write docs/results.md
	@$(BIN)/python benchmarks/quality.py

benchmark-speed: $(VENV)/.report ## measure time and memory (half an hour) and write docs/performance.md
	@$(BIN)/python benchmarks/speed.py

benchmark-reliability: $(VENV)/.dev ## kill and mangle studies (an hour and a half) and write docs/reliability.md
	@$(BIN)/python benchmarks/reliability.py

floors: $(VENV)/.report ## measure what true samples score (two hours) and keep it in the package
	@$(BIN)/python benchmarks/floors.py

metrics: $(VENV)/.report ## measure the metrics themselves (forty minutes) and write docs/metrics.md
	@$(BIN)/python benchmarks/metrics.py

pictures: study ## make the moving picture of the README again
	@cp out/study/figures/sampling.svg docs/

mutants: $(VENV)/.dev ## break the code on purpose, one line at a time, and see that a test notices
	@$(BIN)/python benchmarks/mutants.py $(ARGS)

tutorial: $(VENV)/.report ## execute the tutorial again, and keep its outputs
	@$(BIN)/python .ci/notebook.py docs/tutorial.py

docs: $(VENV)/.dev ## make the site of the documentation, into site/, and run every example in it
	@.ci/docs $(abspath $(BIN))

release-check: $(VENV)/.dev ## build what is released, and use it in an empty environment
	@$(BIN)/python .ci/release.py

clean: ## remove what can be made again, but for the studies in out/
	@rm -rf $(VENV) build dist site .pytest_cache .ruff_cache .hypothesis
	@find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.made:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
		"densitometer needs Python 3.11 or newer; name one, as in: make study PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(VENV)
	@touch $@

$(VENV)/.report: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing densitometer into $(VENV) (once; about a minute)"
	@$(PIP) --editable '.[report]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing densitometer and its tools into $(VENV) (once; about a minute)"
	@$(PIP) --editable '.[dev]'
	@touch $(VENV)/.report $@
