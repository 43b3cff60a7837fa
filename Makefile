PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo setup test lint unit integration browser bench clean

demo: $(READY)  ## set everything up and watch a simulated scan
	$(BIN)/snakemap demo

setup: $(READY)  ## make .venv with everything installed in it

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $(READY)

test: $(READY) system lint  ## every check there is
	$(BIN)/pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

.PHONY: system
system:  ## Debian packages that the tests talk to: a real RabbitMQ, a real Chromium
	tests/support/install-system-packages

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
