"""What the operators on arrays refuse, and in which words."""

from __future__ import annotations

import numpy as np
import pytest

import raymx as mx
from raymx.errors import DTypeError, MXNetError, ParameterError, ShapeError

X = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: mx.nd.take(x, mx.nd.array([0, 2]), mode="raise"), MXNetError, "must lie from 0 to 1, got 0 to 2"),
        (lambda x: mx.nd.take(x, mx.nd.array([-1]), mode="raise"), MXNetError, "must lie from 0 to 1, got -1 to -1"),
        (lambda x: mx.nd.gather_nd(x, mx.nd.array([[0], [3]])), MXNetError, "axis 1 must lie from -3 to 2, got 3 to 3"),
        (lambda x: mx.nd.gather_nd(x, mx.nd.zeros((3, 1))), ShapeError, "indices have 3 rows, one an axis"),
        (lambda x: mx.nd.pick(x, mx.nd.zeros(3)), ShapeError, r"index must have shape \(2,\) or \(2, 1\)"),
        (lambda x: mx.nd.where(mx.nd.zeros(3), x, x), ShapeError, r"condition must have shape \(2, 3\) or \(2,\)"),
        (lambda x: mx.nd.scatter_nd(x, mx.nd.zeros((1, 2)), shape=(4,)), ShapeError, r"data must have shape \(2,\)"),
        (lambda x: mx.nd.ravel_multi_index(x), ParameterError, "parameter 'shape' .* is missing"),
        (lambda x: mx.nd.topk(x, k=4), ShapeError, "k=4 elements are more than the 3 along the axis"),
        (lambda x: mx.nd.topk(x, dtype="int8"), ParameterError, "dtype must be one of"),
        (lambda x: mx.nd.squeeze(x, axis=0), ShapeError, "only axes of size 1 can be dropped"),
        (lambda x: mx.nd.tile(x, (2, 0)), ParameterError, r"reps must hold numbers of at least 1, got \(2, 0\)"),
        (lambda x: mx.nd.reshape_like(x, mx.nd.zeros((4, 2))), ShapeError, "6 elements do not fill"),
        (lambda x: mx.nd.broadcast_like(x, mx.nd.zeros((4, 3))), ShapeError, r"only axes of size 1 stretch; \(4, 3\)"),
        (lambda x: mx.nd.slice(x, begin=(0,), end=(1,), step=(0,)), ParameterError, "step must hold a number but 0"),
        (lambda x: mx.nd.slice_like(x, mx.nd.zeros((3, 3))), ShapeError, r"data is too small for shape \(3, 3\)"),
        (lambda x: mx.nd.split_v2(x, 2, axis=1), ShapeError, "axis 1 of 3 cannot be cut into 2 equal parts"),
        (lambda x: mx.nd.split_v2(x, (0,), axis=1), ShapeError, r"lengths \[0, 3\]; each must be at least 1"),
        (lambda x: mx.nd.diag(x, k=3), ShapeError, "there is no diagonal 3"),
        (lambda x: mx.nd.depth_to_space(x, 2), ShapeError, r"data must have the axes \(N, C, H, W\)"),
        (lambda x: mx.nd.khatri_rao(x, x.T), ShapeError, "matrices with the same number of columns"),
        (lambda x: mx.nd.linalg.det(x), ShapeError, "the matrices must be square"),
        (lambda x: mx.nd.linalg.inverse(mx.nd.eye(2, dtype="float16")), DTypeError, "float32 or float64, got float16"),
        (lambda x: mx.nd.linalg.gelqf(x.T), ShapeError, "must not have more rows than columns"),
        (lambda x: mx.nd.linalg.trsm(mx.nd.eye(2), x.T), ShapeError, "A is 2 x 2, so B must have 2 rows"),
        (lambda x: mx.nd.linalg.maketrian(mx.nd.zeros(4)), ShapeError, "4 elements are no triangle"),
        (lambda x: mx.nd.contrib.interleaved_matmul_selfatt_qk(x, heads=2), ShapeError, "heads . 3 . size"),
        (lambda x: mx.nd._internal._histogram(x, bin_cnt=3), ParameterError, "give both bin_cnt and range"),
        (lambda x: mx.nd.im2col(x, kernel=(2, 2)), ShapeError, r"data must have the axes \(N, C\) and 2 more"),
    ],
)  # fmt: skip
def test_refusals(call, error, text):
    with pytest.raises(error, match=text):
        found = call(mx.nd.array(X))
        (found[0] if isinstance(found, list) else found).wait_to_read()


def test_outputs_are_called_as_mxnet_calls_them():
    a = mx.sym.Variable("a")
    named = {
        "sort": mx.sym.sort(a, name="n"), "value": mx.sym.topk(a, ret_typ="value", name="n"),
        "indices": mx.sym.topk(a, name="n"), "det": mx.sym.linalg.det(a, name="n"),
    }  # fmt: skip
    assert {kind: symbol.list_outputs() for kind, symbol in named.items()} == {
        "sort": ["n_output0"], "value": ["n_output0"], "indices": ["n_output"], "det": ["n_output0"],
    }  # fmt: skip


def test_files_hold_mxnets_names():
    a = mx.sym.Variable("a")
    for symbol, name in (
        (mx.sym.slice(a, begin=(0,), end=(1,)), "slice"), (mx.sym.cumsum(a), "_np_cumsum"),
        (mx.sym.flip(a, axis=0), "reverse"),
    ):  # fmt: skip
        assert f'"op": "{name}"' in symbol.tojson()
        assert mx.sym.load_json(symbol.tojson()).tojson() == symbol.tojson()
