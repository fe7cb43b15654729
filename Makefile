# On a machine with Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SETUP := pyproject.toml constraints.txt

.PHONY: help demo test lint test-slow conformance cards docs reference pictures format constraints clean

# List what can be made.
help:
	@grep -B1 -E '^[a-z-]+:' Makefile | grep -vE '^--' | paste - - | sed -E 's/# (.*)\t([a-z-]+):.*/\2\t\1/' | expand -t 16

# Install bmz with ONNX and run it on the bundled image.
demo: $(VENV)/.demo
	$(BIN)/bmz demo -o bmz-demo

# Install what tests need; run lint, types, contracts and all tests but the slow ones.
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Check format, style, types and the order of the rooms.
lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Run the slow tests as well.
test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m 'slow or not slow'

# Test every live manifest as a stand-in, with bmz and bioimageio.core; takes the better part of an hour.
conformance: $(VENV)/.test
	$(BIN)/python -m tests.conformance.run ../shared --page docs/reference/conformance.md

# Measure the bundled models and the packages of the tests anew, and write their cards.
cards: $(VENV)/.test
	$(BIN)/python model_cards/make.py ../shared

# Build the docs into build/site; nothing is asked of a server.
docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# Write the pages that are made from the code: commands, findings, recipes, JSON documents, man page.
reference: $(VENV)/.test
	$(BIN)/python -m bmz.cli.reference docs/reference/commands.md share/man/man1/bmz.1
	$(BIN)/python -m bmz.report.findings_text > docs/reference/findings.md
	$(BIN)/python -m bmz.report.recipes_text > docs/reference/recipes.md
	$(BIN)/python -m bmz.report.schemas docs/reference/json.md

# Take the pictures of the docs anew; needs Chromium.
pictures: $(VENV)/.test
	BMZ_PICTURES=1 $(BIN)/python -m pytest tests/browser

# Format the code.
format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Write constraints.txt anew: the newest versions that work together.
constraints: $(VENV)/.test
	$(BIN)/python -m pip freeze --exclude-editable | sed -E 's/ @ .*//; s/\+cpu$$//' > constraints.new.txt
	@echo 'compare constraints.new.txt with constraints.txt, then replace it'

# Remove what was installed and made.
clean:
	rm -rf $(VENV) bmz-demo build dist

$(VENV)/.pip:
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	touch $@

$(VENV)/.demo: $(VENV)/.pip $(SETUP)
	$(PIP) -e '.[onnx]'
	touch $@

$(VENV)/.test: $(VENV)/.pip $(SETUP)
	$(PIP) -e '.[onnx,torch,tensorflow,keras,dask,formats,reference]' --group test --group lint --group oracles --group docs
	touch $@
