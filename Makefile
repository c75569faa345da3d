# Everything lives in .venv; `make demo` or `make test` on a fresh machine sets it up first.
PYTHON ?= python3
TORCH ?= torch>=2.4
# Where torch comes from. Without an NVIDIA GPU: the index of builds for processors alone (200 MB). PyPI's build for Linux
# brings the CUDA libraries, 3 GB to download: it is taken where there is a GPU, and where that index cannot be reached.
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi),https://pypi.org/simple,https://download.pytorch.org/whl/cpu)

# What installs: uv, where it is there, in a fifth of the time; else pip, `make UV=` too. torch is not its concern (.ci/torch):
# uv sees none that an environment borrows.
UV ?= $(shell command -v uv)
install = $(if $(UV),$(UV) pip install --overrides .ci/no-torch --python $(1),$(BIN)/python -m pip --python $(1) install)

BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test slow wheel guests docs check bench reproduce up down clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	@UV="$(UV)" HERE="$(BIN)/python" PYTHON="$(PYTHON)" TORCH="$(TORCH)" TORCH_INDEX="$(TORCH_INDEX)" sh .ci/torch
	$(call install,$(BIN)/python) --editable '.[all]'
	touch $@

demo: $(READY) ## learn an encoder, write to the embedded engine, search, verify, report
	$(BIN)/sparsevec demo

test: $(READY) ## the tests, on every engine that is there
	$(BIN)/pytest

slow: $(READY) ## the tests that take minutes; before a release
	$(BIN)/pytest -m slow

wheel: $(READY) ## build sdist and wheel, install the wheel in an empty environment, run the demo there
	$(BIN)/pytest -m wheel

guests: .venv-guests/.ready ## the tests of integrations, against the packages themselves
	.venv-guests/bin/python -m pytest -o asyncio_mode=auto -o asyncio_default_fixture_loop_scope=function tests/guests examples/third_party_adapter

# An environment of its own, which borrows what .venv has: guests bring plugins and pins that are not ours.
.venv-guests/.ready: pyproject.toml $(READY)
	$(PYTHON) -m venv --without-pip .venv-guests
	cd .venv-guests/lib/python3*/site-packages && ls -d "$(CURDIR)"/.venv/lib/python3*/site-packages > borrowed.pth
	$(call install,.venv-guests/bin/python) --editable '.[guests,docs]' --editable examples/third_party_adapter
	touch $@

docs: .venv-guests/.ready ## the site, in build/site
	NO_MKDOCS_2_WARNING=1 .venv-guests/bin/python -m mkdocs build --strict

check: $(READY) ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# The others stand at the head of each file of benchmarks/: with an engine (answers, answer_wire, milliseconds, ingest --url,
# backfill, latency, code_storage), or of one question (large, seeds, residual_codes, newcomers, query_kinds, many_budgets,
# two_encoders, decoder_queries, frontier, embeddings). The sets of vectors are not in this repository (README).
DATA ?= ../shared/data

bench: $(READY) ## seven tables that need no engine and no data; where DATA=FOLDER has debian12, that too (an hour); the others: README
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.encoding
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.conversions
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bodies
	$(BIN)/python -m benchmarks.ingest --edge
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.local_search --million
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.local_memory --million
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.pruning
	@if [ -e "$(DATA)/debian12/minilm_20k.npz" ]; \
	then $(BIN)/python -m benchmarks.debian12 --data "$(DATA)/debian12" --again; \
	else echo "$(DATA) has no debian12/minilm_20k.npz: debian12.md is left as it is; say where it is with DATA=FOLDER"; fi

reproduce: $(READY) ## the paper's comparison, of the collections in DATA=FOLDER, 48 processor minutes; QUICK=1: that it runs, 3 minutes
	$(BIN)/python -m benchmarks.paper --folder "$(DATA)" $(if $(QUICK),--quick --again)

up: ## Qdrant, Elasticsearch 8 and 9, OpenSearch in docker, waiting until they are healthy
	docker compose --file docker/compose.yaml up --detach --wait

down: ## stop them and forget their data
	docker compose --file docker/compose.yaml down --volumes

clean: ## remove the environment and everything that was built
	rm -rf .venv .venv-guests build *.egg-info .mypy_cache .ruff_cache .pytest_cache
