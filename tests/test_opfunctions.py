"""`mx.nd.<operator>`: how arguments are sorted, what `out` is, and that every operator of the table can be called."""

from __future__ import annotations

import inspect
import operator

import numpy as np
import pytest

import raymx as mx
from raymx import opfunctions
from raymx.errors import MXNetError, ParameterError
from raymx.ops.op import REGISTRY
from tests.ops.cases import CASES, Case, Classes, Fixed


def test_every_operator_is_a_documented_function():
    for name in REGISTRY:
        function = opfunctions.ndarray_function(name)
        assert function.__name__ == name and function.__doc__ and name in dir(mx.nd)
        assert "out" in inspect.signature(function).parameters
    assert str(inspect.signature(mx.nd.FullyConnected)).startswith("(data, weight, bias=None, *, num_hidden, no_bias")
    assert mx.nd.exp is opfunctions.ndarray_function("exp")


def test_arrays_and_parameters_by_position_and_by_name():
    x, y = mx.nd.array([[1.0, 2], [3, 4]]), mx.nd.array([[1.0, 0], [0, 1]])
    expected = x.asnumpy()
    for got in (
        mx.nd.dot(x, y), mx.nd.dot(lhs=x, rhs=y), mx.nd.dot(x, rhs=y), mx.nd.clip(x, 0, 9),
        mx.nd.clip(x, a_min=0, a_max=9), mx.nd.clip(data=x, a_min="0", a_max="9"),
        mx.nd.FullyConnected(x, y, None, num_hidden=2, no_bias=True), mx.nd.transpose(mx.nd.transpose(x), (1, 0)),
        mx.nd.FullyConnected(x, weight=y, num_hidden=2, no_bias=True),
    ):  # fmt: skip
        np.testing.assert_array_equal(got.asnumpy(), expected)
    assert mx.nd.sum(x, 1).asnumpy().tolist() == mx.nd.sum(x, axis=1).asnumpy().tolist() == [3, 7]


def test_variadic_operators_count_their_inputs():
    x = mx.nd.ones((1, 2))
    for got in (mx.nd.Concat(x, x, dim=0), mx.nd.Concat([x, x], dim=0), mx.nd.Concat(x, x, num_args=2, dim=0)):
        assert got.shape == (2, 2)
    assert mx.nd.ElementWiseSum(x, x, x).asnumpy().tolist() == [[3, 3]]


def test_an_array_too_many_is_out():
    x, y = mx.nd.array([4.0]), mx.nd.zeros(1)
    assert mx.nd.sqrt(x, y) is y and y.asscalar() == 2
    assert mx.nd.sqrt(x, out=y) is y
    assert mx.nd.sqrt(x, x) is x and x.asscalar() == 2


def test_several_outputs():
    x = mx.nd.array([[1.0, 2, 3]])
    parts = mx.nd.SliceChannel(x, num_outputs=3)
    assert [p.asscalar() for p in parts] == [1, 2, 3]
    into = [mx.nd.zeros((1, 1)) for _ in range(3)]
    assert mx.nd.SliceChannel(x, num_outputs=3, out=into) == into
    assert [p.asscalar() for p in into] == [1, 2, 3]
    first = mx.nd.zeros((1, 1))
    rest = mx.nd.SliceChannel(x, num_outputs=3, out=first)
    assert rest[0] is first and [p.asscalar() for p in rest] == [1, 2, 3]


def test_repeated_calls_look_at_the_flags_again():
    x, out = mx.nd.ones(2), mx.nd.zeros(2)
    mx.nd.exp(x, out=out)
    mx.nd.exp(x, out=out)
    out.writable = False
    with pytest.raises(ValueError, match="read-only"):
        mx.nd.exp(x, out=out)


TWO = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.truediv,
    "true_divide": operator.truediv, "modulo": operator.mod, "power": operator.pow, "maximum": np.maximum,
    "minimum": np.minimum, "equal": operator.eq, "not_equal": operator.ne, "greater": operator.gt,
    "greater_equal": operator.ge, "lesser": operator.lt, "lesser_equal": operator.le,
    "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor,
}  # fmt: skip


@pytest.mark.parametrize("name", TWO)
def test_functions_of_two_operands(name):
    ours, theirs = getattr(mx.nd, name), TWO[name]
    a, b = np.array([[1, 2], [4, 3]], np.float32), np.array([[2, 2], [1, 4]], np.float32)
    x, y = mx.nd.array(a), mx.nd.array(b)
    for got, expected in [
        (ours(x, y), theirs(a, b)), (ours(x, 2), theirs(a, 2)), (ours(2, x), theirs(2, a)),
        (ours(x, y[0]), theirs(a, b[0])), (ours(x, b), theirs(a, b)),
        (ours(b, x), theirs(b, a)), (ours(lhs=x, rhs=2.5), theirs(a, 2.5)),
    ]:  # fmt: skip
        np.testing.assert_allclose(got.asnumpy(), expected.astype("float32"), rtol=1e-6)
    with pytest.raises(TypeError, match=f"{name}: expected an NDArray, got int and float"):
        ours(1, 2.0)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: mx.nd.dott(x), AttributeError, "'raymx.ndarray' has no attribute 'dott'; did you mean 'dot'?"),
        (lambda x: mx.nd.dot(x), MXNetError, "dot takes the arrays lhs, rhs, got 1; missing: rhs."),
        (lambda x: mx.nd.dot(x, x, x, x), MXNetError, "dot takes the arrays lhs, rhs, got 4."),
        (lambda x: mx.nd.dot(x, hrs=x), MXNetError, "unknown input 'hrs'; did you mean 'rhs'? (inputs: lhs, rhs)."),
        (lambda x: mx.nd.dot(x, np.ones(2)), TypeError, "dot: inputs must be NDArrays, got a NumPy array; make one"),
        (lambda x: mx.nd.dot(x, rhs=np.ones(2)), TypeError, "dot: inputs must be NDArrays, got a NumPy array"),
        (lambda x: mx.nd.dot(x, rhs=[1, 2], out=x), ParameterError, "dot: unknown parameter 'rhs'"),
        (lambda x: mx.nd.Concat([x, 5], dim=0), TypeError, "Concat: arg1 must be an NDArray, got int; see mx.nd.array"),
        (lambda x: mx.nd.clip(x, 0), ParameterError, "clip: parameter 'a_max' (a number) is missing."),
        (lambda x: mx.nd.clip(x, 0, 1, 2), TypeError, "clip: too many positional arguments; parameters are a_min, a_m"),
        (lambda x: mx.nd.clip(x, 0, a_mx=2), ParameterError, "clip: unknown parameter 'a_mx'; did you mean 'a_max'?"),
        (lambda x: mx.nd.Activation(x, act_type="rely"), ParameterError, "act_type must be one of 'relu', 'sigmoid'"),
        (lambda x: mx.nd.exp(x, 1), TypeError, "exp: too many positional arguments; parameters are none."),
    ],
)
def test_refusals(call, error, text):
    with pytest.raises(error) as caught:
        call(mx.nd.ones((2, 2)))
    assert text in str(caught.value)


# ---- every row of the operator table, called imperatively ----


class Call:
    """One row, its inputs as NumPy arrays."""

    def __init__(self, case: Case):
        chance = np.random.default_rng(0)
        self.case, self.dtype = case, case.dtypes[0]
        self.function = getattr(mx.nd, case.op)
        self.host = [self._draw(spec, chance) for spec in case.inputs]
        self.variadic = {REGISTRY[case.op].variadic}

    def _draw(self, spec, chance):
        if isinstance(spec, Classes):
            return chance.integers(0, spec.n, spec.shape).astype(self.dtype)
        if isinstance(spec, tuple):
            return chance.uniform(*self.case.between, spec).astype(self.dtype)
        return spec.values if isinstance(spec, Fixed) else np.asarray(spec).astype(self.dtype)

    def arrays(self) -> list:
        return [mx.nd.array(h, dtype=h.dtype) for h in self.host]

    def __call__(self, arrays=None, out=None) -> list[np.ndarray]:
        mx.random.seed(3)
        params = {k: v for k, v in self.case.params.items() if k not in self.variadic}
        found = self.function(*(arrays or self.arrays()), out=out, **params)
        return [x.asnumpy() for x in (found if isinstance(found, list) else [found])]


ROWS = [case for case in CASES if case.op != "_set_value"]


@pytest.mark.parametrize("case", ROWS, ids=str)
def test_out_may_have_gaps(case):
    call = Call(case)
    expected = call()
    windows = [
        mx.nd.full(tuple(2 * n for n in e.shape), 7, dtype=e.dtype)[(slice(None, None, 2),) * e.ndim] for e in expected
    ]
    for got, want in zip(call(out=windows), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", ROWS, ids=str)
def test_out_may_be_any_input(case):
    call = Call(case)
    expected = call()[0]
    for position, host in enumerate(call.host[: len(call.case.inputs)]):
        if (host.shape, host.dtype) == (expected.shape, expected.dtype) and not _is_state(case, position):
            arrays = call.arrays()
            (got, *_) = call(arrays, out=arrays[position])
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(arrays[position].asnumpy(), got)


@pytest.mark.parametrize("case", ROWS, ids=str)
def test_out_may_overlap_any_input(case):
    """The input and the destination are windows on one buffer, one element apart."""
    call = Call(case)
    expected = call()[0]
    for position, host in enumerate(call.host):
        if host.dtype == expected.dtype and not _is_state(case, position):
            buffer = mx.nd.zeros((host.size + expected.size,), dtype=host.dtype)
            arrays = call.arrays()
            arrays[position] = buffer[: host.size].reshape(host.shape)
            arrays[position][:] = host
            out = buffer[1 : 1 + expected.size].reshape(expected.shape)
            np.testing.assert_allclose(call(arrays, out=out)[0], expected, rtol=1e-5, atol=1e-6)


def _is_state(case: Case, position: int) -> bool:
    op = mx.nd.make(case.op, **case.params)
    return position >= len(op.inputs())
