"""raymx's results equal those that MXNet 1.9.1 gave for the same rows."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.stored import Store, dtype_of, keys
from tests.ops.test_operators import Run, xp  # noqa: F401

STORE = Store()
ROWS = keys()
STORED = {key: case for key, case in ROWS.items() if STORE.row(key, case.family)}
TOLERANCE = {"float32": 2e-5, "float64": 1e-10, "float16": 4e-3}


def _close(got, expected, what):
    tolerance = TOLERANCE.get(got.dtype.name, 0)
    scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=1)) if expected.dtype.kind == "f" else 1
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def test_every_row_was_put_to_mxnet():
    unknown = [key for key in ROWS if key not in STORED and key not in STORE.absent]
    asked = " ".join(sorted({ROWS[key].op for key in unknown}))
    assert not unknown, f"{unknown[:5]} have neither results nor a reason; run python -m tests.ops.stored.make {asked}"


def test_nothing_is_stored_of_rows_that_are_gone():
    families = {case.family for case in ROWS.values()}
    assert STORE.absent.keys() <= ROWS.keys()
    assert {key for family in families for key in STORE.rows(family)} <= ROWS.keys()


@pytest.mark.parametrize("key", STORED)
def test_results_equal_mxnets(key, xp):  # noqa: F811
    case = ROWS[key]
    row = STORE.row(key, case.family)
    run = Run(case, dtype_of(case))
    run.ins = [row[f"in:{n}"].copy() for n in run.names]
    ins = [a.copy() for a in run.ins]
    found = dict(zip((f"out:{n}" for n in run.op.outputs()), run.forward(xp, ins), strict=True))
    found |= {f"aux:{n}": a for n, a in zip(run.names, ins, strict=True) if n in run.op.aux()}
    for what, expected in row.items():
        if what in found:
            assert (found[what].shape, found[what].dtype) == (expected.shape, expected.dtype), what
            _close(found[what], expected, what)


@pytest.mark.parametrize("key", [k for k in STORED if "head:0" in STORE.row(k, ROWS[k].family)])
def test_gradients_equal_mxnets(key, xp):  # noqa: F811
    case = ROWS[key]
    row = STORE.row(key, case.family)
    run = Run(case, dtype_of(case), train=True)
    run.ins = [row[f"in:{n}"].copy() for n in run.names]
    wants = tuple(what.removeprefix("grad:") for what in row if what.startswith("grad:"))
    heads = [row[f"head:{i}"] for i in range(run.op.visible_outputs())]
    for name, gradient in run.backward(xp, heads, wants).items():
        _close(gradient, row[f"grad:{name}"], f"gradient of {name}")
