# Each target first builds its prerequisites. PYTHON is the interpreter (3.11 or 3.12) for the environment.
fits = $(shell $(1) -c 'import sys; sys.version_info[:2] in ((3, 11), (3, 12)) and print("$(1)")' 2>/dev/null)
PYTHON ?= $(firstword $(foreach name,python3 python3.11 python3.12,$(call fits,$(name))) python3)
CONFIG ?= configs/local.yaml
REGISTRY ?= localhost:30000
FLYTE_PROJECT ?= flytesnacks
FLYTE_DOMAIN ?= development
VERSION ?= $(shell git describe --always --dirty --abbrev=12)
IMAGE ?= $(REGISTRY)/flyte-llama:$(VERSION)
DOCKER_BUILD_ARGS ?=
# Import the package from this checkout, also in the workers that Flyte starts.
export PYTHONPATH := $(CURDIR)

BIN := .venv/bin
RUN_STAMP := .venv/.installed
TEST_STAMP := .venv/.installed-test

.PHONY: run test check format bench package dry-run register image requirements clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' \
	  || { echo "Python 3.11 or 3.12 is needed, and $(PYTHON) is neither. Set PYTHON=/path/to/python3.11." >&2; exit 2; }
	$(PYTHON) -m venv .venv

$(RUN_STAMP): requirements.txt pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(TEST_STAMP): requirements-test.txt requirements-gpu.txt $(RUN_STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-test.txt -r requirements-gpu.txt
	@touch $@

# Flyte's cache stores the paths of outputs. Until a run has completed in this checkout, cached paths point to other
# folders or to deleted ones, so the first run overwrites the cache.
run: $(RUN_STAMP)
	$(BIN)/flyte-llama check --config $(CONFIG)
	$(BIN)/pyflyte run $(if $(wildcard output/.complete),,--overwrite-cache) \
	  flyte_llama/workflows.py train_flyte_llama --config $(CONFIG)
	@touch output/.complete

test: check
	$(BIN)/python -m pytest -m slow

check: $(TEST_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

format: $(TEST_STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(TEST_STAMP)
	$(BIN)/python benchmarks/line.py

package: $(RUN_STAMP)
	$(BIN)/pyflyte --pkgs flyte_llama package --force --image $(IMAGE) --output flyte-package.tgz

dry-run: $(RUN_STAMP)
	$(BIN)/pyflyte register --dry-run --copy none --version $(VERSION) --image $(IMAGE) \
	  --project $(FLYTE_PROJECT) --domain $(FLYTE_DOMAIN) flyte_llama

register: $(RUN_STAMP)
	$(BIN)/pyflyte register --copy none --version $(VERSION) --image $(IMAGE) \
	  --project $(FLYTE_PROJECT) --domain $(FLYTE_DOMAIN) flyte_llama

# DOCKER_BUILD_ARGS can choose other base images: see the top of the Dockerfile.
image:
	docker build $(DOCKER_BUILD_ARGS) --build-arg tag=$(IMAGE) --tag $(IMAGE) .

# The pins hold for Python 3.11 and 3.12. CUDA packages are left out: a GPU build of torch requires the right ones
# itself, and a CPU build needs none.
COMPILE = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --no-annotate --no-header --quiet
PINS = grep -vE '^(nvidia|cuda|triton)'
requirements: $(BIN)/python
	$(BIN)/pip install --quiet uv
	$(COMPILE) --extra local | $(PINS) > requirements.txt
	$(COMPILE) --extra local --extra test --constraint requirements.txt | $(PINS) \
	  | grep -vxFf requirements.txt > requirements-test.txt
	$(COMPILE) --extra local --extra gpu --constraint requirements.txt | $(PINS) \
	  | grep -vxFf requirements.txt > requirements-gpu.txt
	$(COMPILE) --extra local --extra examples --constraint requirements.txt | $(PINS) \
	  | grep -vxFf requirements.txt > requirements-examples.txt

clean:
	rm -rf .venv output flyte-package.tgz .mypy_cache .ruff_cache .pytest_cache
