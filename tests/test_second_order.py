"""Gradients of gradients, against differences of gradients."""

from __future__ import annotations

import numpy as np
import pytest

from raymx import autograd
from raymx import ndarray as nd
from raymx.errors import GraphError
from raymx.ops.op import REGISTRY
from raymx.second_order import FORMULAS, LINEAR

RNG = np.random.default_rng(8)
POSITIVE = RNG.uniform(0.2, 0.9, (2, 3))

ROWS = {
    **{name: lambda x, name=name: getattr(nd, name)(x) for name in (
        "square", "sqrt", "rsqrt", "cbrt", "reciprocal", "exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos",
        "tan", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan", "arcsinh", "arctanh", "erf", "sigmoid", "relu",
        "softsign", "abs", "softmax", "log_softmax", "negative", "degrees",
    )},
    "arccosh": lambda x: nd.arccosh(x + 2),
    "arithmetic": lambda x: (x * x - 2 / x + x / 3 - 1) * (3 - x) / (x + 1),
    "power": lambda x: x**3 + 2**x + x**x,
    "broadcasting": lambda x: nd.broadcast_mul(x, x.sum(axis=1, keepdims=True)) / nd.broadcast_plus(x, x[0:1]),
    "maximum": lambda x: nd.maximum(x, 0.5) * nd.minimum(x, x * x) * nd.maximum(x, nd.sqrt(x)),
    "clip": lambda x: nd.clip(x, 0.3, 0.7) ** 2,
    "dot": lambda x: nd.dot(x, x, transpose_b=True) ** 2 + nd.dot(nd.dot(x, x, transpose_a=True), x.T).sum(),
    "batch_dot": lambda x: nd.batch_dot(x.reshape((1, 2, 3)), x.reshape((1, 2, 3)), transpose_b=True) ** 2,
    "FullyConnected": lambda x: nd.FullyConnected(x, x * 2, x[:, 1], num_hidden=2) ** 2,
    "Activation": lambda x: sum(nd.Activation(x * x, act_type=a) for a in ("relu", "tanh", "sigmoid", "softrelu")),
    "shapes": lambda x: (nd.Concat(x, x * x, dim=0).T.reshape((2, 6)) ** 2).mean(axis=0) * 3,
    "indices": lambda x: x[[0, 1, 0]] ** 2 * x[0] + nd.where(nd.array([1, 0], dtype="float64"), x, x * x)[1] ** 2,
    "slices": lambda x: nd.slice_axis(x, axis=1, begin=0, end=2) ** 2 + (x[:, 1:] ** 3).flatten() ** 2,
    "channels": lambda x: nd.SliceChannel(x * x, num_outputs=3)[1] ** 2,
    "copies": lambda x: x.copy() ** 2 * nd.expand_dims(x, axis=0).reshape((2, 3)),
}  # fmt: skip


def first(function, values, create_graph=False):
    x = nd.array(values, dtype="float64")
    x.attach_grad()
    with autograd.record():
        y = function(x)
        y = (y * nd.array(np.arange(1.0, y.size + 1).reshape(y.shape), dtype="float64")).sum()
        return x, autograd.grad(y, x, create_graph=create_graph)


@pytest.mark.parametrize("name", ROWS)
def test_second_derivatives(name):
    function, step = ROWS[name], 1e-6
    x, g = first(function, POSITIVE, create_graph=True)
    weights = RNG.uniform(-1, 1, g.shape)
    with autograd.record():
        h = (g * nd.array(weights, dtype="float64")).sum()
    if tape_is_empty(h):
        assert name in ("relu", "abs", "negative", "degrees")  # their first derivatives are constant
        return
    h.backward()
    direction = RNG.uniform(-1, 1, x.shape)
    ends = [(first(function, POSITIVE + s * step * direction)[1].asnumpy() * weights).sum() for s in (1, -1)]
    measured = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose((x.grad.asnumpy() * direction).sum(), measured, rtol=1e-5, atol=1e-7)


def tape_is_empty(array) -> bool:
    from raymx import tape

    return tape.entry_of(array) is None


def test_third_derivative():
    x = nd.array([0.5, 1.5], dtype="float64")
    x.attach_grad()
    with autograd.record():
        y = nd.sin(x) * x
        for _ in range(2):
            y = autograd.grad(y, x, create_graph=True)
    y.backward()
    np.testing.assert_allclose(x.grad.asnumpy(), -3 * np.sin([0.5, 1.5]) - [0.5, 1.5] * np.cos([0.5, 1.5]))


def test_a_gradient_penalty_through_two_layers():
    w = nd.array(RNG.uniform(-1, 1, (4, 3)), dtype="float64")
    w.attach_grad()
    x = nd.array(POSITIVE, dtype="float64")
    x.attach_grad()
    with autograd.record():
        y = nd.tanh(nd.FullyConnected(x, w, num_hidden=4, no_bias=True)).sum()
        penalty = (autograd.grad(y, x, create_graph=True) ** 2).sum()
    penalty.backward()
    expected, step = np.zeros((4, 3)), 1e-6
    for i in np.ndindex(4, 3):
        ends = []
        for sign in (1, -1):
            moved = w.asnumpy()
            moved[i] += sign * step
            d = (1 - np.tanh(POSITIVE @ moved.T) ** 2) @ moved
            ends.append((d**2).sum())
        expected[i] = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(w.grad.asnumpy(), expected, rtol=1e-5, atol=1e-7)


def test_an_operator_without_a_formula_says_so():
    x, g = first(lambda x: nd.gammaln(x), POSITIVE, create_graph=True)
    np.testing.assert_allclose(g.asnumpy(), first(lambda x: nd.gammaln(x), POSITIVE)[1].asnumpy())
    with pytest.raises(GraphError, match="gammaln: its gradient cannot be differentiated again; compute it by"):
        g.backward()


def test_names_are_those_of_operators():
    canonical = {cls.name for cls in REGISTRY.values()}
    assert {*FORMULAS, *LINEAR} <= canonical
    assert not LINEAR & FORMULAS.keys()
