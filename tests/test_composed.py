from __future__ import annotations

import inspect

import numpy as np
import pytest

import raymx as mx
from raymx.errors import ParameterError

X = np.arange(12.0, dtype="float32").reshape(2, 6)


def _both(call):
    """What `call(mx.nd, array)` and `call(mx.sym, symbol)` give, as NumPy arrays."""
    x = mx.nd.array(X)
    now = call(mx.nd, x)
    symbol = call(mx.sym, mx.sym.Variable("x"))
    later = symbol.eval(**({"x": x} if "x" in symbol.list_arguments() else {}))
    now = now if isinstance(now, list) else [now]
    for a, b in zip(now, later, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())
    return [a.asnumpy() for a in now]


def test_split_v2():
    parts = _both(lambda m, x: m.split_v2(x, (1, 4), axis=1))
    assert [p.shape for p in parts] == [(2, 1), (2, 3), (2, 2)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), X)
    parts = _both(lambda m, x: m.split_v2(x, 2, squeeze_axis=True))
    assert [p.tolist() for p in parts] == X.tolist()


def test_histogram():
    counts, edges = _both(lambda m, x: m.histogram(x, bins=3, range=(0, 6)))
    assert counts.tolist() == [2, 2, 3] and edges.tolist() == [0, 2, 4, 6]
    counts, edges = mx.nd.histogram(mx.nd.array(X), bins=11)
    assert counts.asnumpy().tolist() == [1] * 10 + [2] and edges.asnumpy().tolist() == list(range(12))
    counts, _ = mx.nd.histogram(mx.nd.array(X), mx.nd.array([0, 1, 4]))
    assert counts.asnumpy().tolist() == [1, 4]
    with pytest.raises(ParameterError, match="a symbol has no values yet; give the range"):
        mx.sym.histogram(mx.sym.Variable("x"))


def test_eye_and_linspace():
    assert _both(lambda m, x: m.eye(2, 3, 1))[0].tolist() == [[0, 1, 0], [0, 0, 1]]
    assert _both(lambda m, x: m.eye(2, dtype="int32"))[0].dtype == "int32"
    assert _both(lambda m, x: m.linspace(0, 1, 5))[0].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert _both(lambda m, x: m.linspace(0, 1, 4, endpoint=False))[0].tolist() == [0, 0.25, 0.5, 0.75]
    assert mx.nd.eye(2, ctx=mx.cpu(0)).context == mx.cpu(0)


def test_full_and_arange():
    assert _both(lambda m, x: m.full((2,), 1.5))[0].tolist() == [1.5, 1.5]
    assert _both(lambda m, x: m.arange(3))[0].tolist() == [0, 1, 2]
    assert _both(lambda m, x: m.arange(1, 3, 0.5, repeat=2))[0].tolist() == [1, 1, 1.5, 1.5, 2, 2, 2.5, 2.5]


def test_a_symbol_tells_how_far_to_count():
    x = mx.sym.Variable("x")
    counted = mx.sym.broadcast_like(mx.sym.expand_dims(mx.sym.arange(3, infer_range=True), axis=0), x)
    assert counted.infer_shape(x=(2, 6))[1] is None  # a stretched axis says nothing
    assert (x + mx.sym.arange(3, infer_range=True)).eval(x=mx.nd.zeros(4))[0].asnumpy().tolist() == [3, 4, 5, 6]


def test_their_signatures_are_those_of_the_caller():
    assert list(inspect.signature(mx.nd.split_v2).parameters)[0] == "ary"
    assert mx.nd.histogram.__name__ == "histogram" and "bin" in mx.sym.histogram.__doc__
