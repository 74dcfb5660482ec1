# Each target makes what it needs. PYTHON names the interpreter (3.11 or 3.12) that the environment is made with.
fits = $(shell $(1) -c 'import sys; sys.version_info[:2] in ((3, 11), (3, 12)) and print("$(1)")' 2>/dev/null)
PYTHON ?= $(firstword $(foreach name,python3 python3.11 python3.12,$(call fits,$(name))) python3)
CONFIG ?= configs/local.yaml
REGISTRY ?= localhost:30000
FLYTE_PROJECT ?= flytesnacks
FLYTE_DOMAIN ?= development
VERSION ?= $(shell git describe --always --dirty --abbrev=12)
IMAGE ?= $(REGISTRY)/flyte-llama:$(VERSION)
DOCKER_BUILD_ARGS ?=
# On a checkout the package is imported from here; workers that Flyte starts inherit it.
export PYTHONPATH := $(CURDIR)

BIN := .venv/bin
RUN_STAMP := .venv/.installed
TEST_STAMP := .venv/.installed-test

.PHONY: run test check format bench package dry-run register image requirements clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' \
	  || { echo "Python 3.11 or 3.12 is needed; $(PYTHON) is another. Set PYTHON=/path/to/python3.11." >&2; exit 2; }
	$(PYTHON) -m venv .venv

$(RUN_STAMP): requirements.txt pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(TEST_STAMP): requirements-test.txt requirements-gpu.txt $(RUN_STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-test.txt -r requirements-gpu.txt
	@touch $@

# Flyte's cache remembers where outputs lie: until a run has completed here, what it remembers lies elsewhere, or is
# gone, and is written anew.
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
	$(BIN)/python -m pytest -m "not slow" -n 2

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

# DOCKER_BUILD_ARGS names other bases, as the Dockerfile's head shows.
image:
	docker build $(DOCKER_BUILD_ARGS) --build-arg tag=$(IMAGE) --tag $(IMAGE) .

# The pins are resolved for Python 3.11 and 3.12 at once. A GPU build of torch names its CUDA packages itself, and a
# CPU build has none, so they are left out.
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
