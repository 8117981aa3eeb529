"""Gradients as operators: their inputs, outputs, identity and preparation."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

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
    assert gradient.heavy == op.heavy and not gradient.simple


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
