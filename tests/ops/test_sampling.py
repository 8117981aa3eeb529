"""What samplers and resizers infer and refuse."""

import numpy as np
import pytest

import raymx as mx
from raymx.errors import ParameterError, ShapeError
from raymx.ops.op import make

data = mx.sym.Variable("data")
AFFINE = {"transform_type": "affine", "sampler_type": "bilinear"}


def test_a_grid_for_each_image():
    net = mx.sym.BilinearSampler(data, mx.sym.Variable("grid"))
    assert net.infer_shape(data=(2, 3, 5, 6), grid=(2, 2, 4, 7))[1] == [(2, 3, 4, 7)]
    with pytest.raises(ShapeError, match=r"grid must be \(2, 2, 0, 0\).*got \(3, 2, 4, 7\)"):
        net.infer_shape(data=(2, 3, 5, 6), grid=(3, 2, 4, 7))


def test_the_transformers_matrix_is_inferred_and_its_grids_are_hidden():
    net = mx.sym.SpatialTransformer(data, target_shape=(4, 7), name="st", **AFFINE)
    assert (net.list_arguments(), net.list_outputs()) == (["data", "st_loc"], ["st_output"])
    assert net.infer_shape(data=(2, 3, 5, 6))[:2] == ([(2, 3, 5, 6), (2, 6)], [(2, 3, 4, 7)])
    assert mx.sym.SpatialTransformer(data, **AFFINE).infer_shape(data=(2, 3, 5, 6))[1] == [(2, 3, 5, 6)]


def test_the_identity_reads_the_image_itself():
    image = mx.nd.array(np.arange(24).reshape(1, 2, 3, 4))
    identity = mx.nd.array([[1, 0, 0, 0, 1, 0]])
    grid = mx.nd.GridGenerator(identity, transform_type="affine", target_shape=(3, 4))
    still = mx.nd.GridGenerator(mx.nd.zeros((1, 2, 3, 4)), transform_type="warp")
    for read in (mx.nd.BilinearSampler(image, grid), mx.nd.BilinearSampler(image, still),
                 mx.nd.SpatialTransformer(image, identity, **AFFINE)):  # fmt: skip
        np.testing.assert_allclose(read.asnumpy(), image.asnumpy(), atol=1e-5)


def test_resizing_like_another_image():
    net = mx.sym.contrib.BilinearResize2D(data, mx.sym.Variable("like"), mode="like")
    assert net.infer_shape(data=(2, 3, 5, 6), like=(1, 1, 4, 7))[1] == [(2, 3, 4, 7)]
    assert net.infer_shape_partial(data=(2, 3, 5, 6))[1] == [()]


@pytest.mark.parametrize(
    ("name", "params", "text"),
    [
        ("GridGenerator", {"transform_type": "affine"}, r"affine needs .* target_shape, got \(0, 0\)"),
        ("GridGenerator", {"transform_type": "twist"}, "transform_type must be one of 'affine', 'warp', got 'twist'"),
        ("_contrib_AdaptiveAvgPooling2D", {"output_size": (1, 2, 3)}, "output_size must hold one or two numbers"),
        ("ROIPooling", {"pooled_size": (2,), "spatial_scale": 1}, r"pooled_size must be height and width, got \(2,\)"),
        ("Correlation", {"kernel_size": 2}, "kernel_size must be odd, got 2"),
    ],
)
def test_parameters_that_do_not_fit(name, params, text):
    with pytest.raises(ParameterError, match=text):
        make(name, **params)


@pytest.mark.parametrize(
    ("symbol", "shapes", "text"),
    [
        (lambda: mx.sym.GridGenerator(data, transform_type="warp"), {"data": (2, 3, 4, 5)}, "2 numbers for each pixel"),
        (lambda: mx.sym.ROIPooling(data, mx.sym.Variable("rois"), pooled_size=(2, 2), spatial_scale=1),
         {"data": (1, 2, 4, 4), "rois": (3, 4)}, r"rois must be a matrix with rows \(image, x1, y1, x2, y2\)"),
        (lambda: mx.sym.Correlation(data, mx.sym.Variable("b"), max_displacement=3, name="c"), {"data": (1, 2, 4, 9)},
         r"Correlation 'c': patches and displacements need 7 lines and columns, there are \(4, 9\)"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit(symbol, shapes, text):
    with pytest.raises(ShapeError, match=text):
        symbol().infer_shape(**shapes)
