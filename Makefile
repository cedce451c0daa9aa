.DEFAULT_GOAL := help
PYTHON ?= python3
PY := .venv/bin/python

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

run: .venv/run ## Start the gateway on its embedded default (PORT=8080 PYTHON=python3)
	FLASHGATE_LOG_FORMAT=$${FLASHGATE_LOG_FORMAT:-text} $(PY) -m app serve

test: check ## Check everything, then run all tests, two files at a time (TESTS_AT_ONCE=2)
	$(PY) -m pytest -n $${TESTS_AT_ONCE:-2} --dist loadfile

check: .venv/dev ## Lint, formatting, types, layers
	$(PY) -m ruff check app tests
	$(PY) -m ruff format --check app tests examples
	$(PY) -m mypy
	$(PY) -m pytest -q tests/architecture

coverage: .venv/dev ## Run all tests and print which share of app's lines and branches they run (TESTS_AT_ONCE=2)
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest -n $${TESTS_AT_ONCE:-2} --dist loadfile
	$(PY) -m coverage combine -q
	$(PY) -m coverage report --skip-covered

clients: .venv/dev ## Generate clients in three languages and run them (needs node and a JDK)
	FLASHGATE_CLIENTS=1 $(PY) -m pytest tests/clients

clients-all: .venv/dev ## Install the clients of other frameworks and run them against a gateway (needs node)
	FLASHGATE_CLIENTS=1 $(PY) -m pytest tests/contract/test_all_clients.py

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
ENGINE ?= docker

image: ## Build the container, named flashgate (ENGINE=docker)
	$(ENGINE) build -t flashgate --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) \
	  --build-arg CREATED=$$(git log -1 --format=%cI) .

deploy-check: .venv/dev ## Check the deployment's files with linters, policies and the platform's own classes
	DEPLOY_TOOLS=1 $(PY) -m pytest tests/deploy tests/release

sbom: .venv/dev ## Write the bill of materials (CycloneDX) and the licences of the image into dist
	$(PY) -m tests.release.sbom

release-check: check ## Check that this commit can be the release that pyproject.toml states
	$(PY) -m pytest -q tests/release tests/surfaces/test_documents.py tests/clients/test_compatibility.py
	$(PY) -m tests.release.check

chaos: .venv/dev ## Run four replicas, break everything, then audit the ledger (CHAOS_S=60 SEED=…)
	$(PY) -m tests.chaos.run --seconds $${CHAOS_S:-60} $${SEED:+--seed $$SEED}

bill: .venv/dev ## Send 10,000 mixed calls, and reconcile the ledger with the emulator's own bill (BILL_CALLS=10000)
	$(PY) -m tests.bill.run --calls $${BILL_CALLS:-10000}

cut-over: .venv/dev ## Send 10,000 recorded requests while their model is migrated and back (CUT_OVER_REQUESTS=10000)
	$(PY) -m tests.cutover.run --requests $${CUT_OVER_REQUESTS:-10000}

bench: .venv/dev ## Measure what an admission and a request cost, and that it does not grow (about a minute)
	$(PY) -m tests.benchmarks.run

bad-day: .venv/dev ## Run an hour of Google's bad days in a minute, as a table and a picture (BAD_DAY_S=60 SEED=…)
	$(PY) -m tests.badday.run --seconds $${BAD_DAY_S:-60} $${SEED:+--seed $$SEED}

corpus: .venv/dev ## Compare what the gateway accepts with what decoders open, in a folder of files (DIR=…)
	$(PY) -m tests.media.corpus $${DIR:-tests/fixtures/files}

openapi: .venv/run ## Export the OpenAPI document, and the JSON Schema of the tenants' file
	$(PY) -m app openapi > openapi/openapi.json
	$(PY) -m app tenants schema > openapi/tenants.schema.json

reference: .venv/run ## Write REFERENCE.md, and the README's table of rules
	$(PY) -m app reference > REFERENCE.md
	$(PY) -m app reference --readme README.md

parameters: .venv/dev ## Write docs/parameters.md: what becomes of each parameter of the original APIs
	$(PY) -m tests.contract.parameters > docs/parameters.md

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "flashgate needs Python 3.11 or later; choose one with PYTHON=python3.11")'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "No virtual environment was made; on Debian, install python3-venv." >&2; exit 1; }

.venv/run: .venv/bin/python requirements-build.txt requirements-run.txt pyproject.toml
	@test -e .venv/dev || echo "Installing the packages into .venv, which takes about a minute"
	@test -e .venv/dev || $(PY) -m pip install -q --disable-pip-version-check --require-hashes \
	  -r requirements-build.txt -r requirements-run.txt
	$(PY) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev: .venv/bin/python requirements-build.txt requirements-dev.txt pyproject.toml
	@echo "Installing the packages and the tools into .venv, which takes about two minutes"
	$(PY) -m pip install -q --disable-pip-version-check --require-hashes \
	  -r requirements-build.txt -r requirements-dev.txt
	$(PY) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@ .venv/run

clean: ## Remove the environment and every cache
	rm -rf .venv .coverage* .clients .deploy dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: help run test check coverage chaos bad-day bill cut-over bench corpus
.PHONY: clients clients-all openapi reference parameters clean
