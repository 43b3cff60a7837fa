PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BLUEAPI := .venv-blueapi
PARTS := lint test-unit test-integration test-browser

.PHONY: help demo setup test test-quick house coverage lint test-unit test-integration test-browser system bench clean

demo: $(READY)  ## set everything up and watch a simulated scan
	$(BIN)/snakemap demo

setup: $(READY)  ## make .venv with everything installed in it

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV) || { echo 'no virtual environment: on Debian, apt install python3-venv' >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $(READY)

# blueapi has dependencies of its own, and so an environment of its own
$(BLUEAPI)/.ready: tests/support/blueapi/requirements.txt
	$(PYTHON) -m venv $(BLUEAPI)
	$(BLUEAPI)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BLUEAPI)/bin/python -m pip install --quiet -r $<
	touch $@

# three installations at a time; lint computes on one core, so it runs beside the unit tests
test:  ## every check there is; all parts run, and the last line names those that failed
	@$(MAKE) --no-print-directory -j 3 $(READY) $(BLUEAPI)/.ready system
	@failed=; said=$$(mktemp); \
	$(MAKE) --no-print-directory lint >$$said 2>&1 & lint=$$!; \
	for part in $(filter-out lint,$(PARTS)); do \
	  $(MAKE) --no-print-directory $$part || failed="$$failed $$part"; \
	  [ $$part != test-unit ] || { wait $$lint || failed="$$failed lint"; cat $$said; rm -f $$said; }; \
	done; \
	if [ -n "$$failed" ]; then echo "make test: failed:$$failed"; exit 1; fi; \
	echo "make test: passed: $(PARTS)"

lint: $(READY)  ## style, types and layers; all four run
	@failed=; \
	for check in "ruff check ." "ruff format --check ." pyright lint-imports; do \
	  echo "$$check"; $(BIN)/$$check || failed="$$failed '$$check'"; \
	done; \
	[ -z "$$failed" ] || { echo "lint: failed:$$failed"; exit 1; }

test-unit: $(READY)  ## one worker a core; the other two wait more than they compute, and have more workers
	$(BIN)/pytest -n 2 --dist loadfile tests/unit

test-integration: $(READY) $(BLUEAPI)/.ready
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder --reruns 1 tests/integration  # what is run again is listed

test-browser: $(READY) $(BLUEAPI)/.ready
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder --reruns 2 tests/browser  # what is run again is listed

system:  ## Debian packages that the tests talk to: a real RabbitMQ, a real Chromium
	tests/support/install-system-packages

bench: $(READY) system  ## the tables of docs/performance.md; best on an idle machine
	$(BIN)/python benchmarks/reduce.py
	$(BIN)/python benchmarks/page.py
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/points.py
	$(BIN)/python benchmarks/frames.py

test-quick: $(READY)  ## unit tests: under 3 minutes
	$(BIN)/pytest -q -n 2 --dist loadfile tests/unit

coverage: $(READY)  ## how much of the code the unit tests run
	$(BIN)/pytest -q -n 2 --dist loadfile --cov=snakemap --cov-report=term:skip-covered tests/unit

house: $(READY)  ## what stands out: long modules, names that occur twice, words to avoid; fails nothing
	$(BIN)/python -m tests.support.house

help:  ## the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## */\1\t/p' $(MAKEFILE_LIST) | expand -t 20

clean:  ## remove what was made
	rm -rf $(VENV) $(BLUEAPI) build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
