"""Sizes and errors of Pooling."""

from __future__ import annotations

import pytest

from raymx.errors import ParameterError, ShapeError
from raymx.ops.infer import infer_shapes
from raymx.ops.op import make


def out(data, **params):
    op = make("Pooling", **params)
    return infer_shapes(op, {**dict.fromkeys(op.inputs() + op.outputs()), "data": data}, "p")["out"]


@pytest.mark.parametrize(("convention", "size"), [("valid", 3), ("full", 4), ("same", 4)])
def test_how_sizes_are_rounded(convention, size):
    assert out((2, 3, 8, 8), kernel=(3, 3), stride=(2, 2), pooling_convention=convention) == (2, 3, size, size)


def test_global_pooling_needs_no_kernel():
    assert out((2, 3, 8, 5), global_pool=True, pool_type="avg") == (2, 3, 1, 1)
    assert out((2, 3, 8, 5), global_pool=True, kernel=(2, 2), pad=(1, 1)) == (2, 3, 1, 1)


def test_unknown_sizes_stay_unknown():
    assert out((0, 3, 8, 0), kernel=(2, 2)) == (0, 3, 7, 0)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "Pooling: kernel, 1, 2 or 3 numbers, is missing; or set global_pool=True"),
        ({"kernel": (2, 2), "stride": (0, 1)}, "Pooling: stride must be 2 numbers of at least 1"),
        ({"kernel": (2, 2), "pool_type": "lp"}, "Pooling: pool_type='lp' needs p_value, 1, 2 or 3"),
        ({"kernel": (2, 2), "pool_type": "mean"}, "Pooling: pool_type must be one of 'max', 'avg', 'sum', 'lp'"),
    ],
)
def test_parameters_that_contradict(params, message):
    with pytest.raises(ParameterError, match=f"^{message}"):
        make("Pooling", **params)


def test_windows_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"^Pooling 'p': a window of \(3, 3\) does not fit into data"):
        out((2, 3, 2, 2), kernel=(3, 3))
    with pytest.raises(ShapeError, match=r"^Pooling 'p': data must have 4 axes for kernel \(2, 2\)"):
        out((2, 3, 8), kernel=(2, 2))
