"""Shape and type inference: both directions, partial shapes, and what a contradiction says."""

from __future__ import annotations

import numpy as np
import pytest

from raymx.errors import DTypeError, ShapeError
from raymx.ops.infer import complete, infer_call, infer_shapes, infer_types, unify
from raymx.ops.op import make

f32, f64, i32 = np.dtype("float32"), np.dtype("float64"), np.dtype("int32")


def _infer(op, node="", **known):
    names = op.inputs() + op.aux() + op.outputs()
    return infer_shapes(op, {n: known.get(n) for n in names}, node)


def test_unify_merges_what_both_know():
    assert unify(None, (2, 0)) == (2, 0)
    assert unify((2, 0), (0, 3)) == (2, 3)
    for other in ((3, 0), (2,)):
        with pytest.raises(ValueError):
            unify((2, 0), other)


def test_complete():
    assert complete((2, 3)) and not complete((2, 0)) and not complete(None)


@pytest.mark.parametrize(
    ("op", "known", "deduced"),
    [
        (make("_plus"), {"lhs": (2, 3)}, {"rhs": (2, 3), "out": (2, 3)}),
        (make("_plus"), {"out": (2, 3)}, {"lhs": (2, 3), "rhs": (2, 3)}),
        (make("_mul"), {"lhs": (2, 0), "rhs": (0, 3)}, {"lhs": (2, 3), "rhs": (2, 3), "out": (2, 3)}),
        (make("_plus_scalar", scalar=1), {"out": (2, 3)}, {"data": (2, 3)}),
        (make("exp"), {"out": (4,)}, {"data": (4,)}),
        (make("ElementWiseSum", num_args=3), {"arg1": (2, 3)}, {"arg0": (2, 3), "arg2": (2, 3), "out": (2, 3)}),
        (make("Activation", act_type="relu"), {"out": (0, 3)}, {"data": (0, 3)}),
        (make("Dropout"), {"out": (2, 3)}, {"data": (2, 3), "mask": (2, 3)}),
        (make("FullyConnected", num_hidden=3), {}, {"weight": None, "bias": None, "out": None}),
        (make("FullyConnected", num_hidden=3), {"data": (4, 5, 2)}, {"weight": (3, 10), "bias": (3,), "out": (4, 3)}),
        (make("FullyConnected", num_hidden=3), {"data": (0, 5)}, {"weight": (3, 5), "out": (0, 3)}),
        (make("FullyConnected", num_hidden=3), {"data": (0, 7), "out": (4, 3)}, {"data": (4, 7), "weight": (3, 7)}),
        (
            make("FullyConnected", num_hidden=3, flatten=False),
            {"data": (2, 4, 5)},
            {"weight": (3, 5), "out": (2, 4, 3)},
        ),
        (make("FullyConnected", num_hidden=3, no_bias=True), {"data": (2, 5)}, {"weight": (3, 5), "out": (2, 3)}),
        (make("SoftmaxOutput"), {"data": (4, 10)}, {"label": (4,), "out": (4, 10)}),
        (make("SoftmaxOutput"), {"out": (4, 10)}, {"label": (4,), "data": (4, 10)}),
        (make("SoftmaxOutput", multi_output=True), {"data": (4, 10, 5, 2)}, {"label": (4, 10)}),
        (make("SoftmaxOutput", multi_output=True), {"data": (4, 3, 5, 2), "label": (4, 5, 2)}, {"label": (4, 5, 2)}),
        (make("SoftmaxOutput", multi_output=True), {"data": (4, 3)}, {"label": (4,)}),
        (make("SoftmaxOutput", preserve_shape=True), {"data": (4, 3, 5)}, {"label": (4, 3)}),
        (make("LinearRegressionOutput"), {"data": (4, 2)}, {"label": (4, 2), "out": (4, 2)}),
        (make("LinearRegressionOutput"), {"data": (4, 1)}, {"label": (4,)}),
        (make("LinearRegressionOutput"), {"data": (4, 1), "label": (4, 1)}, {"label": (4, 1)}),
        (make("Reshape", shape=(0, -1)), {"data": (0, 7)}, {"out": (0, 0)}),
        (make("Concat", num_args=2), {"arg0": (2, 7, 3), "arg1": (0, 4, 0)}, {"arg1": (2, 4, 3), "out": (2, 11, 3)}),
        (make("Concat", num_args=2), {"arg0": (0, 7), "out": (5, 0)}, {"arg0": (5, 7), "arg1": (5, 0)}),
        (make("SliceChannel", num_outputs=2), {"data": (0, 4)}, {"output0": (0, 2), "output1": (0, 2)}),
        (make("SliceChannel", num_outputs=2), {"output1": (3, 4)}, {"data": (3, 8), "output0": (3, 4)}),
        (make("SliceChannel", num_outputs=2), {"data": (0, 4, 0), "output1": (3, 0, 5)}, {"data": (3, 4, 5)}),
        (make("SliceChannel", num_outputs=4, squeeze_axis=True), {"output2": (3, 5)}, {"data": (3, 4, 5)}),
        (make("SliceChannel", num_outputs=4, squeeze_axis=True), {"data": (3, 0)}, {"data": (3, 4), "output3": (3,)}),
        (make("_zeros", shape=(0, 3)), {"out": (2, 0)}, {"out": (2, 3)}),
        (make("sgd_mom_update", lr=1), {"weight": (2, 3)}, {"grad": (2, 3), "mom": (2, 3), "out": (2, 3)}),
    ],
    ids=str,
)
def test_deduced_shapes(op, known, deduced):
    merged = _infer(op, **known)
    assert {n: merged[n] for n in deduced} == deduced


@pytest.mark.parametrize(
    ("op", "known", "text"),
    [
        (make("FullyConnected", num_hidden=128), {"data": (64, 784), "weight": (784, 128)},
         "FullyConnected 'fc1': weight must be (128, 784) for data (64, 784) and num_hidden=128, got (784, 128)."),
        (make("_plus"), {"lhs": (2, 3), "rhs": (3, 2)}, "_plus 'fc1': rhs must be (2, 3) for lhs (2, 3), got (3, 2)."),
        (make("ElementWiseSum", num_args=2), {"arg0": (2,), "arg1": (3,)},
         "ElementWiseSum 'fc1': arg1 must be (2,) for arg0 (2,), got (3,)."),
        (make("SoftmaxOutput"), {"data": (4, 10), "label": (5,)},
         "SoftmaxOutput 'fc1': label must be (4,) for data (4, 10), got (5,)."),
        (make("LinearRegressionOutput"), {"data": (4, 2), "label": (4,)},
         "LinearRegressionOutput 'fc1': label must be (4, 2) for data (4, 2), got (4,)."),
        (make("dot"), {"lhs": (2, 3), "rhs": (4, 5)},
         "dot 'fc1': the contracted axes must be equal, 3 is not 4 (got lhs (2, 3), rhs (4, 5))."),
        (make("broadcast_plus"), {"lhs": (2, 3), "rhs": (4, 3)},
         "broadcast_plus 'fc1': shapes cannot be broadcast to one; each pair of axes must be equal or hold a 1 "
         "(got lhs (2, 3), rhs (4, 3))."),
        (make("Reshape", shape=(5, -1)), {"data": (2, 3)},
         "Reshape 'fc1': 6 elements do not fill shape (5, -1) (got data (2, 3))."),
        (make("Reshape", shape=(-3, -3)), {"data": (2, 3)},
         "Reshape 'fc1': the codes (-3, -3) ask for more dimensions than there are (got data (2, 3))."),
        (make("SliceChannel", num_outputs=2), {"data": (2, 3)},
         "SliceChannel 'fc1': axis 1 of 3 cannot be cut into 2 equal parts (got data (2, 3))."),
        (make("sum", axis=2), {"data": (2, 3)},
         "sum 'fc1': axis 2 is out of range for 2 dimensions (got data (2, 3))."),
        (make("transpose", axes=(0, 0)), {"data": (2, 3)},
         "transpose 'fc1': axis (0, 0) names an axis twice (got data (2, 3))."),
        (make("broadcast_to", shape=(2, 3)), {"data": (2, 2)},
         "broadcast_to 'fc1': only axes of size 1 stretch; shape (2, 3) does not fit (got data (2, 2))."),
        (make("slice_axis", axis=0, begin=3, end=5), {"data": (2, 2)},
         "slice_axis 'fc1': nothing lies in [3, 5) of axis 0 with 2 (got data (2, 2))."),
        (make("batch_dot"), {"lhs": (2, 3, 4), "rhs": (3, 4, 5)},
         "batch_dot 'fc1': both must have at least 3 axes, all but the last two equal "
         "(got lhs (2, 3, 4), rhs (3, 4, 5))."),
        (make("Concat", num_args=2), {"arg0": (2, 3), "arg1": (3, 3)},
         "Concat 'fc1': arg1 must be (2, 3) for arg0 (2, 3) and num_args=2, got (3, 3)."),
    ],
    ids=str,
)  # fmt: skip
def test_contradictions_are_told(op, known, text):
    with pytest.raises(ShapeError) as caught:
        _infer(op, "fc1", **known)
    assert str(caught.value) == text


def test_types_spread_and_contradict():
    plus = make("_plus")
    assert infer_types(plus, {"lhs": f64, "rhs": None, "out": None}) == dict.fromkeys(("lhs", "rhs", "out"), f64)
    with pytest.raises(DTypeError) as caught:
        infer_types(plus, {"lhs": f32, "rhs": i32, "out": None}, "sum")
    assert str(caught.value) == (
        "_plus 'sum': rhs must be float32, got int32 (lhs float32, rhs int32); convert one with astype or Cast."
    )


@pytest.mark.parametrize(
    ("op", "known", "text"),
    [
        (make("_minus"), {"lhs": np.dtype(bool)}, "_minus 'n': lhs must be of a floating or integer type, got bool; "),
        (make("softmax"), {"data": i32}, "softmax 'n': data must be of a floating type, got int32; "),
        (make("Activation", act_type="tanh"), {"data": i32}, "Activation 'n': data must be of a floating type, got"),
        (make("SoftmaxOutput"), {"label": i32}, "SoftmaxOutput 'n': data must be of a floating type, got int32; "),
    ],
)
def test_types_that_an_operator_does_not_take(op, known, text):
    names = op.inputs() + op.outputs()
    with pytest.raises(DTypeError) as caught:
        infer_types(op, {n: known.get(n) for n in names}, "n")
    assert str(caught.value).startswith(text)
    assert str(caught.value).endswith("convert it with astype or Cast.")


def test_cast_stops_types():
    assert infer_types(make("Cast", dtype="int32"), {"data": None, "out": None}) == {"data": None, "out": i32}


def test_an_imperative_call_is_inferred_at_once():
    fc = make("FullyConnected", num_hidden=3)
    assert infer_call(fc, ((4, 5), (3, 5), (3,)), (f64,) * 3) == (((4, 3), f64),)
    assert infer_call(make("_zeros", shape=(2,), dtype="int32"), (), ()) == (((2,), i32),)
    draw = make("_random_uniform", dtype="float32")
    assert infer_call(draw, (), (), (((2, 3), f64),)) == (((2, 3), f64),)  # the array that it fills
    with pytest.raises(ShapeError, match=r"^_set_value: cannot tell the shape of out from no shapes\.$"):
        infer_call(make("_set_value", src=1), (), ())
