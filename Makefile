# Everything a developer calls. Paths are relative, so that the checkout may lie in a folder with spaces.
PYTHON ?= python3
VENV := .venv/bin
ARGS ?=

# Installs what a lock names, when it has changed: what the product needs, or the developers' tools on top.
install = @command -v "$(PYTHON)" >/dev/null || { echo 'There is no $(PYTHON): install Python 3.11 or newer, or name yours with PYTHON=...'; exit 1; }; \
	"$(PYTHON)" scripts/install.py
runtime = $(install) requirements.txt
tools = $(install) requirements-dev.txt

.DEFAULT_GOAL := help
.PHONY: help run test lint format lock translations screenshots doctor clean

help:  ## Show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-14s%s\n", $$1, $$2 }' Makefile

run:  ## Install what is missing, start everything in this terminal (PORT=8000)
	$(runtime)
	@exec $(VENV)/python run.py up

test:  ## Install what is missing, run all tests (ARGS="tests/unit -k money")
	$(tools)
	@$(VENV)/python run.py translations compile
	@exec $(VENV)/python -m pytest -n 2 $(ARGS)

lint:  ## Ruff, mypy, import-linter, djlint
	$(tools)
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/lint-imports
	$(VENV)/djlint --lint --quiet app reports

format:  ## Format the Python code and mend what ruff can mend
	$(tools)
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .

lock:  ## Make requirements*.txt anew from requirements*.in
	$(tools)
	$(VENV)/uv pip compile --universal --python-version 3.11 --generate-hashes --quiet --upgrade requirements.in -o requirements.txt
	$(VENV)/uv pip compile --universal --python-version 3.11 --generate-hashes --quiet --upgrade -c requirements.txt requirements-dev.in -o requirements-dev.txt
	$(VENV)/uv pip compile --python-platform x86_64-pc-windows-msvc --python-version 3.11 --generate-hashes --quiet --upgrade -c requirements.txt requirements-bridge.in -o requirements-bridge.txt

translations:  ## Merge the messages of the code into translations/, and compile
	$(runtime)
	$(VENV)/python run.py translations update
	$(VENV)/python run.py translations compile

screenshots:  ## Take the pictures of the README from a running demo
	$(tools)
	$(VENV)/python scripts/screenshots.py $(ARGS)

doctor:  ## Check this machine and this checkout, and say how to mend what is wrong
	$(runtime)
	@$(VENV)/python run.py doctor

clean:  ## Remove .venv, caches and compiled files; the data in var/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage* htmlcov
	find app tests scripts migrations -name __pycache__ -type d -prune -exec rm -rf {} +
	find translations -name '*.mo' -delete
