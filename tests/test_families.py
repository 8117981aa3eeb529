"""Operators under the name of their family."""

from __future__ import annotations

import re

import numpy as np
import pytest

import raymx as mx
from raymx.errors import GraphError, ShapeError

A = np.array([[2.0, 1], [1, 3]], "float32")


def test_families_of_operators():
    a = mx.nd.array(A)
    np.testing.assert_allclose(mx.nd.linalg.gemm2(a, a).asnumpy(), A @ A)
    np.testing.assert_array_equal(mx.nd.linalg.gemm2(a, a).asnumpy(), mx.nd._linalg_gemm2(a, a).asnumpy())
    np.testing.assert_allclose(mx.nd.contrib.div_sqrt_dim(a).asnumpy(), A / np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(mx.nd.op.exp(a).asnumpy(), np.exp(A), rtol=1e-6)
    np.testing.assert_allclose(mx.nd.sparse.dot(a, a).asnumpy(), A @ A)
    assert mx.nd.linalg.gemm2.__name__ == "gemm2" and "transpose_a" in mx.nd.linalg.gemm2.__doc__
    assert "gemm2" in dir(mx.nd.linalg) and "arange_like" in dir(mx.sym.contrib) and "linalg" in dir(mx.nd)


def test_symbols_are_called_as_their_function():
    a = mx.sym.Variable("a")
    with mx.name.NameManager():
        names = [f(a).name for f in (mx.sym.contrib.div_sqrt_dim, mx.sym.linalg.det, mx.sym.linalg_det)]
    assert names == ["div_sqrt_dim0", "det0", "linalg_det0"]


def test_what_is_not_there():
    with pytest.raises(AttributeError, match=re.escape("mx.nd.linalg has no operator 'gem2'; did you mean 'gemm2'?")):
        mx.nd.linalg.gem2  # noqa: B018
    with pytest.raises(AttributeError, match=r"^mx\.sym\.op has no operator '_plus'"):
        mx.sym.op._plus  # noqa: B018


def test_a_mask_of_rows_and_of_columns():
    x = mx.nd.array([[1.0, 2, 3], [4, 5, 6]])
    assert mx.nd.contrib.boolean_mask(x, mx.nd.array([0, 2])).asnumpy().tolist() == [[4, 5, 6]]
    assert mx.nd.contrib.boolean_mask(x, mx.nd.array([1, 0, 1]), axis=1).asnumpy().tolist() == [[1, 3], [4, 6]]
    with pytest.raises(ShapeError, match=r"^boolean_mask: index must have shape \(2,\), got \(3,\)\.$"):
        mx.nd.contrib.boolean_mask(x, mx.nd.zeros(3))
    with pytest.raises(ShapeError, match="index is 0 everywhere"):
        mx.nd.contrib.boolean_mask(x, mx.nd.zeros(2))


def test_a_symbol_has_no_mask():
    with pytest.raises(GraphError, match="the shape of its result depends on values"):
        mx.sym.contrib.boolean_mask(mx.sym.Variable("a"), mx.sym.Variable("b"))


@pytest.mark.parametrize(
    ("name", "expected"), [("isnan", [0, 0, 1, 0]), ("isinf", [0, 1, 0, 1]), ("isfinite", [1, 0, 0, 0])]
)
def test_numbers_that_are_none(name, expected):
    x = mx.nd.array([1, np.inf, np.nan, -np.inf])
    assert getattr(mx.nd.contrib, name)(x).asnumpy().tolist() == expected
    (found,) = getattr(mx.sym.contrib, name)(mx.sym.Variable("x")).eval(x=x)
    assert found.asnumpy().tolist() == expected


def test_an_operator_of_a_family():
    assert mx.nd.contrib.div_sqrt_dim(mx.nd.ones((1, 4))).asnumpy().tolist() == [[0.5] * 4]
    net = mx.sym.contrib.AdaptiveAvgPooling2D(mx.sym.Variable("data"), output_size=2)
    assert net.infer_shape(data=(2, 3, 5, 6))[1] == [(2, 3, 2, 2)]
    with mx.name.NameManager():
        named = mx.sym.contrib.AdaptiveAvgPooling2D(mx.sym.Variable("data"))
    assert named.list_outputs() == ["adaptiveavgpooling2d0_output"]
    assert "AdaptiveAvgPooling2D" in dir(mx.sym.contrib)


@pytest.mark.parametrize("module", [mx.nd, mx.sym])
def test_unknown_ones(module):
    with pytest.raises(AttributeError, match=r"contrib has no operator 'div_sqrt_dom'; did you mean 'div_sqrt_dim'"):
        _ = module.contrib.div_sqrt_dom
