# On a machine with Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SETUP := pyproject.toml constraints.txt
SECONDS ?= 3600

EVERYTHING := $(addprefix --extra ,onnx openvino gpu torch tensorflow keras dask formats parquet anndata mcp napari reference) \
	$(addprefix --group ,test lint oracles docs window)

.PHONY: help demo test lint test-slow coverage test-wheel test-lowest test-newest fuzz conformance cards test-napari docs \
	test-spatialdata reference page-types page-access by-eye pictures first-hour notebook format constraints constraints-lowest conda conda-package workflows test-workflows vale pre-commit newcomer dist sbom audit ages ages-update clean

# List what can be made.
help:
	@grep -B1 -E '^[a-z-]+:' Makefile | grep -vE '^--' | paste - - | sed -E 's/# (.*)\t([a-z-]+):.*/\2\t\1/' | expand -t 20

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
	$(BIN)/hadolint Dockerfile

# Run the slow tests as well.
test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m 'slow or not slow'

# Damage files of every kind for SECONDS of processor (an hour), and look for crashes, hangs and wrong pixels.
fuzz: $(VENV)/.test
	$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS)

# Test every live manifest as a stand-in, with bmz and bioimageio.core; takes the better part of an hour.
conformance: $(VENV)/.test
	$(BIN)/python -m tests.conformance.run ../shared --page docs/reference/conformance.md

# Measure the bundled models and the packages of the tests again, and write their cards.
cards: $(VENV)/.test
	$(BIN)/python model_cards/make.py ../shared

# Test the plugin in napari itself, by way of Xvfb where it is installed, and take the picture of the docs again.
test-napari:
	$(PYTHON) -m venv build/napari
	build/napari/bin/pip install --quiet --upgrade pip  # older ones know no --group
	build/napari/bin/pip install --quiet -c constraints.txt -e '.[onnx,napari]' --group test --group window
	build/napari/bin/npe2 validate bmz
	BMZ_PICTURES=1 $(shell which xvfb-run && echo -a -s '"-screen 0 1400x1000x24"') build/napari/bin/python -m pytest -W default tests/viewer

# Let the library spatialdata open what --save spatialdata writes, in an environment of its own: it asks for an older pandas.
test-spatialdata:
	$(PYTHON) -m venv build/spatialdata
	build/spatialdata/bin/pip install --quiet -e '.[onnx,spatialdata]' --group test
	build/spatialdata/bin/python -m pytest -W default tests/write/test_spatial_data.py

# Build the docs into build/site; nothing is asked of a server.
docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# Write what is made from the code: pages of commands, findings, recipes, JSON, man page, lines of installation.
reference: $(VENV)/.test
	$(BIN)/python docs/commands.py docs/reference/commands.md share/man/man1/bmz.1
	$(BIN)/python -m bmz.report.reference docs/reference
	$(BIN)/python docs/install.py

# Take the pictures of the docs again; needs Chromium.
pictures: $(VENV)/.test
	BMZ_PICTURES=1 $(BIN)/python -m pytest tests/browser
	$(BIN)/python -m docs.pictures

# Type what the page of the first hour shows, and write it again, with its times and pictures.
first-hour: $(VENV)/.test
	$(BIN)/python -m docs.first_hour ../shared

# Check the types of the scripts of both pages; needs npm.
page-types:
	npx --yes --package typescript@5.9.3 tsc --project tests/page/tsconfig.json

# Look for faults of accessibility in the pages by axe-core, and do the lesson by eye in Chromium and Firefox; needs npm.
page-access: $(VENV)/.test
	npm install --silent --no-save --prefix build/page axe-core@4.14.1 puppeteer-core@24.43.1
	$(BIN)/python -m pytest -rP -m 'slow or not slow' tests/browser/test_accessibility.py tests/browser/test_by_eye.py

# Do the lesson by eye in Chromium, and write its chapter with its pictures.
by-eye: $(VENV)/.test
	$(BIN)/python -m docs.by_eye ../shared

# Run the notebook of the docs, and write its page.
notebook: $(VENV)/.test
	$(BIN)/python -m docs.notebook

# Format the code.
format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Run the tests and tell which branches none of them takes; 95 % are asked for.
coverage: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov=bmz --cov-branch --cov-report=term-missing:skip-covered

# Install the built wheel with [onnx] and with [all] in empty folders, and run every command there.
test-wheel: $(VENV)/.test
	$(BIN)/python -m pytest -m 'slow or not slow' tests/ship/test_package.py

# Run the tests with the lowest versions that pyproject.toml allows.
test-lowest:
	$(PYTHON) -m venv build/lowest
	build/lowest/bin/pip install --quiet --upgrade pip  # older ones know no --group
	build/lowest/bin/pip install --quiet -c constraints-lowest.txt -e '.[onnx,dask]' --group test onnx
	build/lowest/bin/python -m pytest -n 2 --dist loadfile -W default  # old libraries warn

# Run the tests with the newest versions that pyproject.toml allows, such as another bioimageio.spec than bioimageio.core's.
test-newest:
	$(PYTHON) -m venv build/newest
	build/newest/bin/pip install --quiet --upgrade pip  # older ones know no --group
	build/newest/bin/pip install --quiet -e '.[onnx,dask]' --group test onnx
	build/newest/bin/python -m pytest -n 2 --dist loadfile -W default  # new libraries warn

# Write constraints.txt again for what pyproject.toml asks for; with UPGRADE=--upgrade the newest.
constraints: $(VENV)/.test $(VENV)/.release
	mkdir -p build
	cp constraints.txt build/constraints.txt
	$(BIN)/uv pip compile --quiet pyproject.toml $(EVERYTHING) --python-version 3.11 \
		--no-annotate --no-header $(UPGRADE) -o build/constraints.txt
	# the libraries of CUDA are PyTorch's own affair
	{ sed -n '/^#/p' constraints.txt; grep -vE '^(#|nvidia-|cuda-|triton)' build/constraints.txt; } > build/new.txt
	mv build/new.txt constraints.txt

# Write constraints-lowest.txt again: the lowest versions that pyproject.toml allows.
constraints-lowest: $(VENV)/.release
	mkdir -p build
	$(BIN)/uv pip compile --quiet pyproject.toml --extra onnx --extra dask --group test \
		--resolution lowest-direct --python-version 3.11 --no-annotate --no-header -o build/lowest.txt
	{ sed -n '/^#/p' constraints-lowest.txt; cat build/lowest.txt; } > build/new.txt
	mv build/new.txt constraints-lowest.txt

# Check the recipe of conda: that it renders, and asks for what pyproject.toml asks for.
conda: $(VENV)/.test $(VENV)/.release
	$(BIN)/python -m pytest tests/ship/test_install.py

# Build the conda package of this tree by that recipe, with Python and pip of CHANNEL: conda-forge, or a folder.
conda-package: dist $(VENV)/.release
	$(BIN)/python .ci/conda.py "$$(ls -t dist/bmz-*.tar.gz | head -n 1)" $(CHANNEL)

# Check the workflows and the action for what could be abused, offline.
workflows: $(VENV)/.test $(VENV)/.release
	$(BIN)/zizmor --offline --no-progress .github action.yml
	$(BIN)/python -m pytest tests/ship/test_workflows.py

# Hold what share/workflows gives workflow managers to their own linters, and let Snakemake run its example.
test-workflows: $(VENV)/.test
	$(PYTHON) -m venv build/managers
	build/managers/bin/pip install --quiet edam-ontology fractal-task-tools galaxy-tool-util nf-core snakemake
	BMZ_MANAGERS=build/managers/bin $(BIN)/python -m pytest tests/ship/test_workflow_managers.py

# Hold pages, help and docstrings to the words of share/vale by Vale: that of PATH, or PyPI's, which downloads the program.
vale:
	command -v vale || { $(PYTHON) -m venv build/vale && build/vale/bin/pip install --quiet --upgrade pip \
		&& build/vale/bin/pip install --quiet --group words; }
	PATH="$$PATH:$(CURDIR)/build/vale/bin" && vale README.md CONTRIBUTING.md CHANGELOG.md docs model_cards src

# Run the pre-commit hooks of this tree in a small repository, by pre-commit in an environment of its own.
pre-commit:
	$(PYTHON) -m venv build/pre-commit
	build/pre-commit/bin/pip install --quiet pre-commit
	build/pre-commit/bin/python .ci/hooks.py build/pre-commit/bin/pre-commit

# Walk through README from an empty folder with PYTHON: install, first mask, first fit, each in less than three minutes.
newcomer: $(VENV)/.test
	$(BIN)/python -m docs.newcomer ../shared $(PYTHON)

# Build wheel and sdist into dist.
dist: $(VENV)/.test
	$(BIN)/python -m build

# Write the bill of materials of this environment (CycloneDX) into build/bmz.cdx.json.
sbom: $(VENV)/.test $(VENV)/.release
	mkdir -p build
	$(BIN)/cyclonedx-py environment $(VENV) --pyproject pyproject.toml --output-reproducible -o build/bmz.cdx.json

# Ask the advisories of PyPI about every version in constraints.txt; one that cannot be asked about is a failure.
audit: $(VENV)/.release
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r constraints.txt

# Say whether a pinned version is older than a year without a reason; nobody is asked.
ages: $(VENV)/.pip
	$(BIN)/python .ci/ages.py

# Read the day of each pinned version off the package index.
ages-update: $(VENV)/.release
	$(BIN)/python .ci/ages.py --update $(BIN)/uv

# Remove what was installed and made.
clean:
	rm -rf $(VENV) bmz-demo build dist

$(VENV)/.pip:
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	touch $@

$(VENV)/.demo: $(VENV)/.pip $(SETUP)
	$(PIP) -e '.[onnx]'
	$(BIN)/python -m compileall -q src
	touch $@

$(VENV)/.test: $(VENV)/.pip $(SETUP)
	$(PIP) -e '.[onnx,openvino,torch,tensorflow,keras,dask,formats,parquet,anndata,mcp,reference]' --group test --group lint --group oracles --group docs
	$(BIN)/python -m compileall -q src
	touch $@

$(VENV)/.release: $(VENV)/.pip
	$(PIP) --group release
	touch $@
