# `make` alone prints the targets. Each target does its own set-up; nothing here needs root.
SHELL := /bin/bash
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_WORKERS ?= 2
# A file's tests stay together, since they share a cluster or a trained model. One thread each, or the workers fight.
SIDE_BY_SIDE := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(PYTEST_WORKERS) --dist loadfile

.DEFAULT_GOAL := help

##@ Main

.PHONY: test
test: $(STAMP) ## Run every test: unit, integration on a real control plane, end to end
	@echo "==> unit tests"
	@$(SIDE_BY_SIDE) tests/unit
	@echo "==> programs of the development cluster (compiled once for this machine: about 10 minutes on 2 cores)"
	@$(BIN)/python -m devcluster build --with helm --with kueue > /dev/null
	@echo "==> integration and end-to-end tests"
	@$(SIDE_BY_SIDE) tests --ignore tests/unit

.PHONY: demo
demo: $(STAMP) ## Take a real model from kubectl apply to a cooler fleet (KEEP=1 leaves it up; KUBECONFIG= uses yours)
	@echo "==> programs of the cluster (compiled once for this machine: about 9 minutes on 2 cores)"
	@$(BIN)/python -m devcluster build > /dev/null
	@$(BIN)/python -m demo

.PHONY: bench
bench: $(STAMP) ## Measure the operator, predictions and a transformer; JSON in build/bench (BENCH="--quick operator" for less)
	@$(BIN)/python -m devcluster build --with kwok > /dev/null
	@$(BIN)/python -m tests.bench $(BENCH)

.PHONY: bench-operator
bench-operator: $(STAMP) ## Settle up to 10,000 PruneJobs, beside a reference in Go, on KWOK nodes (QUICK=1: 1,000 once; SIZES=, DOCUMENT=1)
	@$(BIN)/python -m devcluster build --with kwok > /dev/null
	@$(BIN)/python -m tests.bench operator $(if $(filter 1,$(QUICK)),--quick)

.PHONY: bench-rollout
bench-rollout: $(STAMP) ## Bring a model to 300 Deployments and a bad one back, the operator killed on the way (QUICK=1: 40; DOCUMENT=1)
	@$(BIN)/python -m devcluster build --with kwok > /dev/null
	@$(BIN)/python -m tests.bench rollout $(if $(filter 1,$(QUICK)),--quick)

.PHONY: bench-images
bench-images: $(STAMP) ## Weigh the images and start the operator of its own ten times; as root (QUICK=1: twice; DOCUMENT=1)
	@$(BIN)/python -m devcluster build > /dev/null
	@$(BIN)/python -m tests.bench images $(if $(filter 1,$(QUICK)),--quick)

.PHONY: bench-churn
bench-churn: $(STAMP) ## Create, suspend, edit and delete PruneJobs at random; nothing may be left (MINUTES=20, SEED=1)
	@$(BIN)/python -m devcluster build --with kwok > /dev/null
	@$(BIN)/python -m tests.bench.operator.churn

.PHONY: bench-engine
bench-engine: $(STAMP) ## Compare what methods save at an accuracy budget (hours; QUICK=1 for a look; SEEDS=, CASES=, DOCUMENT=1)
	@$(BIN)/python -m tests.bench.engine

.PHONY: bench-gpu
bench-gpu: $(STAMP) ## On a machine with an NVIDIA GPU: predictions and pruning against its energy counter (PARTS=, QUICK=1, DOCUMENT=1)
	@$(BIN)/python -m tests.bench.gpu

.PHONY: test-gpu
test-gpu: $(STAMP) ## On a machine with an NVIDIA GPU that nobody else uses: what only such a one can show
	@$(BIN)/python -m pytest -q tests/gpu

.PHONY: images-test
images-test: $(STAMP) ## Build both images twice and run them, the pruner's too; as root (25 GB on disk, long)
	@$(BIN)/python -m devcluster build > /dev/null
	@IMAGES=all $(BIN)/python -m pytest -q tests/integration/images

.PHONY: unit
unit: $(STAMP) ## Run the unit tests only
	@$(BIN)/python -m pytest tests/unit -q

.PHONY: lint
lint: $(STAMP) ## Check format, style, types, imports and generated files; change nothing
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m coppice_api.crd crds --check
	@$(BIN)/python -m observability --check
	@$(BIN)/python -m reference --check

.PHONY: format
format: $(STAMP) ## Format the code and mend what can be mended by rule
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

##@ Generated files

.PHONY: crds
crds: $(STAMP) ## Write crds/ from the API package
	@$(BIN)/python -m coppice_api.crd crds

.PHONY: observability
observability: $(STAMP) ## Write dashboards/ and docs/metrics.md from the code
	@$(BIN)/python -m observability

.PHONY: reference
reference: $(STAMP) ## Write docs/reference/ from the code
	@$(BIN)/python -m reference

.PHONY: architectures
architectures: $(STAMP) ## Prune every architecture and write the table in docs/architectures.md
	@WRITE_TABLE=1 $(BIN)/python -m pytest tests/integration/architectures -q

COMPILE := $(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header
UPGRADE ?= --upgrade

.PHONY: lock
lock: $(STAMP) ## Resolve requirements/*.txt again from pyproject.toml (UPGRADE= keeps versions that still fit)
	@$(COMPILE) $(UPGRADE) --extra dev pyproject.toml -o requirements/dev.txt
	@# What the images hold: the same versions.
	@$(COMPILE) -c requirements/dev.txt --extra operator pyproject.toml -o requirements/operator.txt
	@$(COMPILE) -c requirements/dev.txt --extra pruner --extra hf --extra vision --extra int8 --extra onnx-runtime \
		--extra s3 pyproject.toml -o requirements/pruner.txt
	@$(COMPILE) $(UPGRADE) --extra release pyproject.toml -o requirements/release.txt

RELEASE := $(VENV)-release

.PHONY: sbom
sbom: $(STAMP) $(RELEASE)/.installed ## Write CycloneDX bills of materials of the images into build/sbom
	@mkdir -p build/sbom
	@$(RELEASE)/bin/cyclonedx-py environment --output-reproducible --of JSON --pyproject pyproject.toml \
		-o build/sbom/environment.json $(BIN)/python
	@$(BIN)/python -m sbom build/sbom/environment.json build/sbom

.PHONY: audit
audit: $(STAMP) $(RELEASE)/.installed ## Ask the advisory database about every locked package (needs a way to it)
	@$(BIN)/python -m sbom.audit $(RELEASE)/bin/pip-audit

$(RELEASE)/.installed: $(STAMP) requirements/release.txt
	@test -x $(RELEASE)/bin/python || $(PYTHON) -m venv $(RELEASE)
	@VIRTUAL_ENV=$(abspath $(RELEASE)) $(BIN)/uv pip sync -q --require-hashes requirements/release.txt
	@touch $@

.PHONY: docs
docs: $(STAMP) ## Build the site of docs/ in build/docs, strictly
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

##@ Set-up

.PHONY: venv
venv: $(STAMP) ## Make .venv with the locked packages (torch is 4.7 GB installed: about 2 minutes the first time)

$(STAMP): requirements/dev.txt pyproject.toml
	@echo "==> preparing $(VENV) (the first time this brings torch: about 2 minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# uv removes pip, which is in no lock: the second time there is uv alone.
	@test -x $(BIN)/uv || $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps \
		-r requirements/bootstrap.txt
	@VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip sync -q --require-hashes requirements/dev.txt requirements/bootstrap.txt
	@VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install -q --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: clean
clean: ## Remove what builds and tests have left in this checkout (not the shared cache)
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -not -path './$(VENV)/*' -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
