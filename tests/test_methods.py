from __future__ import annotations

import numpy as np
import pytest

import raymx as mx
from raymx.methods import METHODS
from raymx.ops.op import REGISTRY

ROWS = np.array([[1.0, -2, 3], [4, 5, -6]], "float32")


def test_arrays_and_symbols_have_every_method():
    for name in METHODS:
        for cls in (mx.nd.NDArray, mx.sym.Symbol):
            assert callable(getattr(cls, name)) and getattr(cls, name).__doc__, (cls, name)


CALLS = {
    "take": lambda x: x.take(_whole(x, [1, 0]), axis=1),
    "sum by position": lambda x: x.sum(1),
    "sum by name": lambda x: x.sum(axis=0, keepdims=True),
    "slice_axis": lambda x: x.slice_axis(1, 0, 2),
    "topk": lambda x: x.topk(k=2, ret_typ="value"),
    "abs": lambda x: x.abs(),
    "reshape": lambda x: x.reshape(3, 2),
    "reshape with codes": lambda x: x.reshape((0, -1)),
    "transpose": lambda x: x.transpose(1, 0),
    "transpose by name": lambda x: x.transpose(axes=(1, 0)),
    "astype": lambda x: x.astype("int32"),
    "split_v2": lambda x: x.split_v2((1,), axis=1)[1],
    "slice_assign": lambda x: x.slice_assign(x.sum(axis=1, keepdims=True), begin=(None, 1), end=(None, 2), step=()),
    "clip": lambda x: x.clip(-1, 2),
    "expand_dims": lambda x: x.expand_dims(1),
    "one_hot": lambda x: x.one_hot(6),
}


def _whole(x, numbers):
    if isinstance(x, mx.nd.NDArray):
        return mx.nd.array(numbers)
    return mx.sym.Variable("numbers")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_symbol_gives_what_an_array_gives(call):
    x = mx.nd.array(ROWS)
    symbol = call(mx.sym.Variable("x"))
    given = {"x": x, "numbers": mx.nd.array([1, 0])}
    (found,) = symbol.eval(**{n: given[n] for n in symbol.list_arguments()})
    expected = call(x)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found.asnumpy(), expected.asnumpy())


def test_methods_are_the_operators():
    assert set(METHODS.values()) - set(REGISTRY) == {"split_v2"}
    x = mx.nd.array(ROWS)
    np.testing.assert_array_equal(x.max(axis=1).asnumpy(), ROWS.max(axis=1))
    assert mx.sym.Variable("x").mean(axis=1).attr("axis") == "(1,)"
