# Everything lives in .venv; `make demo` or `make test` on a fresh machine sets it up first.
PYTHON ?= python3
# The requirement for torch, with its index if you want another build than PyPI's, for example
#   make demo TORCH="torch --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch>=2.4

BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test check bench reproduce up down clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet '$(firstword $(TORCH))' $(wordlist 2,99,$(TORCH))
	$(BIN)/pip install --quiet --editable '.[all]'
	touch $@

demo: $(READY) ## learn an encoder, write to the embedded engine, search, verify, report
	$(BIN)/sparsevec demo

test: $(READY) ## the tests, on every engine that is there
	$(BIN)/pytest

check: $(READY) ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## the tables of the README
	$(BIN)/python -m benchmarks.debian12

reproduce: $(READY) ## the paper's comparison, 48 processor minutes; QUICK=1: that it runs, 3 minutes
	$(BIN)/python -m benchmarks.paper $(if $(QUICK),--quick --again)

up: ## Qdrant, Elasticsearch 8 and 9, OpenSearch in docker, waiting until they are healthy
	docker compose --file docker/compose.yaml up --detach --wait

down: ## stop them and forget their data
	docker compose --file docker/compose.yaml down --volumes

clean: ## remove the environment and everything that was built
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
