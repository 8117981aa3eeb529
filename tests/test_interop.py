"""NumPy's functions on NDArrays: the obvious ones run on the device, all others are refused in words."""

from __future__ import annotations

import numpy as np
import pytest

import raymx as mx
from raymx.ndarray import NDArray
from tests import devices

A = np.array([[0.5, 2.0, 1.5], [3.0, 0.25, 1.0]], np.float32)
B = np.array([[2.0, 0.5, 1.5], [1.0, 4.0, 3.0]], np.float32)


def close(got, expected) -> None:
    assert isinstance(got, NDArray)
    np.testing.assert_allclose(got.asnumpy(), np.asarray(expected).reshape(got.shape), rtol=1e-6)


@pytest.mark.parametrize(
    "ufunc",
    [
        np.negative, np.absolute, np.abs, np.sign, np.ceil, np.floor, np.trunc, np.square, np.sqrt, np.reciprocal,
        np.exp, np.expm1, np.log, np.log1p, np.cos, np.sin, np.tan, np.tanh,
    ],
)  # fmt: skip
def test_functions_of_one_array(ufunc):
    close(ufunc(mx.nd.array(A)), ufunc(A))


@pytest.mark.parametrize(
    "ufunc",
    [
        np.add, np.subtract, np.multiply, np.divide, np.true_divide, np.power, np.remainder, np.mod, np.maximum,
        np.minimum, np.hypot, np.equal, np.not_equal, np.greater, np.greater_equal, np.less, np.less_equal,
    ],
)  # fmt: skip
def test_functions_of_two_arrays(ufunc):
    x, y = mx.nd.array(A), mx.nd.array(B)
    for got, expected in [
        (ufunc(x, y), ufunc(A, B)), (ufunc(x, B), ufunc(A, B)), (ufunc(A, y), ufunc(A, B)), (ufunc(x, 2), ufunc(A, 2)),
        (ufunc(2, x), ufunc(2, A)), (ufunc(np.float32(2), x), ufunc(2, A)), (ufunc(x, y[0]), ufunc(A, B[0])),
        (ufunc(A[0], y), ufunc(A[0], B)), (ufunc(np.array(2.0), x), ufunc(2, A)), (ufunc(A.tolist(), y), ufunc(A, B)),
    ]:  # fmt: skip
        close(got, expected)


def test_operators_with_numpy_on_the_left():
    x = mx.nd.array(A)
    for got, expected in [
        (B + x, B + A), (B - x, B - A), (B * x, B * A), (B / x, B / A), (B**x, B**A), (B % x, B % A), (B < x, B < A),
        (B == x, B == A), (np.float64(2) - x, 2 - A), (np.int8(2) ** x, 2**A), (B.T @ x, B.T @ A), (B[0] / x, B[0] / A),
    ]:  # fmt: skip
        close(got, expected)


def test_the_result_lies_on_the_device():
    with devices.in_this_process():
        x = mx.nd.array(A, mx.cpu(1))
        for got in (B + x, np.exp(x), np.maximum(0, x), np.sum(x), np.dot(B.T, x), np.concatenate([B, x])):
            assert got.context == mx.cpu(1)


def test_into_out():
    x, y = mx.nd.array(A), mx.nd.zeros((2, 3))
    assert np.add(x, 1, out=y) is y
    close(y, A + 1)
    np.exp(x, out=x)
    close(x, np.exp(A))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: np.add(A, x, out=A.copy()), "np.add: out is a NumPy array; write x.asnumpy() to compute with NumPy"),
        (lambda x: np.arctan2(x, x), "np.arctan2 does not run on an NDArray; use mx.nd's functions, or np.arctan2(x."),
        (lambda x: np.rint(x), "np.rint does not run on an NDArray"),
        (lambda x: np.add.reduce(x), "np.add.reduce does not run on an NDArray"),
        (lambda x: np.add(x, x, dtype="float64"), "np.add does not run on an NDArray"),
        (lambda x: np.add(x, x, where=A > 1), "np.add does not run on an NDArray"),
        (lambda x: np.median(x), "np.median does not run on an NDArray; use mx.nd's functions, or np.median(x.asnumpy"),
        (lambda x: np.stack([x, x]), "np.stack does not run on an NDArray"),
        (lambda x: np.where(x, x, x), "np.where does not run on an NDArray"),
        (lambda x: np.sum(x, dtype="float64"), "np.sum does not run on an NDArray"),
        (lambda x: np.sum(A, out=x), "np.sum does not run on an NDArray"),
    ],
)
def test_refusals(call, text):
    x = mx.nd.array(A)
    with pytest.raises(TypeError) as caught:
        call(x)
    assert text in str(caught.value)


def test_augmented_assignment_to_numpy_is_refused():
    host = A.copy()
    with pytest.raises(TypeError, match="np.add: out is a NumPy array"):
        host += mx.nd.array(B)
    host += mx.nd.array(B).asnumpy()
    np.testing.assert_array_equal(host, A + B)


def test_functions():
    x = mx.nd.array(A)
    for got, expected in [
        (np.sum(x), A.sum()), (np.sum(x, axis=0), A.sum(0)), (np.sum(x, 1, keepdims=True), A.sum(1, keepdims=True)),
        (np.mean(x, axis=1), A.mean(1)), (np.max(x), A.max()), (np.amin(x, axis=0), A.min(0)), (np.copy(x), A),
        (np.reshape(x, (3, 2)), A.reshape(3, 2)), (np.clip(x, 1, 2), A.clip(1, 2)), (np.transpose(x), A.T),
        (np.transpose(x, (1, 0)), A.T), (np.dot(x, B.T), A @ B.T), (np.dot(A, mx.nd.array(B.T)), A @ B.T),
        (np.concatenate([x, B]), np.concatenate([A, B])), (np.concatenate((B, x), axis=1), np.concatenate((B, A), 1)),
        (np.zeros_like(x), np.zeros_like(A)), (np.ones_like(x), np.ones_like(A)),
    ]:  # fmt: skip
        close(got, expected)
    assert np.shape(x) == (2, 3) and np.ndim(x) == 2 and np.size(x) == 6
    assert np.array_equal(x, A) and not np.array_equal(x, B) and np.allclose(A, x, atol=1e-3)


def test_as_a_numpy_array():
    x = mx.nd.array(A)
    value = np.asarray(x)
    assert value.dtype == np.float32
    np.testing.assert_array_equal(value, A)
    value[:] = 0
    np.testing.assert_array_equal(np.array(x), A)
    assert np.asarray(x, dtype="float64").dtype == np.float64
    assert np.array(x, dtype=int).tolist() == A.astype(int).tolist()
    np.testing.assert_array_equal(np.array([x, x]), [A, A])
    np.testing.assert_allclose(x, A)
    assert sum(float(v) for v in x[0]) == 4
    with pytest.raises(ValueError, match="an NDArray cannot become a NumPy array without a copy; use np.asarray"):
        np.array(x, copy=False)


def test_dlpack():
    for each in (mx.nd.array(A), mx.nd.array(A, dtype="int32")[:, ::2], mx.nd.ones(3, dtype="float16")):
        value = np.from_dlpack(each)
        assert value.dtype == each.dtype
        np.testing.assert_array_equal(value, each.asnumpy())
    assert mx.nd.ones(1).__dlpack_device__() == (1, 0)


def test_dlpack_from_another_device():
    with devices.in_this_process():
        np.testing.assert_array_equal(np.from_dlpack(mx.nd.array(A, mx.cpu(1))), A)
