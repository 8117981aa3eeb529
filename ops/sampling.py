"""Images read between their pixels: grids of points, bilinear sampling, resizing.

A point is (x, y): -1 is the middle of the first column or line, 1 that of the last.
"""

from __future__ import annotations

import numpy as np

from raymx.errors import ParameterError
from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param
from raymx.ops.rows import add_rows
from raymx.ops.shapes import agreed, reshaped
from raymx.ops.spatial import image


class Neighbours:
    """The four pixels around each of n points (2, n) in an image of `extent`, as read-only values:

    `index` (4, n): their places among the image's pixels in a row; `inside` (4, n): whether they are in the image;
    `near_x`, `near_y` (n,): how near the point is to the first two columns and lines, from 0 to 1.
    """

    def __init__(self, xp, points, extent: Shape):
        height, width = extent
        x, y = (points[0] + 1) * (width - 1) / 2, (points[1] + 1) * (height - 1) / 2
        left, top = xp.floor(x), xp.floor(y)
        self.near_x, self.near_y = 1 - (x - left), 1 - (y - top)
        columns, lines = xp.stack([left, left + 1] * 2), xp.stack([top, top, top + 1, top + 1])
        self.inside = (columns >= 0) & (columns < width) & (lines >= 0) & (lines < height)
        columns, lines = (xp.clip(a, 0, n - 1).astype("int64") for a, n in ((columns, width), (lines, height)))
        self.index = lines * width + columns

    def weights(self, xp):
        """How much of each pixel a point takes (4, n)."""
        lines, columns = (self.near_y, 1 - self.near_y), (self.near_x, 1 - self.near_x)
        return xp.stack([line * column for line in lines for column in columns]) * self.inside

    def values(self, pixels):
        """The four pixels of each channel: (4, C, n) from pixels (C, H W), 0 outside."""
        return pixels[:, self.index].swapaxes(0, 1) * self.inside[:, None]


def _pixels(array):
    """(…, H, W) as (…, H W)."""
    return array.reshape(*array.shape[:-2], -1)


def _sample(xp, data, points, out) -> None:
    """out (N, C, h, w) = data (N, C, H, W) at points (N, 2, h w)."""
    for image_, at, result in zip(data, points, out, strict=True):
        neighbours = Neighbours(xp, at, data.shape[2:])
        values = neighbours.values(_pixels(image_))
        xp.copyto(result, (values * neighbours.weights(xp)[:, None]).sum(axis=0).reshape(result.shape))


def _sample_backward(xp, g, data, points, d_data, d_points) -> None:
    """The gradients of `_sample` for those destinations that are wanted, d_points (N, 2, h w)."""
    for n, at in enumerate(points):
        neighbours, heads = Neighbours(xp, at, data.shape[2:]), _pixels(g[n])
        if d_data is not None:
            shares = heads * neighbours.weights(xp)[:, None]  # (4, C, n)
            rows = shares.swapaxes(1, 2).reshape(-1, len(heads))
            sums = xp.empty((d_data[n][0].size, len(heads)), d_data.dtype)
            add_rows(xp, rows, neighbours.index.reshape(-1), sums)
            xp.copyto(d_data[n], sums.T.reshape(d_data.shape[1:]))
        if d_points is not None:
            _slopes(xp, heads, data[n], neighbours, d_points[n])


def _slopes(xp, g, pixels, neighbours: Neighbours, d_points) -> None:
    """d_points (2, n) for one image, by how the value changes when a point moves."""
    a, b, c, d = (neighbours.values(_pixels(pixels)) * g).sum(axis=1)  # each (n,), summed over the channels
    height, width = pixels.shape[1:]
    twist = a - b - c + d
    d_points[0] = (d - c - twist * neighbours.near_y) * ((width - 1) / 2)
    d_points[1] = (d - b - twist * neighbours.near_x) * ((height - 1) / 2)


def _regular(xp, extent: Shape, out) -> None:
    """out (3, H W) = x, y and 1 of the middles of all pixels, line by line."""
    height, width = extent
    x, y = (-1 + xp.arange(n) * (2 / max(n - 1, 1)) for n in (width, height))
    grid = out.reshape(3, height, width)
    grid[0], grid[1], grid[2] = x, y[:, None], 1


@operator("GridGenerator")
class GridGenerator(Op):
    """out (N, 2, H, W) = points at which an image is to be read, one for each pixel of the result.

    `affine`: data (N, 6) is a matrix (2, 3) that maps (x, y, 1) of each pixel, `target_shape` is (H, W).
    `warp`: data (N, 2, H, W) is how far each pixel moves, in pixels. The hidden output `grid_dst` holds what is mapped.
    """

    kinds = "f"
    transform_type: str = param(doc="what data is", choices=("affine", "warp"))
    target_shape: Shape = param((0, 0), doc="H and W, for affine")

    def setup(self):
        self.affine = self.transform_type == "affine"
        if self.affine and (len(self.target_shape) != 2 or min(self.target_shape) < 1):
            raise ParameterError("GridGenerator: affine needs the height and width of out as target_shape, "
                                 f"got {self.target_shape}.")

    def outputs(self):
        return ("out", "grid_dst")

    def visible_outputs(self):
        return 1

    def infer_shape(self, data=None, out=None):
        if self.affine:
            n = (agreed((0, 6), data) or (0,))[0]
            height, width = self.target_shape
            return {"data": (n, 6), "out": (n, 2, height, width), "grid_dst": (3, height * width)}
        data = agreed(image(data), image(out))
        if data is not None and data[1] not in (0, 2):
            raise ValueError("data must hold 2 numbers for each pixel, (N, 2, H, W)")
        return {} if data is None else {"data": data, "out": data, "grid_dst": (2, *data[2:])}

    def forward(self, xp, data, *, out, grid_dst=None):
        if not self.affine:
            grid_dst = xp.empty(out.shape[1:], out.dtype) if grid_dst is None else grid_dst
            grid_dst[0], grid_dst[1] = xp.arange(out.shape[3]), xp.arange(out.shape[2])[:, None]
            xp.add(data, grid_dst, out=out)
            xp.divide(out, self._halves(xp, out), out=out)
            xp.subtract(out, 1, out=out)
            return
        grid_dst = xp.empty((3, out[0, 0].size), out.dtype) if grid_dst is None else grid_dst
        _regular(xp, self.target_shape, grid_dst)
        xp.matmul(data.reshape(-1, 3), grid_dst, out=reshaped(out, (2 * len(out), grid_dst.shape[1])))

    def backward_needs(self):
        return ("grid_dst",) if self.affine else ()

    def backward(self, xp, g, grid_dst=None, *, d_data=None):
        if grid_dst is None:
            xp.divide(g, self._halves(xp, g), out=d_data)
        else:
            xp.matmul(g.reshape(-1, grid_dst.shape[1]), grid_dst.T, out=reshaped(d_data, (2 * len(d_data), 3)))

    def _halves(self, xp, out):
        """Half the width and height, between the middles of the outer pixels: (2, 1, 1)."""
        return xp.array([out.shape[3] - 1, out.shape[2] - 1], out.dtype)[:, None, None] / 2


@operator("BilinearSampler")
class BilinearSampler(Op):
    """out (N, C, h, w) = data (N, C, H, W) read at the points grid (N, 2, h, w), between pixels by their distance, 0
    outside of the image."""

    kinds = "f"
    cudnn_off: bool | None = param(None, doc="accepted and without effect")

    def inputs(self):
        return ("data", "grid")

    def infer_shape(self, data=None, grid=None):
        data = image(data) or (0,) * 4
        grid = agreed((data[0], 2, 0, 0), image(grid, "grid"))
        return {"grid": grid, "out": (*data[:2], *grid[2:])}

    def forward(self, xp, data, grid, *, out):
        _sample(xp, data, _pixels(grid), out)

    def backward(self, xp, g, data, grid, *, d_data=None, d_grid=None):
        d_points = None if d_grid is None else reshaped(d_grid, _pixels(grid).shape)
        _sample_backward(xp, g, data, _pixels(grid), d_data, d_points)


@operator("SpatialTransformer")
class SpatialTransformer(Op):
    """out (N, C, h, w) = data (N, C, H, W), read where the matrix loc (N, 6) maps the points of out (Jaderberg et al.
    2015). `target_shape` is (h, w), data's if it holds zeros.

    Hidden outputs: `grid_dst` (3, h w), the points of out, and `grid_src` (N, 2, h w), where they are read.
    """

    kinds = "f"
    target_shape: Shape = param((0, 0), doc="height and width of out; 0 = data's")
    transform_type: str = param(doc="what loc is", choices=("affine",))
    sampler_type: str = param(doc="how pixels are read", choices=("bilinear",))
    cudnn_off: bool | None = param(None, doc="accepted and without effect")

    def inputs(self):
        return ("data", "loc")

    def outputs(self):
        return ("out", "grid_dst", "grid_src")

    def visible_outputs(self):
        return 1

    def infer_shape(self, data):
        n, c, *extent = image(data) or ()
        height, width = (t or e for t, e in zip(self.target_shape, extent, strict=True))
        points = height * width
        return {"loc": (n, 6), "out": (n, c, height, width), "grid_dst": (3, points), "grid_src": (n, 2, points)}

    def forward(self, xp, data, loc, *, out, grid_dst=None, grid_src=None):
        points = out[0, 0].size
        grid_dst = xp.empty((3, points), out.dtype) if grid_dst is None else grid_dst
        grid_src = xp.empty((len(out), 2, points), out.dtype) if grid_src is None else grid_src
        _regular(xp, out.shape[2:], grid_dst)
        xp.matmul(loc.reshape(-1, 2, 3), grid_dst, out=grid_src)
        _sample(xp, data, grid_src, out)

    def backward(self, xp, g, data, grid_dst, grid_src, *, d_data=None, d_loc=None):
        d_points = None if d_loc is None else xp.empty_like(grid_src)
        _sample_backward(xp, g, data, grid_src, d_data, d_points)
        if d_loc is not None:
            xp.matmul(d_points, grid_dst.T, out=reshaped(d_loc, (len(d_loc), 2, 3)))


# ---- resizing: out = A · data · Bᵀ, for each image and matrices of the two extents ----


class Resample(Op):
    """An operator on images (N, C, H, W) whose lines and columns are mixed by a matrix each."""

    kinds = "f"

    def target(self, extent: Shape, like: Shape) -> Shape:
        """Height and width of out, for data's and the second input's extents."""
        raise NotImplementedError

    def mixing(self, n_in: int, n_out: int):
        """How much (n_out, n_in) of each element in goes into each element out, a NumPy array."""
        raise NotImplementedError

    def infer_shape(self, data=None, like=None):
        if image(data) is None or ("like" in self.inputs() and image(like, "like") is None):
            return {}
        return {"out": (*data[:2], *self.target(data[2:], (like or data)[2:]))}

    def _matrices(self, xp, data: Shape, out: Shape, dtype):
        """One for the lines and one for the columns."""
        return (xp.asarray(self.mixing(n, m).astype(dtype)) for n, m in zip(data[2:], out[2:], strict=True))

    def forward(self, xp, data, like=None, *, out):
        lines, columns = self._matrices(xp, data.shape, out.shape, out.dtype)
        xp.matmul(lines, xp.matmul(data, columns.T), out=out)

    def backward(self, xp, g, *, d_data=None):
        lines, columns = self._matrices(xp, d_data.shape, g.shape, g.dtype)
        xp.matmul(lines.T, xp.matmul(g, columns), out=d_data)


@operator("_contrib_AdaptiveAvgPooling2D")
class AdaptiveAvgPooling2D(Resample):
    """out (N, C, h, w) = means of data (N, C, H, W) over h times w regions that cover it evenly.

    `output_size` is h and w, or one number for both; 1 if left out.
    """

    output_size: Shape = param((), doc="height and width of out")

    def setup(self):
        if len(self.output_size) > 2 or any(n < 1 for n in self.output_size):
            raise ParameterError("_contrib_AdaptiveAvgPooling2D: output_size must hold one or two numbers of at least "
                                 f"1, got {self.output_size}.")

    def target(self, extent: Shape, like: Shape) -> Shape:
        size = self.output_size or (1,)
        return size[0], size[-1]

    def mixing(self, n_in: int, n_out: int):
        i, j = np.arange(n_out)[:, None], np.arange(n_in)
        start, stop = i * n_in // n_out, -(-(i + 1) * n_in // n_out)
        return ((j >= start) & (j < stop)) / (stop - start)


_HEIGHTS = {
    "to_even_down": lambda n: n - n % 2, "to_even_up": lambda n: n + n % 2,
    "to_odd_down": lambda n: n - 1 + n % 2, "to_odd_up": lambda n: n + 1 - n % 2,
}  # fmt: skip


@operator("_contrib_BilinearResize2D")
class BilinearResize2D(Resample):
    """out (N, C, h, w) = data (N, C, H, W), resized with bilinear interpolation.

    `mode` tells h and w: size: `height` and `width`, or data's times `scale_height` and `scale_width` where these are
    given; odd_scale: times the scales, but (H - 1) scale + 1 where H is odd; like: those of the second input;
    to_even_down, to_even_up, to_odd_down, to_odd_up: the nearest even or odd numbers.
    With `align_corners` the middles of the outer pixels stay the outer ones, else the images' edges.
    """

    height: int = param(1, doc="height of out, for mode size", low=1)
    width: int = param(1, doc="width of out, for mode size", low=1)
    scale_height: float | None = param(None, doc="factor of the height, for modes size and odd_scale")
    scale_width: float | None = param(None, doc="factor of the width, for modes size and odd_scale")
    mode: str = param("size", doc="what decides the size", choices=("size", "odd_scale", "like", *_HEIGHTS))
    align_corners: bool = param(True, doc="keep the outer pixels' middles")

    def inputs(self):
        return ("data", "like") if self.mode == "like" else ("data",)

    def target(self, extent: Shape, like: Shape) -> Shape:
        if self.mode == "like":
            return like
        if self.mode in _HEIGHTS:
            height, width = (_HEIGHTS[self.mode](n) for n in extent)
            return height, width
        height, width = extent
        return (self._scaled(height, self.scale_height, self.height),
                self._scaled(width, self.scale_width, self.width))  # fmt: skip

    def _scaled(self, n: int, scale: float | None, size: int) -> int:
        if self.mode == "odd_scale":
            scale = 1.0 if scale is None else scale
            return int(n * scale) if n % 2 == 0 else int((n - 1) * scale) + 1
        return size if scale is None else int(n * scale)

    def mixing(self, n_in: int, n_out: int):
        i = np.arange(n_out)
        if self.align_corners:
            at = i * ((n_in - 1) / max(n_out - 1, 1))
        elif n_out == 1:
            at = i * 0.0
        else:
            at = np.maximum((i + 0.5) * (n_in / n_out) - 0.5, 0)
        near = at.astype(int)
        matrix = np.zeros((n_out, n_in))
        np.add.at(matrix, (i, near), 1 - (at - near))
        np.add.at(matrix, (i, np.minimum(near + 1, n_in - 1)), at - near)
        return matrix
