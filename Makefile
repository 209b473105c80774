# Everything here works from a bare clone with Python >= 3.11, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test check explore format lint types stores clean
help:
	@echo "make demo    the main job on a fake GitLab: no account, no network, about 20 seconds"
	@echo "make test    the test suite"
	@echo "make stores  a real S3 server, for the tests that need one"
	@echo "make check   format, lint, types, tests with warnings as errors, coverage"
	@echo "make explore new examples of every property, and storms nobody has seen (SEEDS=500): half an hour"

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[cli]" --group dev
	@touch $(STAMP)

stores: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group stores

demo: $(STAMP)
	@$(BIN)/asyncjobs demo

test: $(STAMP)
	$(BIN)/python -m pytest -q

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

check: lint types
	$(BIN)/coverage run -m pytest -q
	$(BIN)/coverage report --fail-under=94

# `make check` tries the same examples each time; these are new ones, or more of them.
SEEDS ?= 500
explore: $(STAMP)
	$(BIN)/python -m pytest -q -m hypothesis --hypothesis-profile=explore tests/unit
	ASYNCJOBS_SEEDS=$(SEEDS) $(BIN)/python -m pytest -q tests/sim/test_storm.py -k seeds

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .coverage build dist
