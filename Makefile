# The tasks of a developer. Each sets up .venv first; that is quick when nothing it depends on has changed.
#
#   make test        lint, types, tests and doctests: what must pass before a change lands
#   make lint        ruff and mypy only
#   make test-matrix the tests of what faces Lightning and transformers, with the oldest and the newest of them
#   make demo        the quick-start example
#   make docs        the documentation as a site, in site/
#   make benchmark   how good the forecasts are on a folder of finished runs: make benchmark CURVES=DIR [ARGS="…"]
#   make clean       remove .venv, .matrix and everything that tools have written

PYTHON ?= python3
PYTEST_ARGS ?= -n 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# What faces other packages; the rest is arithmetic. Old packages on a new torch warn of this and that.
FACING := integration host test_lightning.py test_autoload.py test_guest.py recording test_loop.py \
	test_huggingface.py
CALM := -W ignore::DeprecationWarning -W ignore::FutureWarning -W "ignore:pkg_resources is deprecated"

.PHONY: test lint test-matrix test-oldest test-newest demo docs benchmark clean

test: lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy lightning_scaling

test-matrix: test-oldest test-newest

test-oldest test-newest: test-%: .matrix/%/.ready
	.matrix/$*/bin/python -m pytest $(PYTEST_ARGS) $(CALM) $(addprefix tests/,$(FACING))

demo: $(READY)
	$(BIN)/python examples/quickstart.py

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "Open site/index.html"

benchmark: $(READY)
	@test -n "$(CURVES)" || { echo "Give a folder of finished runs: make benchmark CURVES=DIR"; exit 2; }
	$(BIN)/python benchmarks/accuracy.py --curves "$(CURVES)" $(ARGS)

# The stamp is written last, so a set-up that was interrupted is done again.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

.matrix/oldest/.ready .matrix/newest/.ready: .matrix/%/.ready: pyproject.toml constraints-%.txt
	$(PYTHON) -m venv .matrix/$*
	.matrix/$*/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-$*.txt -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) .matrix build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
