# Short names for long commands. `sh tests/run` is all that is needed to test.

VENV ?= .venv
BIN = $(VENV)/bin

MAN ?= build/man

.PHONY: test fast interop fuzz core lint format units reference picture dashboard man demo clean

test:            ## everything, with coverage
	sh tests/run
	$(BIN)/coverage report --fail-under=95

fast:            ## what a change is checked with while it is being made
	$(BIN)/python -m pytest -q -m "not integration and not interop" --ignore=tests/fuzz

interop:         ## real OpenSSH, PostgreSQL, MariaDB, Redis, curl and netcat
	$(BIN)/python -m pytest -m interop

fuzz:            ## 200,000 damaged inputs to the decoders
	$(BIN)/python -m pytest tests/fuzz

core:            ## the protocol core: every branch, from its own tests
	$(BIN)/coverage run --data-file=.coverage-core -m pytest -q tests/protocol tests/smux
	$(BIN)/coverage combine --quiet --data-file=.coverage-core
	$(BIN)/coverage report --data-file=.coverage-core --fail-under=100 \
	  --include='ssmtunneld/protocol/*,ssmtunneld/smux/*' --show-missing

lint:            ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format:
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

units:           ## systemd/, from the templates of `ssmtunneld service install`
	$(BIN)/python -m tests.packaging.units

reference:       ## the tables and schemas in docs/, from the source
	$(BIN)/python -m tests.packaging.reference
	$(BIN)/python -m tests.cli.reference
	$(BIN)/ssmtunneld schema --status >docs/status.schema.json
	$(BIN)/ssmtunneld schema --connections >docs/connections.schema.json
	$(BIN)/ssmtunneld schema --audit >docs/audit.schema.json

picture:         ## those of README and guide, from what a terminal shows
	$(BIN)/python -m tests.packaging.picture
	$(BIN)/python -m tests.packaging.top_picture

dashboard:       ## contrib/grafana, from the table in tests/packaging/dashboard.py
	$(BIN)/python -m tests.packaging.dashboard

man:             ## the manual pages, into build/man or $(MAN)
	$(BIN)/python -m ssmtunneld.cli.manual $(MAN)

demo:
	$(BIN)/ssmtunneld demo

clean:
	rm -rf .venv .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
