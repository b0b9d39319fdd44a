# make run    set everything up, serve the application and do its long jobs
# make serve  the same without long jobs, and without the large packages that they need
# make test   set everything up and run the tests
# make check  format, lint, types and tests

PORT ?= 8000
PYTHON ?= python3
BIN := .venv/bin
# The tests of a file stay in one process, as they share what is slow to start.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: run serve test check format benchmark clean

run: .venv/.jobs
	@$(BIN)/xray serve --port $(PORT)

serve: .venv/.web
	@$(BIN)/xray serve --port $(PORT) --no-worker

test: .venv/.dev
	@$(BIN)/python -m tests.support.browser
	$(BIN)/pytest $(PARALLEL)

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	@$(BIN)/python -m tests.support.browser
	$(BIN)/pytest $(PARALLEL)

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: .venv/.dev
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.predict
	$(BIN)/python -m benchmarks.train_classifier
	$(BIN)/python -m benchmarks.gan_step

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache *.egg-info

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

# The stamps make a second start quick: pip runs again only when the dependencies changed.
.venv/.web: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/.jobs: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[worker,train]'
	@touch $@ .venv/.web

.venv/.dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ .venv/.jobs .venv/.web
