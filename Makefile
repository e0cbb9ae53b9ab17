# Everything here does the set-up it needs; set-up runs again when pyproject.toml or constraints.txt changes.

PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo showcase check test clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' torch==2.14.1 torchvision==0.29.1
	touch $@

demo: setup  ## data, training, evaluation, report: 15 to 45 minutes on 2 cores
	$(BIN)/genrep demo --out runs/demo

showcase: setup  ## the demo, longer and with depth: 70 minutes on 2 cores, resumable
	$(BIN)/genrep data fetch
	$(BIN)/genrep train showcase --out runs/showcase
	$(BIN)/genrep eval runs/showcase
	$(BIN)/genrep bench showcase

check: setup  ## before every commit, 3 to 4 minutes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) -m 'not slow' tests/unit
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) tests/e2e/test_command_line.py

test: setup  ## all tests, offline but for the set-up
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS)

clean:  ## caches and builds; runs stay
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find genrep tests -name __pycache__ -type d -prune -exec rm -rf {} +
