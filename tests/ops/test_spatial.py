"""What padding, cutting and upsampling infer and refuse."""

import pytest

import raymx as mx
from raymx.errors import ParameterError, ShapeError
from raymx.ops.op import make

data = mx.sym.Variable("data")
IMAGES = (2, 3, 4, 5)


def outputs(symbol, **shapes):
    return symbol.infer_shape(**shapes)[1]


def test_the_weight_of_bilinear_upsampling_is_inferred():
    net = mx.sym.UpSampling(data, scale=2, sample_type="bilinear", num_filter=3, name="up")
    assert net.list_arguments() == ["data", "up_weight"]
    assert net.infer_shape(data=IMAGES)[:2] == ([IMAGES, (3, 1, 4, 4)], [(2, 3, 8, 10)])


def test_several_inputs_are_joined_or_added():
    other = mx.sym.Variable("other")
    joined = mx.sym.UpSampling(data, other, scale=2, sample_type="nearest")
    assert outputs(joined, data=IMAGES, other=(2, 1, 8, 10)) == [(2, 4, 8, 10)]
    added = mx.sym.UpSampling(data, other, scale=2, sample_type="nearest", multi_input_mode="sum")
    assert outputs(added, data=IMAGES, other=(2, 3, 8, 10)) == [(2, 3, 8, 10)]


def test_a_part_as_large_as_another_image():
    like = mx.sym.Variable("like")
    assert outputs(mx.sym.Crop(data, like), data=IMAGES, like=(2, 7, 3, 2)) == [(2, 3, 3, 2)]
    assert outputs(mx.sym.Crop(data, h_w=(1, 2)), data=IMAGES) == [(2, 3, 1, 2)]


@pytest.mark.parametrize(
    ("symbol", "shape", "text"),
    [
        (lambda: mx.sym.Pad(data, mode="edge", pad_width=(0, 0, 1, 1), name="p"), IMAGES,
         r"Pad 'p': pad_width must hold 8 numbers, two for each axis \(got data \(2, 3, 4, 5\)\)"),
        (lambda: mx.sym.Pad(data, mode="reflect", pad_width=(0, 0, 0, 0, 4, 0, 0, 0)), IMAGES,
         "widths to reflect must be smaller than the axis"),
        (lambda: mx.sym.Crop(data, h_w=(2, 2), offset=(3, 0), name="c"), IMAGES,
         r"Crop 'c': a part of \(2, 2\) at \(3, 0\) does not lie within an image of \(4, 5\)"),
        (lambda: mx.sym.Crop(data, h_w=(2, 2)), (3, 4), r"arg0 must have 4 axes \(N, C, H, W\)"),
        (lambda: mx.sym.UpSampling(data, scale=2, sample_type="bilinear", num_filter=4), IMAGES,
         "num_filter must be the number of data's channels, got 4"),
        (lambda: mx.sym.UpSampling(data, scale=2, sample_type="nearest"), (3, 4), "arg0 must have 4 axes"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit(symbol, shape, text):
    with pytest.raises(ShapeError, match=text):
        symbol().infer_shape(data=shape)


def test_inputs_without_a_whole_factor():
    net = mx.sym.UpSampling(data, mx.sym.Variable("b"), scale=2, sample_type="nearest")
    with pytest.raises(ShapeError, match=r"\(8, 10\) must be a multiple of arg1's height and width"):
        net.infer_shape(data=IMAGES, b=(2, 3, 3, 5))


@pytest.mark.parametrize(
    ("name", "params", "text"),
    [
        ("Pad", {"mode": "edge", "pad_width": (0, 1, 2)}, r"pad_width must hold two numbers .* got \(0, 1, 2\)"),
        ("Pad", {"mode": "wrap", "pad_width": (0, 1)}, "mode must be one of 'constant', 'edge', 'reflect', got 'wrap'"),
        ("Crop", {"num_args": 1}, r"with one input h_w must hold the part's height and width, got \(0, 0\)"),
        ("Crop", {"num_args": 1, "h_w": (3,)}, "h_w and offset must hold two numbers of at least 0 each"),
        ("UpSampling", {"scale": 0, "sample_type": "nearest", "num_args": 1}, "scale must be an integer of at least 1"),
    ],
)
def test_parameters_that_do_not_fit(name, params, text):
    with pytest.raises(ParameterError, match=text):
        make(name, **params)
