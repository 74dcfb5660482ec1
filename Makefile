# Each target first builds its prerequisites. PYTHON is the interpreter (3.11 or 3.12) for the environment.
fits = $(shell $(1) -c 'import sys; sys.version_info[:2] in ((3, 11), (3, 12)) and print("$(1)")' 2>/dev/null)
PYTHON ?= $(firstword $(foreach name,python3 python3.11 python3.12,$(call fits,$(name))) python3)
CONFIG ?= configs/local.yaml
REGISTRY ?= localhost:30000
FLYTE_PROJECT ?= flytesnacks
FLYTE_DOMAIN ?= development
COMMIT := $(shell git describe --always --dirty --abbrev=12)
VERSION ?= $(COMMIT)
IMAGE ?= $(REGISTRY)/flyte-llama:$(COMMIT)
# The image of the tasks without GPUs; empty registers them with IMAGE. Pyflyte reads it, as it reads the settings.
export IMAGE_CPU ?=
# The package index of torch's CPU builds, and the trackers in the images, such as "wandb mlflow-skinny tensorboard".
TORCH_INDEX ?=
REPORTERS ?=
DOCKER_BUILD_ARGS ?=
# Import the package from this checkout, also in the workers that Flyte starts.
export PYTHONPATH := $(CURDIR)

BIN := .venv/bin
RUN_STAMP := .venv/.installed
TEST_STAMP := .venv/.installed-test
SERVE_STAMP := .venv/.installed-serve

.PHONY: run serve test check format bench faults package dry-run register launch image image-cpu audit sbom requirements clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' \
	  || { echo "Python 3.11 or 3.12 is needed, and $(PYTHON) is neither. Set PYTHON=/path/to/python3.11." >&2; exit 2; }
	$(PYTHON) -m venv .venv

$(RUN_STAMP): requirements.txt pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# --no-deps: liger-kernel requires triton, which torch's GPU builds bring along and its CPU builds do without.
$(TEST_STAMP): requirements-test.txt requirements-gpu.txt $(RUN_STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-test.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-gpu.txt
	@touch $@

run: $(RUN_STAMP)
	$(BIN)/flyte-llama check --config '$(CONFIG)'
	$(BIN)/pyflyte run flyte_llama/workflows.py train_flyte_llama --config '$(CONFIG)'

$(SERVE_STAMP): requirements-serve.txt $(RUN_STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-serve.txt
	@touch $@

serve: $(SERVE_STAMP)
	$(BIN)/flyte-llama serve

test: check
	$(BIN)/python -m pytest -m slow -n 3 --dist loadfile --no-loadscope-reorder

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

faults: $(TEST_STAMP)
	$(BIN)/python benchmarks/faults.py

package: $(RUN_STAMP)
	$(BIN)/pyflyte --pkgs flyte_llama package --force --image $(IMAGE) --output flyte-package.tgz

# Flyte refuses a version that it knows with other content, so the version ends in a digest of the settings.
register dry-run: $(RUN_STAMP)
	@version=$$(IMAGE='$(IMAGE)' $(BIN)/flyte-llama settings --version '$(VERSION)') || exit 2; set -x; \
	$(BIN)/pyflyte register $(if $(filter dry-run,$@),--dry-run) --copy none --version "$$version" --image '$(IMAGE)' \
	  --project '$(FLYTE_PROJECT)' --domain '$(FLYTE_DOMAIN)' flyte_llama

# `--copy all` sends the files of the checkout, so edits need no new image: the one of the commit is taken.
launch: COMMIT := $(patsubst %-dirty,%,$(COMMIT))
launch: $(RUN_STAMP)
	$(BIN)/flyte-llama check --remote --config '$(CONFIG)'
	IMAGE='$(IMAGE)' $(BIN)/pyflyte run --remote --copy all --image '$(IMAGE)' \
	  --project '$(FLYTE_PROJECT)' --domain '$(FLYTE_DOMAIN)' flyte_llama/workflows.py train_flyte_llama --config '$(CONFIG)'

# DOCKER_BUILD_ARGS can choose other base images: see the top of the Dockerfile.
image:
	docker build --build-arg REPORTERS='$(REPORTERS)' $(DOCKER_BUILD_ARGS) --build-arg tag=$(IMAGE) --tag $(IMAGE) .

# The same system as below the CUDA images, so that both images have the same Python.
CPU_BASE := ubuntu:24.04
CPU_BUILD_ARGS := BUILD_IMAGE=$(CPU_BASE) RUNTIME_IMAGE=$(CPU_BASE) REQUIREMENTS=requirements.txt \
  TORCH_INDEX=$(TORCH_INDEX) DEEPSPEED_OPS= TRITON_COMPILER=
CPU_TAG := $(or $(IMAGE_CPU),$(IMAGE)-cpu)
image-cpu:
	@[ -n '$(TORCH_INDEX)' ] || { echo "TORCH_INDEX is not set, and pip's plain index has torch with CUDA. Set it to the" \
	  "address that the CPU choice on https://pytorch.org/get-started/locally/ shows." >&2; exit 2; }
	docker build $(addprefix --build-arg ,$(CPU_BUILD_ARGS)) --build-arg REPORTERS='$(REPORTERS)' $(DOCKER_BUILD_ARGS) \
	  --build-arg tag=$(CPU_TAG) --tag $(CPU_TAG) .

AUDIT := .venv-audit
$(AUDIT)/.installed: requirements-audit.txt
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/pip install --quiet --disable-pip-version-check -r requirements-audit.txt
	@touch $@

# Ask the package index for known vulnerabilities of every pin, for both Pythons and all platforms: the markers are cut
# off. pip-audit takes each package once, so second versions have a file of their own. With --strict, a pin that the
# index says nothing about is an error, and pip-audit then writes no findings.
audit: $(AUDIT)/.installed
	@rm -f $(AUDIT)/pins-*
	@sed 's/ *;.*//' requirements*.txt | sort -u | awk -F== '{ print > ("$(AUDIT)/pins-" ++count[$$1] ".txt") }'
	@status=0; for pins in $(AUDIT)/pins-*.txt; do \
	  $(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement "$$pins" \
	    --output "$$pins.findings" 2> $(AUDIT)/log.txt && continue; \
	  [ -s "$$pins.findings" ] || { tail -n 1 $(AUDIT)/log.txt >&2; echo "Not audited: the package index did not answer for every" \
	    "pin, so nothing is known. Run it where the index's list of vulnerabilities can be read." >&2; exit 2; }; \
	  cat "$$pins.findings"; status=1; \
	done; \
	[ $$status -eq 1 ] || echo "No known vulnerability in $$(cat $(AUDIT)/pins-*.txt | wc -l) pinned packages."; \
	exit $$status

# The packages of the image without trackers, as CycloneDX JSON.
sbom: $(AUDIT)/.installed
	@cat requirements.txt requirements-gpu.txt | PYTHONWARNINGS=ignore $(AUDIT)/bin/cyclonedx-py requirements \
	  --pyproject pyproject.toml --output-reproducible --output-file sbom.json -
	@echo "sbom.json: $$(grep -c '"purl"' sbom.json) packages"

# The pins hold for Python 3.11 and 3.12. CUDA packages are left out: a GPU build of torch requires the right ones
# itself, and a CPU build needs none.
COMPILE = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --no-annotate --no-header --quiet
PINS = grep -vE '^(nvidia|cuda|triton)'
requirements: $(BIN)/python
	$(BIN)/pip install --quiet uv
	$(COMPILE) --extra local | $(PINS) > requirements.txt
	$(COMPILE) --extra local --extra test --constraint requirements.txt | $(PINS) \
	  | grep -vxFf requirements.txt > requirements-test.txt
	$(COMPILE) --extra local --extra serve --constraint requirements.txt | $(PINS) \
	  | grep -vxFf requirements.txt > requirements-serve.txt
	$(COMPILE) --extra local --extra gpu --constraint requirements.txt | $(PINS) \
	  | grep -vxFf requirements.txt > requirements-gpu.txt
	$(COMPILE) --extra local --extra reporters --constraint requirements.txt | $(PINS) \
	  | grep -vxFf requirements.txt > requirements-reporters.txt
	$(COMPILE) --extra local --extra examples --constraint requirements.txt | $(PINS) \
	  | grep -vxFf requirements.txt > requirements-examples.txt
	$(subst pyproject.toml,--group audit,$(COMPILE)) > requirements-audit.txt

clean:
	rm -rf .venv .venv-audit output flyte-package.tgz sbom.json .mypy_cache .ruff_cache .pytest_cache
