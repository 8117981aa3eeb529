"""BatchNorm's averages: when they move, and how its states are kept in files."""

from __future__ import annotations

import json

import numpy as np
import pytest

import raymx as mx
from raymx.errors import DTypeError, ShapeError
from raymx.ops.infer import infer_shapes, infer_types
from raymx.ops.op import make

X = np.random.default_rng(0).normal(2, 3, (4, 3, 5, 5)).astype("float32")


def bound(**params):
    symbol = mx.sym.BatchNorm(mx.sym.Variable("data"), name="bn", **params)
    executor = symbol.simple_bind(mx.cpu(), data=X.shape)
    executor.arg_dict["data"][:] = X
    executor.arg_dict["bn_gamma"][:] = 2
    executor.aux_dict["bn_moving_mean"][:] = 0.5
    executor.aux_dict["bn_moving_var"][:] = 1
    return executor


def averages(executor):
    return executor.aux_dict["bn_moving_mean"].asnumpy(), executor.aux_dict["bn_moving_var"].asnumpy()


def moved(momentum=0.9):
    mean, var = X.mean((0, 2, 3)), X.var((0, 2, 3))
    return momentum * 0.5 + (1 - momentum) * mean, momentum + (1 - momentum) * var


@pytest.mark.parametrize("params", [{}, {"momentum": 0.5}, {"output_mean_var": True}], ids=str)
def test_a_training_step_moves_the_averages_once(params):
    executor = bound(**params)
    executor.forward(is_train=True)
    executor.forward(is_train=True)  # as a monitor or a line search may do
    for got, expected in zip(averages(executor), (0.5, 1), strict=True):
        np.testing.assert_array_equal(got, np.full(3, expected, "float32"))
    executor.backward([mx.nd.ones(o.shape) for o in executor.outputs])
    for got, expected in zip(averages(executor), moved(params.get("momentum", 0.9)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4)


@pytest.mark.parametrize(("train", "params"), [(False, {}), (True, {"use_global_stats": True})])
def test_averages_that_are_used_do_not_move(train, params):
    executor = bound(**params)
    executor.forward(is_train=train)
    np.testing.assert_allclose(executor.outputs[0].asnumpy(), (X - 0.5) / np.sqrt(1.001), rtol=1e-4, atol=1e-5)
    executor.backward([mx.nd.ones(X.shape)])
    for got, expected in zip(averages(executor), (0.5, 1), strict=True):
        np.testing.assert_allclose(got, np.full(3, expected, "float32"), rtol=1e-6)


def test_with_fix_gamma_gamma_counts_as_1_and_has_no_gradient():
    executor = bound()
    executor.forward(is_train=True)
    executor.backward([mx.nd.array(X)])
    assert not executor.grad_dict["bn_gamma"].asnumpy().any()
    assert executor.outputs[0].asnumpy().std() == pytest.approx(1, rel=1e-3)


def test_states_carry_their_first_values_into_files():
    symbol = mx.sym.BatchNorm(mx.sym.Variable("data"), name="bn")
    found = {n["name"]: n.get("attrs") for n in json.loads(symbol.tojson())["nodes"]}
    assert found["bn_moving_mean"] == {"__init__": '["zero", {}]'}
    assert found["bn_moving_var"] == {"__init__": '["one", {}]'}
    again = mx.sym.load_json(symbol.tojson())
    assert again.list_auxiliary_states() == ["bn_moving_mean", "bn_moving_var"]
    assert again.tojson() == symbol.tojson()


def test_outputs_are_hidden_unless_they_are_asked_for():
    data = mx.sym.Variable("data")
    assert mx.sym.BatchNorm(data, name="bn").list_outputs() == ["bn_output"]
    visible = mx.sym.BatchNorm(data, name="bn", output_mean_var=True)
    assert visible.list_outputs() == ["bn_output", "bn_mean", "bn_var"]


@pytest.mark.parametrize("name", ["BatchNorm_v1", "CuDNNBatchNorm"])
def test_older_names(name):
    assert make(name, momentum=0.5) is make("BatchNorm", momentum=0.5)


def test_shapes_are_told_by_data_and_by_the_vectors():
    op = make("BatchNorm")
    names = op.inputs() + op.aux() + op.outputs()
    known = {**dict.fromkeys(names), "data": (2, 0, 5), "gamma": (3,)}
    assert infer_shapes(op, known)["out"] == (2, 3, 5)
    with pytest.raises(ShapeError, match=r"^BatchNorm 'bn': beta must be \(3,\) for data \(2, 3, 5\), got \(4,\)\.$"):
        infer_shapes(op, {**dict.fromkeys(names), "data": (2, 3, 5), "beta": (4,)}, "bn")
    with pytest.raises(ShapeError, match="axis 4 is out of range for 3 dimensions"):
        infer_shapes(make("BatchNorm", axis=4), {**dict.fromkeys(names), "data": (2, 3, 5)})


def test_vectors_of_float16_data_are_float32():
    op = make("BatchNorm")
    names = op.inputs() + op.aux() + op.outputs()
    half, single = np.dtype("float16"), np.dtype("float32")
    found = infer_types(op, {**dict.fromkeys(names), "data": half})
    assert [found[n] for n in ("out", "gamma", "moving_var", "mean")] == [half, single, single, single]
    with pytest.raises(DTypeError, match="gamma must be float32, got float16"):
        infer_types(op, {**dict.fromkeys(names), "data": half, "gamma": half})


def test_instance_norm_wants_three_axes():
    op = make("InstanceNorm")
    known = {**dict.fromkeys(op.inputs() + op.outputs()), "data": (2, 3)}
    with pytest.raises(ShapeError, match=r"^InstanceNorm: data must have at least 3 axes, \(N, C, …\)"):
        infer_shapes(op, known)
