# edge: `make` lists the targets. Everything is installed into .venv and nowhere else.

VENV := .venv
PY := $(VENV)/bin/python
PIP_OPTIONS := --disable-pip-version-check -q --retries 10 --timeout 60
PIP := $(PY) -m pip $(PIP_OPTIONS)
SOURCES := edge bench tests tools config
# Twice as many as there are processors: many tests wait for what other processes do in their own time.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN || echo 2); echo $$((2 * n)))
# Lowest share of lines that the tests must reach, in percent, checked when CI is set; and of lines and branches, by `make coverage`.
COVERAGE_FLOOR ?= 94
COVERAGE := --cov --cov-report=term --cov-fail-under=$(COVERAGE_FLOOR)
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help run test coverage check format fuzz bench bench-full bench-peers bench-compare bench-profile micro soak clean
.DELETE_ON_ERROR:

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

run: $(VENV)/.run ## start the demo: https://localhost:8443 in front of a built-in service
	@exec $(VENV)/bin/edge demo

test: $(VENV)/.test $(VENV)/.sslyze ## run all tests (ARGS="-k name" for some of them)
	@$(PY) -m pytest -n $(JOBS) --dist worksteal $(if $(CI),$(COVERAGE)) $(ARGS)

coverage: $(VENV)/.test $(VENV)/.sslyze ## run all tests and check the coverage
	@$(PY) -m pytest -n $(JOBS) --dist worksteal $(COVERAGE) --cov-branch --cov-report=html $(ARGS)

check: $(VENV)/.test ## lint, formatting, types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: $(VENV)/.test ## format the code, mend what can be mended
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

fuzz: $(VENV)/.fuzz ## fuzz every parser for FUZZ_SECONDS each (60)
	@set -e; for target in tests/fuzz/fuzz_*.py; do \
	  name=$$(basename $$target .py); mkdir -p .fuzz/$$name; echo "$$name, $(FUZZ_SECONDS) s"; \
	  $(PY) -m tests.fuzz.$$name -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=.fuzz/$$name- .fuzz/$$name; \
	done

bench: $(VENV)/.bench ## measure against nginx and the other peers that are installed, in ten minutes (ARGS="--help")
	@$(PY) -m bench $(ARGS)

bench-full: $(VENV)/.bench ## the whole matrix of handshakes, sizes, growth and instructions too, two hours at most
	@$(PY) -m bench --full --counters --limit 120 --rounds 6 $(ARGS)

bench-peers: $(VENV)/.peers ## install the peers that PyPI has, name those of the system
	@$(PY) -m bench --list

bench-compare: $(VENV)/.bench ## compare the run NEW (the latest) with the run BASE, both JSON, with confidence intervals
	@test -n "$(BASE)" || { echo 'make bench-compare BASE=bench-results/OLD.json [NEW=bench-results/NEW.json]' >&2; exit 2; }
	@$(PY) -m bench compare "$(BASE)" "$(or $(NEW),$(shell ls -t bench-results/2*.json 2>/dev/null | head -n 1))" $(ARGS)

bench-profile: $(VENV)/.bench ## flame graphs of edge under the load of a scenario (ARGS="--scenario h1-small")
	@$(PY) -m bench profile $(ARGS)

micro: $(VENV)/.test ## measure the pure rooms one by one
	@$(PY) -m pytest -q -p no:randomly bench/micro.py $(ARGS)

soak: $(VENV)/.test ## reload a thousand times under load: nothing fails, memory and descriptors stay
	@EDGE_SOAK_RELOADS=1000 $(PY) -m pytest -q --timeout 1800 -k "many_reloads or many_renewals" \
	  tests/process/test_reload.py tests/e2e/test_reloads_lose_nothing.py $(ARGS)

clean: ## remove what the other targets made
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* htmlcov .fuzz .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp for each set of packages. A changed setup.cfg installs anew; otherwise these cost nothing.
$(VENV)/.base: tools/mkvenv
	@sh tools/mkvenv $(VENV)
	@touch $@

$(VENV)/.run: setup.cfg pyproject.toml $(VENV)/.base
	@echo "installing edge into $(VENV) (once)"
	@$(PIP) install -e .
	@touch $@

$(VENV)/.test: setup.cfg pyproject.toml $(VENV)/.base
	@echo "installing edge and its test tools into $(VENV) (once)"
	@$(PIP) install -e '.[test]'
	@touch $@ $(VENV)/.run

# It wants other versions of what edge stands on, so it lives in an environment of its own.
$(VENV)/.sslyze: setup.cfg $(VENV)/.base
	@sh tools/mkvenv $(VENV)/sslyze
	@$(VENV)/sslyze/bin/python -m pip $(PIP_OPTIONS) install 'sslyze>=6.3,<7'
	@touch $@

$(VENV)/.bench: setup.cfg pyproject.toml $(VENV)/.base
	@$(PIP) install -e '.[bench]'
	@touch $@ $(VENV)/.run

$(VENV)/.peers: setup.cfg pyproject.toml $(VENV)/.base
	@$(PIP) install -e '.[bench,peers]'
	@touch $@ $(VENV)/.bench $(VENV)/.run

$(VENV)/.fuzz: setup.cfg pyproject.toml $(VENV)/.base
	@$(PIP) install -e '.[test,fuzz]'
	@touch $@ $(VENV)/.run
