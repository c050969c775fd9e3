# Everything sets itself up: `make demo` and `make test` need nothing but Python 3.11 or newer.
#   PYTHON=/path/to/python   which one (default: the first of python3.13, 3.12, 3.11, python3)
#   ARGS="..."               more arguments for pytest, the benchmarks or the demo
#   JOBS=5                   so many test processes at once (default: 5); most of a test is waiting

ARGS ?=
JOBS ?= 5
export PYTHON
# Where it is set, every start would compile all packages anew: seconds each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help env demo demo-distributed test durations test-long test-matrix test-celery57 bench schema lint audit types wheel lock clean

help:
	@echo "make demo         serve the example project on a free port"
	@echo "make demo-distributed"
	@echo "                  the same with workers: PostgreSQL, Redis, a web server, two workers"
	@echo "make test         every test but the long ones; ARGS='-k name'"
	@echo "make durations    the same, and where the time went: the slowest 25 tests, seconds per folder"
	@echo "make test-long    the long tests"
	@echo "make test-matrix  the suite on every supported Python and Django that is here"
	@echo "make test-celery57"
	@echo "                  the tests of the Celery backend on Celery 5.7"
	@echo "make bench        the benchmarks"
	@echo "make schema       write the example project's schema.graphql anew"
	@echo "make lint         ruff: rules and format"
	@echo "make audit        the lock files: hashes, known weaknesses; ARGS=--online asks a database"
	@echo "make types        mypy"
	@echo "make wheel        build the wheel into dist/"
	@echo "make lock         refresh requirements/dev.lock"
	@echo "make clean        remove everything that these made"

env:
	@scripts/set-up-env .venv

demo: env
	@.venv/bin/python scripts/htmx_library.py
	@.venv/bin/python -m devservers.demo $(ARGS)

demo-distributed: env
	@.venv/bin/python scripts/htmx_library.py
	@.venv/bin/python -m devservers.distributed $(ARGS)

test: env
	@scripts/compile-tests & \
	scripts/set-up-browser && scripts/set-up-node && .venv/bin/python scripts/htmx_library.py && scripts/set-up-prometheus && \
	wait
	.venv/bin/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

durations:
	@$(MAKE) --no-print-directory test ARGS="--durations=25 $(ARGS)"

test-long: env
	@scripts/set-up-browser
	@scripts/set-up-node
	@.venv/bin/python scripts/htmx_library.py
	@scripts/set-up-prometheus
	.venv/bin/pytest -m "long or mariadb" $(ARGS)

test-matrix:
	@scripts/test-matrix $(ARGS)

test-celery57:
	@scripts/test-celery57 $(ARGS)

schema: env
	.venv/bin/python -m example_project.manage export_schema example_project.root.schema:schema \
		--path example_project/schema.graphql --skip-checks

bench: env
	.venv/bin/python -m benchmarks $(ARGS)

lint: env
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

audit: env
	.venv/bin/python scripts/audit $(ARGS)

types: env
	.venv/bin/mypy

wheel: env
	@rm -rf dist
	.venv/bin/python -m hatchling build -t wheel

lock: env
	scripts/lock

clean:
	rm -rf .venv .matrix .peers dist .pytest_cache .mypy_cache .ruff_cache .hypothesis test-artifacts
	rm -rf tests/clients/node_modules tests/clients/.installing
	rm -rf "$$(readlink -f example_project/.demo/distributed/postgres)" example_project/.demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
