# make run    set everything up, serve the application and run its jobs
# make serve  the same without a worker, and without the large packages that jobs need
# make test   set everything up and run the tests
# make check  format, lint, types, imports and tests: what continuous integration runs
# make messages  collect the sentences of the pages for their translators (docs/translation.md)
# make lock   choose the newest versions that pyproject.toml allows, with their hashes

PORT ?= 8000
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Tests of one file stay in one process: they share what is slow to start. The files start in the
# order of tests/conftest.py, the longest first.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: run serve test check lint format benchmark messages lock audit clean

run: .venv/.jobs
	@$(BIN)/xray serve --port $(PORT)

serve: .venv/.web
	@$(BIN)/xray serve --port $(PORT) --no-worker

test: .venv/.dev
	@$(BIN)/python -m tests.support.browser
	$(BIN)/pytest $(PARALLEL)

check: lint test

lint: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: .venv/.dev
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.predict
	$(BIN)/python -m benchmarks.gallery
	$(BIN)/python -m benchmarks.train_classifier
	$(BIN)/python -m benchmarks.gan_step

# The languages are those that have a catalogue. A new or changed sentence is empty until translated.
messages: .venv/.dev
	mkdir -p build
	$(BIN)/pybabel --quiet extract --mapping-file pyproject.toml --keywords msg --keywords plural:1,2 \
		--add-location file --no-wrap --output-file build/messages.pot .
	for catalogue in app/translations/*.po; do $(BIN)/pybabel --quiet update --locale $$(basename $$catalogue .po) \
		--input-file build/messages.pot --output-file $$catalogue --no-wrap --no-fuzzy-matching \
		--ignore-obsolete --ignore-pot-creation-date; done

# Versions for every supported Python and platform; LOCK takes further options of uv.
UV := $(BIN)/uv pip compile pyproject.toml requirements/build.in --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate --quiet $(LOCK)

lock: .venv/.dev
	$(UV) --extra heic --extra postgres --extra worker --output-file requirements/web.txt
	$(UV) --extra heic --extra postgres --extra worker --extra train --output-file requirements/jobs.txt
	$(UV) --extra dev --output-file requirements/dev.txt

audit: .venv/.dev
	$(BIN)/pip-audit --requirement requirements/jobs.txt --disable-pip

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache *.egg-info

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

# A stamp makes a second start quick: pip runs again only when the locked versions changed.
.venv/.%: requirements/%.txt pyproject.toml | .venv/bin/python
	$(PIP) --require-hashes --requirement $<
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# The larger sets hold the smaller ones.
.venv/.jobs: requirements/jobs.txt pyproject.toml | .venv/bin/python
	$(PIP) --require-hashes --requirement $<
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@ .venv/.web

.venv/.dev: requirements/dev.txt pyproject.toml | .venv/bin/python
	$(PIP) --require-hashes --requirement $<
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@ .venv/.jobs .venv/.web
