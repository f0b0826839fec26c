# `make` alone lists what there is. Everything runs in .venv, which follows uv.lock.

BIN := .venv/bin
IN_STEP := .venv/.in-step
ARGS ?=
ROOMS := schemas connectors guards delivery_log delivery streams webhook_gateway impact_in

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-fast test-kafka proofs faults bench lint format lock kafka-jars clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(IN_STEP) ## the environment in .venv, as locked; every target that needs it makes it

demo: venv ## the whole product on this machine, with simulated platforms (ARGS="--events 500 --exit --json")
	@$(BIN)/impact-in demo $(ARGS)

test: lint ## lint, types, and all tests but the proofs, on real servers too (ARGS="-k replay")
	$(BIN)/python -m pytest -m "not proof" $(ARGS)

test-fast: venv ## the tests that need no server, within a minute
	$(BIN)/python -m pytest -m fast -n auto $(ARGS)

test-kafka: venv ## the lane on Apache Kafka: KAFKA_BOOTSTRAP_SERVERS, else Docker, else Java 17 with Maven
	$(BIN)/python -m pytest -m kafka $(ARGS)

proofs: venv kafka-jars ## the tests that take minutes: mutants, rebalances in full flow, what stock Faust loses
	$(BIN)/python -m pytest -m proof $(ARGS)

faults: venv kafka-jars ## each fault of docs/guarantees.md on Apache Kafka, 13 minutes on 2 cores (ARGS="-k postgres")
	$(BIN)/python -m proving.faults $(ARGS)

bench: venv kafka-jars ## speed beside a bare loop, on a quiet machine (ARGS="--quick whole_way"); docs/benchmarks.md
	$(BIN)/python -m benchmarks.run $(ARGS)

lint: venv ## style, format, types, rooms (import-linter) and declared dependencies, changing nothing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy tests/servers tests/conftest.py
	$(BIN)/mypy benchmarks
	$(BIN)/mypy proving
	$(BIN)/lint-imports
	$(BIN)/deptry . $(addprefix --known-first-party ,$(ROOMS) proving) --ignore DEP002

format: venv ## mend style and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: ## lock the dependencies anew after a change of pyproject.toml (needs uv)
	uv lock
	uv export --locked --quiet --format requirements-txt --no-emit-project -o requirements.txt

kafka-jars: venv ## fetch Apache Kafka for the tests' Kafka lane, with Maven, into infra/kafka/jars
	$(BIN)/python -m tests.servers.kafka_jars

clean: ## remove what make made: .venv, jars, caches; the data in .impact-in stays
	rm -rf .venv infra/kafka/jars infra/kafka/target dist build
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# With uv from uv.lock, without it from requirements.txt, which `make lock` exports from uv.lock. Either way nothing
# is installed whose hash is not locked; the checkout itself is built by the hatchling that is locked with the rest.
$(IN_STEP): uv.lock requirements.txt pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
	  UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=.venv uv sync --locked --quiet; \
	else \
	  usable=; lacking=; \
	  for python in python3 python3.13 python3.12 python3.11; do \
	    "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || continue; \
	    if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then usable=$$python; break; fi; \
	    lacking=$$python; \
	  done; \
	  if [ -z "$$usable" ] && [ -n "$$lacking" ]; then \
	    echo "$$lacking cannot make an environment: it lacks venv or ensurepip." \
	      "On Debian and Ubuntu: apt install $$($$lacking -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')" >&2; \
	    exit 1; \
	  elif [ -z "$$usable" ]; then \
	    echo "Impact-In needs Python 3.11, 3.12 or 3.13. Here python3 is: $$(python3 --version 2>&1 | head -n 1)" >&2; \
	    exit 1; \
	  fi; \
	  echo "making .venv with $$usable (half a minute; uv would take seconds)" >&2; \
	  export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1; \
	  "$$usable" -m venv --clear .venv && \
	  $(BIN)/python -m pip install --require-hashes -r requirements.txt && \
	  $(BIN)/python -m pip install --no-deps --no-build-isolation -e .; \
	fi
	@touch $@
