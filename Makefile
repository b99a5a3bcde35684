.PHONY: setup test
PYTHON ?= python3.11

setup: .venv/.installed

.venv/.installed: setup.py
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --editable '.[test]'
	touch $@

test: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/python -m pytest
