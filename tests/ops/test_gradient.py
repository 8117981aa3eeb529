"""Gradients as operators: their inputs, outputs, identity and preparation."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from raymx import config
from raymx.ops.gradient import gradient_of
from raymx.ops.op import make


@pytest.mark.parametrize(
    ("op", "wants", "inputs"),
    [
        (make("FullyConnected", num_hidden=2), ("data", "bias"), ("g", "data", "weight")),
        (make("_plus"), ("lhs",), ("g",)),
        (make("SoftmaxOutput"), ("data",), ("label", "out")),
        (make("SoftmaxOutput", out_grad=True), ("data",), ("g", "label", "out")),
        (make("SliceChannel", num_outputs=2), ("data",), ("g0", "g1")),
        (make("Concat", num_args=2), ("arg1",), ("g", "arg0", "arg1")),
        (make("Dropout"), ("data",), ("g", "mask")),
    ],
    ids=str,
)
def test_inputs_and_outputs(op, wants, inputs):
    gradient = gradient_of(op, wants)
    assert gradient.inputs() == inputs
    assert gradient.outputs() == tuple(f"d_{w}" for w in wants)
    assert gradient.heavy == op.heavy


def test_equal_gradients_are_one_object_also_after_pickling():
    op = make("FullyConnected", num_hidden=2)
    gradient = gradient_of(op, ("data",))
    assert gradient_of(op, ("data",)) is gradient
    assert pickle.loads(pickle.dumps(gradient)) is gradient
    assert gradient_of(op, ("weight",)) is not gradient


def test_only_pairs_of_wanted_gradients_are_in_place():
    assert gradient_of(make("_mul"), ("lhs", "rhs")).inplace == (("g", "d_lhs"),)
    assert gradient_of(make("_mul"), ("rhs",)).inplace == ()


def test_a_gradient_that_only_renames_is_a_view():
    assert gradient_of(make("Flatten"), ("data",)).view
    assert not gradient_of(make("negative"), ("data",)).view


def test_shapes_follow_the_inputs_that_are_kept():
    gradient = gradient_of(make("_mul"), ("lhs",))
    assert gradient.infer_shape(g=(2,), lhs=(2,), rhs=(2,)) == {"d_lhs": (2,)}


def test_scratch_is_asked_only_where_an_operand_was_stretched():
    gradient = gradient_of(make("broadcast_mul"), ("lhs", "rhs"))
    shapes = {"g": (2, 3), "lhs": (2, 3), "rhs": (1, 3), "d_lhs": (2, 3), "d_rhs": (1, 3)}
    assert gradient.scratch(shapes, np.dtype("float32")) == {"wide": ((2, 3), np.dtype("float32"))}
    assert gradient.scratch({**shapes, "d_rhs": (2, 3)}, np.dtype("float32")) == {}


def test_prepared_gradient_writes_only_what_is_wanted():
    g, lhs, rhs, d_rhs = np.full(3, 2.0), np.arange(3.0), np.ones(3), np.empty(3)
    gradient_of(make("_mul"), ("rhs",)).prepare(np, [g, lhs, rhs], [d_rhs], is_train=True)()
    assert d_rhs.tolist() == [0, 2, 4]


def test_operators_without_gradient_have_no_gradient_operator():
    with pytest.raises(AssertionError, match="^sign has no gradient$"):
        gradient_of(make("sign"), ("data",))


@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_a_gradient_may_add_to_what_is_there(onednn, apart):
    op, rng = make("FullyConnected", num_hidden=32), np.random.default_rng(0)
    g, data, weight = (rng.random(shape, "float32") for shape in ((16, 32), (16, 48), (32, 48)))
    sums = [rng.random((32, 48), "float32"), rng.random(32, "float32")]
    before = [total.copy() for total in sums]
    outs = [np.empty_like(total) if apart else total for total in sums]
    adding = gradient_of(op, ("weight", "bias"), ("weight", "bias"))
    assert adding.inputs() == ("g", "data", "weight", "sum_weight", "sum_bias")
    with config.using(onednn=onednn):
        adding.prepare(np, [g, data, weight, *sums], outs, term=np.empty_like(weight))()
    np.testing.assert_allclose(outs[0], before[0] + g.T @ data, rtol=1e-5)
    np.testing.assert_allclose(outs[1], before[1] + g.sum(axis=0), rtol=1e-5)
    assert pickle.loads(pickle.dumps(adding)) is adding


def test_the_gradient_of_one_input_may_have_a_short_way():
    product = make("_mul")
    g, lhs, rhs, out = (np.full(2, x) for x in (2.0, 3.0, 4.0, 0.0))
    gradient_of(product, ("lhs",)).short(np, g, lhs, rhs, out=out)
    assert list(out) == [8, 8]
    assert gradient_of(product, ("lhs", "rhs")).short is None
    assert gradient_of(make("dot"), ("lhs",)).short is None  # has special kernels
