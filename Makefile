# The commands of this repository. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := client shared $(wildcard services/*) cli
PROJECTS := $(PACKAGES:%=%/pyproject.toml)

.PHONY: help
help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(VENV)/.complete ## make the virtual environment with every locked package

$(VENV)/.complete: requirements.lock $(PROJECTS) tools/venv.sh
	@tools/venv.sh $(VENV) $(PACKAGES)
	@touch $@

.PHONY: up
up: venv ## start everything and wait until it is ready (MODE=docker or MODE=local forces one)
	@$(BIN)/etlpay up --mode $(or $(MODE),auto)

.PHONY: status
status: venv ## show what is ready, and the addresses
	@$(BIN)/etlpay status

.PHONY: demo
demo: venv ## send one event through each channel and show its record
	@$(BIN)/etlpay demo

.PHONY: validate-demo
validate-demo: venv ## validate files with planted faults, and tell whether just those were found (needs no stack)
	@$(BIN)/python tools/validate_demo.py

.PHONY: test
test: venv ## run every test that this machine can run (ARGS="tests/unit -k name" narrows)
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: faults
faults: venv ## run the fault matrix (SMOKE=1: a few minutes of it; COMPOSE=1: of containers; SEED=1,2 CASES="broker,files" EVENTS=2000 choose; RECORD=1 keeps the run)
	@PYTHONPATH=tests $(BIN)/python -m faults $(if $(SMOKE),--smoke) $(if $(COMPOSE),--compose) $(if $(SEED),--seed $(SEED)) \
		$(if $(CASES),--cases "$(CASES)") $(if $(EVENTS),--events $(EVENTS)) $(if $(RECORD),--record)

.PHONY: bench
bench: venv ## measure each case beside its limit (CASES=http,grpc ROUNDS=3 EVENTS=100000 ROWS=1000000 narrow it; GROWTH=1000000,20000000: on a ledger that holds so many; RECORD=1 keeps the run)
	@cd tests && $(abspath $(BIN))/python -m benchmarks \
		$(if $(CASES),--cases $(CASES)) $(if $(PAYLOADS),--payloads $(PAYLOADS)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(EVENTS),--events $(EVENTS)) $(if $(ROWS),--rows $(ROWS)) $(if $(SECONDS),--seconds $(SECONDS)) \
		$(if $(GROWTH),--growth $(GROWTH)) $(if $(RECORD),--record)

.PHONY: exact
exact: venv ## send events of the examples through files and HTTP batches, and compare their sums to the last digit (EXAMPLES=stripe,orders EVENTS=1000000)
	@PYTHONPATH=tests $(BIN)/python -m exact $(if $(EXAMPLES),--examples $(EXAMPLES)) $(if $(EVENTS),--events $(EVENTS))

.PHONY: lint
lint: venv ## formatter, linter, types, architecture, dependencies
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy $(PACKAGES:%=%/src) tests tools docker
	@$(BIN)/lint-imports --no-logo
	@for package in $(PACKAGES); do (cd $$package && $(abspath $(BIN))/deptry --no-ansi src) || exit 1; done

.PHONY: fmt
fmt: venv ## format the code and apply the linter's safe fixes
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

.PHONY: down
down: venv ## stop everything; data stays
	@$(BIN)/etlpay down

.PHONY: clean
clean: venv ## stop everything and delete its data; asks first (YES=1: without a question)
	@$(BIN)/etlpay clean $(if $(YES),--yes)

.PHONY: proto
proto: venv ## generate the gRPC code from protos/
	@$(BIN)/python tools/generate_proto.py

.PHONY: docs
docs: venv ## generate the pages of settings and of pipeline files, the OpenAPI, the JSON Schema and the tables of the last runs
	@$(BIN)/python tools/generate_settings_table.py
	@$(BIN)/python tools/generate_openapi.py
	@$(BIN)/python tools/generate_pipeline_schema.py
	@$(BIN)/python tools/generate_pipeline_reference.py
	@cd tests && $(abspath $(BIN))/python -m faults.record && $(abspath $(BIN))/python -m benchmarks.record

.PHONY: lock
lock: ## rewrite requirements.lock (needs uv, which `make venv` installs)
	@PATH="$(abspath $(BIN)):$$PATH" tools/lock.sh
