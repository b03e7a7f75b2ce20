# Everything below runs in .venv, which is made when it is missing or older than pyproject.toml.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test types tried lint torture matrix benchmark benchmark-detection benchmark-fleet benchmark-lookup benchmark-objects benchmark-service fuzz clean

demo: $(READY)
	rm -rf demo
	$(BIN)/hotpix-registry demo -o demo

# Byte code is kept, whatever the user's settings: else each process writes the tests' assertions anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --no-print-directory --jobs 2 types tried

types: $(READY)
	$(BIN)/mypy

tried: $(READY)
	$(BIN)/pytest -n 4 --dist worksteal

lint: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

torture: $(READY)
	$(BIN)/python -W ignore -m tests.torture --budget $(or $(BUDGET),10) \
	  $(if $(SEED),--seed $(SEED)) $(if $(OUTPUT),-o $(OUTPUT))

matrix: $(READY)
	$(BIN)/python -m tests.torture.matrix

benchmark: $(READY)
	$(BIN)/python -m tests.benchmarks.speed $(if $(QUICK),--quick)
	$(BIN)/python -m tests.benchmarks.service $(if $(QUICK),--seconds 0.5)
	$(BIN)/python -m tests.benchmarks.fleet $(if $(QUICK),--quick)
	$(BIN)/python -m tests.benchmarks.mirrors $(if $(QUICK),--masks 1000)
	$(BIN)/python -m tests.benchmarks.objects $(if $(QUICK),--side 1024)

benchmark-fleet: $(READY)
	$(BIN)/python -m tests.benchmarks.fleet $(if $(QUICK),--quick)

benchmark-detection: $(READY)
	$(BIN)/python -m tests.benchmarks.detection

benchmark-objects: $(READY)
	$(BIN)/python -m tests.benchmarks.objects

benchmark-lookup: $(READY)
	$(BIN)/python -m tests.benchmarks.lookup

benchmark-service: $(READY)
	$(BIN)/python -m tests.benchmarks.service

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "hotpix-registry needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --editable '.[test]'
	@touch $(READY)

# Hostile input, guided by coverage: MINUTES for each reader, TARGETS some of them.
fuzz: $(READY)
	$(BIN)/pip install --quiet --editable '.[fuzz]'
	$(BIN)/python -m tests.torture.fuzz $(TARGETS) $(if $(MINUTES),--minutes $(MINUTES))

clean:
	rm -rf $(VENV) demo
