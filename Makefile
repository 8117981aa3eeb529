# Every target sets up what it needs in .venv; a bare machine needs Python 3.11 or newer and make.
# PYTHON=/path/to/python picks another interpreter for a new .venv.

OLD_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3.14 python3,\
            $(shell $(p) $(OLD_ENOUGH) 2>/dev/null && echo $(p))))
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test check bench clean

# Train on the digits that come with scikit-learn, save, load in a fresh process, predict the same.
demo: $(READY)
	$(BIN)/python examples/train_mnist.py

# Every test that needs no GPU: the plain ones, then those on a Ray cluster of this machine.
test: $(READY)
	$(BIN)/python -m pytest

# What a change must pass before it is shown to others: style, types, layers and the plain tests.
check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layering.py -q
	$(BIN)/python -m pytest -m 'not ray and not slow and not gpu'

# Figures, side by side with MXNet and PyTorch; it makes their environments itself.
bench: $(READY)
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf .venv .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): pyproject.toml
	@test -n '$(PYTHON)' || { echo 'raymx needs Python 3.11 or newer: install it, or run: make PYTHON=/path/to/python' >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,dev]'
	touch $(READY)
