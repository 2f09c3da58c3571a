# make run: set up and start the dashboard.   make test: set up and run everything.   The rest are their parts.
PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8501

.PHONY: run test setup setup-dev browser check format bench

run: setup
	@$(BIN)/python -m streamlit run app.py --server.port $(PORT)

test: setup-dev browser check
	$(BIN)/python -m pytest

setup: .venv/.requirements

setup-dev: .venv/.requirements-dev

.venv/bin/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "StepScope needs Python 3.11 or newer"'
	$(PYTHON) -m venv .venv

.venv/.requirements: .venv/bin/python requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/.requirements-dev: .venv/.requirements requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# The browser tests drive a Chromium: one that is installed, or Debian's package, or Playwright's own build.
browser: setup-dev
	@$(BIN)/python -m tests.chromium

check: setup-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python -m benchmarks floor
