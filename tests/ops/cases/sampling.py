"""Rows: images between their pixels."""

import itertools
import math

import numpy as np

from tests.ops.cases.table import case

# fmt: off
_off = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 2, 3, 4))  # no point on a pixel, where slopes jump
_far = np.random.default_rng(1).uniform(-1.5, 1.5, (2, 2, 3, 4))
_maps = np.array([[0.9, 0.11, 0.07, -0.13, 0.8, 0.05], [1.3, -0.2, 0.31, 0.1, 1.1, -0.23]])


def _pixel(image, y, x):
    return image[:, y, x] if 0 <= y < image.shape[1] and 0 <= x < image.shape[2] else np.zeros(len(image))


def _sampled(data, grid):
    """Pixel by pixel: the four neighbours of each point, by the area on the other side."""
    (h, w), out = data.shape[2:], np.zeros((*data.shape[:2], *grid.shape[2:]))
    for n, i, j in itertools.product(range(len(grid)), range(grid.shape[2]), range(grid.shape[3])):
        x, y = (grid[n, 0, i, j] + 1) * (w - 1) / 2, (grid[n, 1, i, j] + 1) * (h - 1) / 2
        for dy, dx in itertools.product((0, 1), (0, 1)):
            at_y, at_x = math.floor(y) + dy, math.floor(x) + dx
            out[n, :, i, j] += (1 - abs(y - at_y)) * (1 - abs(x - at_x)) * _pixel(data[n], at_y, at_x)
    return out


def _points(h, w):
    y, x = np.meshgrid(np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij")
    return np.stack([x, y, np.ones_like(x)])


def _mapped(maps, h, w):
    return np.einsum("nij,jhw->nihw", maps.reshape(-1, 2, 3), _points(h, w))


def _warped(flow):
    h, w = flow.shape[2:]
    at = flow + np.stack(np.meshgrid(np.arange(w), np.arange(h)))
    return at / np.array([(w - 1) / 2, (h - 1) / 2])[:, None, None] - 1


case("GridGenerator", (2, 6), transform_type="affine", target_shape=(3, 4), ref=lambda a: _mapped(a, 3, 4))
case("GridGenerator", (2, 2, 3, 4), transform_type="warp", ref=_warped)
case("BilinearSampler", (2, 3, 5, 6), _off, dtypes=("float32", "float64"), ref=_sampled)
case("BilinearSampler", (2, 1, 4, 4), _far, cudnn_off=True, dtypes=("float32", "float64"), ref=_sampled)
case("SpatialTransformer", (2, 3, 5, 6), _maps, transform_type="affine", sampler_type="bilinear", target_shape=(3, 4),
     dtypes=("float32", "float64"), ref=lambda x, a: _sampled(x, _mapped(a, 3, 4)))
case("SpatialTransformer", (2, 1, 4, 3), _maps, transform_type="affine", sampler_type="bilinear", target_shape=(4, 3),
     dtypes=("float32", "float64"), ref=lambda x, a: _sampled(x, _mapped(a, 4, 3)))


def _means(x, h, w):
    def bounds(k, n_in, n_out):
        return slice(k * n_in // n_out, math.ceil((k + 1) * n_in / n_out))

    rows = [[x[:, :, bounds(i, x.shape[2], h), bounds(j, x.shape[3], w)].mean(axis=(2, 3)) for j in range(w)]
            for i in range(h)]
    return np.array(rows).transpose(2, 3, 0, 1)


def _resized(x, h, w, aligned=True):
    def at(n_in, n_out):
        if aligned:
            return np.linspace(0, n_in - 1, n_out)
        return np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)

    def along(x, axis, points):
        lines = np.moveaxis(x, axis, -1)
        flat = [np.interp(points, np.arange(lines.shape[-1]), line) for line in lines.reshape(-1, lines.shape[-1])]
        return np.moveaxis(np.reshape(flat, (*lines.shape[:-1], len(points))), -1, axis)

    return along(along(x, 2, at(x.shape[2], h)), 3, at(x.shape[3], w))


case("_contrib_AdaptiveAvgPooling2D", (2, 3, 5, 7), ref=lambda x: x.mean(axis=(2, 3), keepdims=True))
case("_contrib_AdaptiveAvgPooling2D", (2, 3, 5, 7), output_size=2, ref=lambda x: _means(x, 2, 2))
case("_contrib_AdaptiveAvgPooling2D", (2, 3, 5, 7), output_size=(3, 8), ref=lambda x: _means(x, 3, 8))
case("_contrib_BilinearResize2D", (2, 3, 4, 5), height=7, width=3, ref=lambda x: _resized(x, 7, 3))
case("_contrib_BilinearResize2D", (2, 3, 4, 5), height=7, width=3, align_corners=False,
     ref=lambda x: _resized(x, 7, 3, False))
case("_contrib_BilinearResize2D", (2, 3, 4, 5), height=4, width=5, ref=lambda x: x)
case("_contrib_BilinearResize2D", (2, 3, 4, 5), height=1, width=1, ref=lambda x: x[:, :, :1, :1])
case("_contrib_BilinearResize2D", (2, 1, 4, 5), scale_height=1.5, scale_width=0.5, mode="size",
     ref=lambda x: _resized(x, 6, 2))
case("_contrib_BilinearResize2D", (2, 1, 4, 5), scale_height=1.5, scale_width=2, mode="odd_scale",
     ref=lambda x: _resized(x, 6, 9))
case("_contrib_BilinearResize2D", (2, 1, 4, 5), (1, 1, 3, 8), mode="like", ref=lambda x, like: _resized(x, 3, 8))
for _mode, _h, _w in (("to_even_down", 4, 4), ("to_even_up", 4, 6), ("to_odd_down", 3, 5), ("to_odd_up", 5, 5)):
    case("_contrib_BilinearResize2D", (2, 1, 4, 5), mode=_mode, ref=lambda x, h=_h, w=_w: _resized(x, h, w))
