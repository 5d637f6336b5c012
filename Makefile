# Every target works on a fresh clone; CI and pre-commit call the same ones.
PYTHON ?= python3
BIN := .venv/bin
JS := node_modules/.bin
.PHONY: setup fix check test run clean

run: .venv/run.stamp
	$(BIN)/python app.py $(ARGS)

test: .venv/dev.stamp
	$(BIN)/python -m pytest $(ARGS)

check: .venv/dev.stamp node_modules/dev.stamp
	$(JS)/biome check --error-on-warnings
	$(JS)/tsc
	node --test tests/js/*.test.js
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: .venv/dev.stamp node_modules/dev.stamp
	$(JS)/biome check --write
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: .venv/dev.stamp node_modules/dev.stamp

.venv/run.stamp: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

.venv/dev.stamp: .venv/run.stamp tests/requirements.txt
	$(BIN)/python -m pip install --quiet --requirement tests/requirements.txt
	touch $@

# Biome and TypeScript, for the checks alone: the page is served as it stands.
node_modules/dev.stamp: package.json package-lock.json
	npm ci --ignore-scripts --no-audit --no-fund
	touch $@

clean:
	rm -rf .venv node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
