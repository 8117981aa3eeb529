"""Shapes and errors of Convolution and Deconvolution."""

from __future__ import annotations

import pytest

from raymx.errors import ParameterError, ShapeError
from raymx.ops.infer import infer_shapes
from raymx.ops.op import make


def shapes(op, **known):
    return infer_shapes(op, {**dict.fromkeys(op.inputs() + op.outputs()), **known}, "c")


CONV = make("Convolution", kernel=(3, 3), num_filter=4)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"data": (2, 3, 8, 8)}, {"weight": (4, 3, 3, 3), "bias": (4,), "out": (2, 4, 6, 6)}),
        ({"data": (0, 3, 8, 0)}, {"weight": (4, 3, 3, 3), "out": (0, 4, 6, 0)}),
        ({"data": (2, 0, 8, 8)}, {"weight": (4, 0, 3, 3), "out": (2, 4, 6, 6)}),
        ({"data": (2, 0, 8, 8), "weight": (4, 5, 3, 3)}, {"data": (2, 5, 8, 8)}),
        ({"data": (0, 3, 0, 0), "out": (2, 4, 6, 7)}, {"data": (2, 3, 8, 9)}),
        ({}, {"weight": (4, 0, 3, 3), "bias": (4,)}),
    ],
)
def test_shapes_are_told_in_every_direction(known, expected):
    found = shapes(CONV, **known)
    assert {n: found[n] for n in expected} == expected


def test_where_windows_jump_data_cannot_be_told_from_the_output():
    op = make("Convolution", kernel=(3, 3), stride=(2, 2), num_filter=4)
    assert shapes(op, data=(0, 3, 0, 0), out=(2, 4, 6, 6))["data"] == (2, 3, 0, 0)


def test_deconvolution_reaches_its_target_shape():
    op = make("Deconvolution", kernel=(4, 4), stride=(2, 2), num_filter=4, target_shape=(7, 6))
    assert shapes(op, data=(1, 3, 3, 3))["out"] == (1, 4, 7, 6)
    with pytest.raises(ShapeError, match=r"target_shape \(7, 6\) is larger than \(6, 8\), which is all"):
        shapes(op, data=(1, 3, 2, 3))


@pytest.mark.parametrize(
    ("params", "known", "message"),
    [
        ({}, {"data": (2, 3, 8)}, r"Convolution 'c': data must have 4 axes, NCHW, for kernel \(3, 3\) \(got data"),
        ({}, {"data": (2, 3, 2, 8)}, r"a window of \(3, 3\) does not fit into data, with pad \(2, 8\)"),
        ({}, {"data": (2, 3, 8, 8), "weight": (4, 2, 3, 3)}, r"weight must be \(4, 3, 3, 3\) for data \(2, 3, 8, 8\)"),
        ({"num_group": 2}, {"data": (2, 3, 8, 8)}, "data's 3 channels must be a multiple of num_group=2"),
    ],
)
def test_shapes_that_contradict(params, known, message):
    with pytest.raises(ShapeError, match=message):
        shapes(make("Convolution", kernel=(3, 3), num_filter=4, **params), **known)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"kernel": (1, 1, 1, 1)}, r"kernel must have 1, 2 or 3 numbers, got \(1, 1, 1, 1\)"),
        ({"stride": (1,)}, r"stride must be 2 numbers of at least 1, as kernel is \(3, 3\), got \(1,\)"),
        ({"stride": (0, 1)}, r"stride must be 2 numbers of at least 1"),
        ({"pad": (-1, 0)}, r"pad must be 2 numbers that are not negative"),
        ({"num_group": 3}, "num_filter must be a multiple of num_group=3, got 4"),
        ({"layout": "NCW"}, "layout must be 'NCHW' or 'NHWC' for 2 axes, got 'NCW'"),
        ({"no_bias": "perhaps"}, "no_bias must be True or False"),
    ],
)
def test_parameters_that_contradict(params, message):
    with pytest.raises(ParameterError, match=f"^Convolution: {message}"):
        make("Convolution", **{"kernel": (3, 3), "num_filter": 4, **params})


def test_deconvolutions_adj_is_below_its_stride():
    with pytest.raises(ParameterError, match=r"^Deconvolution: adj must be below stride \(2, 2\), got \(2, 0\)\.$"):
        make("Deconvolution", kernel=(3, 3), num_filter=4, stride=(2, 2), adj=(2, 0))
