# Bearwire. `make help` lists what there is. Needs Linux, make and Python 3.11 or newer; brings the rest itself.

PYTHON ?= python3
TOOLS := .tools
UV := $(TOOLS)/bin/uv
DEV := .venv
DEMO := .venv-demo
TRAIN := .venv-train
GPU := .venv-gpu
DATA ?= ../shared/data
RUN ?= runs/finance-en
SOURCES := streamer models alerts

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-train acceptance lint format docs bench bench-models bench-alerts bench-nab bench-core bench-daemon bench-gpu chaos train lock wheel clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Bearwire needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(TOOLS) || \
	  { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv"; rm -rf $(TOOLS); exit 1; }
	@$(TOOLS)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt

# One environment per purpose, each from its hash-pinned requirements, with this checkout installed in place.
define environment
	@echo "setting up $(1) from requirements/$(2).txt"
	@$(UV) venv -q --clear --python $(PYTHON) $(1)
	@VIRTUAL_ENV=$(CURDIR)/$(1) $(UV) pip install -q --require-hashes -r requirements/$(2).txt
	@VIRTUAL_ENV=$(CURDIR)/$(1) $(UV) pip install -q --no-deps --build-constraints requirements/build.txt -e .
	@touch $@
endef

$(DEMO)/.ready: requirements/demo.txt pyproject.toml | $(UV)
	$(call environment,$(DEMO),demo)

$(DEV)/.ready: requirements/dev.txt pyproject.toml | $(UV)
	$(call environment,$(DEV),dev)

$(TRAIN)/.ready: requirements/train.txt pyproject.toml | $(UV)
	$(call environment,$(TRAIN),train)

$(GPU)/.ready: requirements/gpu.txt pyproject.toml | $(UV)
	$(call environment,$(GPU),gpu)

demo: $(DEMO)/.ready ## replay the bundled news stream through a real worker and watch the alerts
	@$(DEMO)/bin/bearwire demo $(ARGS)

test: $(DEV)/.ready ## run every test this machine can run (Kafka tests need JDK 17 and Maven)
	@$(DEV)/bin/pytest $(ARGS)

test-fast: $(DEV)/.ready ## unit and property tests only, no broker
	@$(DEV)/bin/pytest -m "not kafka and not embedded and not browser and not train" $(ARGS)

test-train: $(TRAIN)/.ready ## train, export and route small models (needs torch, which this sets up)
	@$(TRAIN)/bin/python -m pytest -m train --no-skips $(ARGS)

acceptance: $(DEV)/.ready ## a year of real tweets on Apache Kafka, and thousands of examples per property
	@$(DEV)/bin/pytest --acceptance -s $(ARGS)

lint: $(DEV)/.ready ## ruff and mypy --strict
	@$(DEV)/bin/ruff check . && $(DEV)/bin/ruff format --check . && $(DEV)/bin/mypy

format: $(DEV)/.ready ## let ruff fix and format
	@$(DEV)/bin/ruff check --fix . && $(DEV)/bin/ruff format .

docs: $(DEV)/.ready ## write docs/reference from the code
	@$(DEV)/bin/python docs/generate.py

bench: bench-core bench-daemon bench-models bench-alerts bench-nab ## every benchmark but that of a GPU

bench-core: $(DEV)/.ready ## documents a second through windows, novelty and detection
	@$(DEV)/bin/python -m tests.benchmarks.core $(ARGS)

bench-daemon: $(DEV)/.ready ## texts a second of classify, backtest and the worker beside the model alone
	@$(DEV)/bin/python -m tests.benchmarks.daemon $(ARGS)

bench-models: $(TRAIN)/.ready ## texts a second against raw onnxruntime, the Hugging Face pipeline, optimum and infinity-emb
	@$(UV) pip install -q --python $(TRAIN) --no-deps --require-hashes -r requirements/peers.txt || \
	  echo "infinity-emb does not install here and is left out"
	@$(TRAIN)/bin/python -m tests.benchmarks.models $(ARGS)

bench-gpu: $(GPU)/.ready ## texts a second of a bundle (ARGS="--bundle DIR") on a GPU, beside its bound; needs CUDA and cuDNN
	@$(GPU)/bin/python -m tests.benchmarks.lengths --provider cuda --batch-tokens 32768 $(ARGS)

bench-alerts: $(DEV)/.ready ## recall, delay and false alarms on injected surges; DATA= names the data folder
	@$(DEV)/bin/python -m tests.benchmarks.alerts --data $(DATA) $(ARGS)

bench-nab: $(DEV)/.ready ## `bearwire detect` on the Numenta Anomaly Benchmark, by its standard profile; DATA= names the data folder
	@$(DEV)/bin/python -m tests.benchmarks.nab --data $(DATA) $(ARGS)

chaos: $(DEV)/.ready ## half an hour of killed workers and brokers on Apache Kafka
	@$(DEV)/bin/python -m tests.chaos $(ARGS)

train: $(TRAIN)/.ready ## train and export the shipped bundle anew into RUN=; DATA= names the data folder
	@$(TRAIN)/bin/bearwire models train models/recipes/finance-en.yaml --data $(DATA) -o $(RUN) $(ARGS)
	@$(TRAIN)/bin/bearwire models export $(RUN) -o $(RUN)/bundle --precision int8

lock: | $(UV) ## resolve requirements/*.txt anew from pyproject.toml
	@cd requirements && ./lock ../$(UV)

wheel: $(DEV)/.ready ## build the wheel into dist/
	@$(UV) build -q --wheel --build-constraints requirements/build.txt --out-dir dist

clean: ## remove environments, caches and build output
	rm -rf $(TOOLS) $(DEV) $(DEMO) $(TRAIN) $(GPU) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
