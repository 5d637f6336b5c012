# Every target works on a fresh clone; CI and pre-commit call the same ones.
PYTHON ?= python3
BIN := .venv/bin
.PHONY: setup fix check test run clean

run: .venv/run.stamp
	$(BIN)/python app.py $(ARGS)

test: .venv/dev.stamp
	$(BIN)/python -m pytest $(ARGS)

check: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: .venv/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: .venv/dev.stamp

.venv/run.stamp: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

.venv/dev.stamp: .venv/run.stamp tests/requirements.txt
	$(BIN)/python -m pip install --quiet --requirement tests/requirements.txt
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
