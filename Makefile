# Two commands on a fresh machine: 'make demo' and 'make test'. They need Python 3.11 or newer and nothing
# else; uv is used where it is installed. What is installed is pinned with hashes (docs/adr/0006).

VENV   ?= .venv
PY     := $(VENV)/bin/python
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
            $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
UV     := $(if $(NO_UV),,$(shell command -v uv 2>/dev/null))

ifdef UV
make_venv = "$(UV)" venv --quiet --python "$(PYTHON)" $(VENV)
install   = "$(UV)" pip install --quiet --compile-bytecode --python $(PY)
else
make_venv = "$(PYTHON)" -m venv $(VENV)
install   = $(PY) -m pip install --quiet --disable-pip-version-check
endif

UPGRADE ?= --upgrade
COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
          --no-annotate --custom-compile-command "make lock"

.PHONY: help demo helm test test-postgresql test-clients slow check bench bench-policy eval eval-breakers bench-breakers conformance parity model-check crash-approvals load-approvals observability dashboards picture docs lock lock-clients wheel clean
.DELETE_ON_ERROR:

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

demo: $(VENV)/.run ## Run the gateway in front of real tool servers; KEEP=1 leaves it running
	@$(PY) -m gateway.cli demo $(if $(KEEP),--keep)

test: $(VENV)/.dev ## Run the tests, without the slow ones
	$(PY) -m pytest -n 2 --dist loadfile -m "not slow" --ignore tests/helm $(ARGS)

test-postgresql: $(VENV)/.dev ## Run the tests of storage, journal and approvals on a real PostgreSQL
	WARDGATE_TEST_STORAGE=postgresql $(PY) -m pytest -n 2 --dist loadfile tests/storage tests/journal \
	    tests/trust tests/test_guard.py tests/catalog/test_pins.py tests/approvals/test_store.py tests/approvals/test_stateful.py tests/approvals/test_crash.py --timeout 600 $(ARGS)

test-clients: $(VENV)/.dev ## Drive real MCP clients against the gateway; CLIENTS="mcp23 ts1 …" for some
	$(PY) -m tests.clients $(ARGS) $(CLIENTS)

slow: $(VENV)/.dev ## Run the slow tests: packaging, crashes, load
	$(PY) -m pytest -m slow $(ARGS)

check: $(VENV)/.dev ## Lint, format, types and the one way of imports
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

bench: $(VENV)/.dev ## Measure against a bare relay; writes build/bench.json
	$(PY) -m tests.bench $(ARGS)

bench-policy: $(VENV)/.dev ## Measure decisions of the shipped packs and what they catch; writes build/policy-bench.json
	$(PY) -m tests.policy.bench_policy

eval-breakers: $(VENV)/.dev ## Measure false trips and delays of the breakers on synthetic agents; writes build/breakers.json
	$(PY) -m tests.breakers.evaluate $(ARGS)

bench-breakers: eval-breakers ## The same under another name

eval: $(VENV)/.dev ## Replay benign tasks and injection attacks through the gateway; writes build/eval.json
	$(PY) -m tests.evaluation $(ARGS)

conformance: $(VENV)/.dev ## Run the official MCP suite through the gateway (needs npm); writes build/conformance.json
	$(PY) -m tests.conformance $(ARGS)

parity: $(VENV)/.dev ## Decide 20,000 inputs with the embedded engine and a real OPA; writes build/parity.json
	$(PY) -m tests.policy.parity $(ARGS)

model-check: $(VENV)/.dev ## Explore the states of an approval completely; prints states and violations
	$(PY) -m tests.approvals.model

crash-approvals: $(VENV)/.dev ## Kill workers between the statements of claim, send and settle; writes build/approvals.json
	$(PY) -m tests.approvals.crash $(ARGS)

load-approvals: $(VENV)/.dev ## Measure a queue of 10,000 at the API of a real gateway; writes build/approvals-load.json
	$(PY) -m tests.approvals.load $(ARGS)

observability: $(VENV)/.dev ## Prove boards, alerts and traces with a real Prometheus and real collectors
	$(PY) -m pytest -m "slow or not slow" tests/observability $(ARGS)

dashboards: $(VENV)/.dev ## Write the dashboards of observability/grafana
	$(PY) -m observability.boards

picture: $(VENV)/.dev ## Draw docs/images/overview.svg from a run of the scenario
	PICTURE=$(CURDIR)/docs/images/overview.svg $(PY) -m pytest -q -m slow tests/observability/test_proof.py

helm: $(VENV)/.dev ## Render, validate and evaluate the chart (needs helm on the path)
	$(PY) -m pytest tests/helm $(ARGS)

docs: $(VENV)/.dev ## Write the generated pages of docs/reference
	@for script in docs/generate/*.py; do PYTHONPATH=. $(PY) $$script; done

wheel: $(VENV)/.dev ## Build the wheel into dist/
	$(PY) -m hatchling build -t wheel -d dist

lock: ## Renew all locks but the clients' (needs uv); UPGRADE= keeps what is locked
	$(COMPILE) $(UPGRADE) pyproject.toml --extra demo -o requirements.lock
	$(COMPILE) $(UPGRADE) --group build -c requirements.lock -o requirements-build.lock
	$(COMPILE) $(UPGRADE) --group sbom -o requirements-sbom.lock
	$(COMPILE) $(UPGRADE) pyproject.toml --extra demo --extra notify --group build --group dev \
	    -c requirements.lock -c requirements-build.lock -o requirements-dev.lock
	echo mcp-server-git | $(COMPILE) $(UPGRADE) - -o gateway/demo/git-server.lock

lock-clients: $(VENV)/.dev ## Renew the locks of tests/clients (needs uv and npm)
	$(PY) -m tests.clients --lock $(CLIENTS)

clean: ## Remove what was built; the environment stays
	rm -rf build dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(PY):
	@test -n "$(PYTHON)" || { echo "wardgate needs Python 3.11 or newer; none was found." >&2; exit 1; }
	$(make_venv)

$(VENV)/.run: requirements.lock requirements-build.lock pyproject.toml | $(PY)
	$(install) --require-hashes -r requirements-build.lock
	$(install) --require-hashes -r requirements.lock
	$(install) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	$(install) --require-hashes -r requirements-dev.lock
	@touch $@
