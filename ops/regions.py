"""Regions of images."""

from __future__ import annotations

import numpy as np

from raymx.errors import ParameterError
from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param
from raymx.ops.spatial import image


@operator("ROIPooling")
class ROIPooling(Op):
    """out (R, C, h, w) = the largest element of data (N, C, H, W) in each of h times w parts of each region.

    rois (R, 5) holds regions as (number of the image, x1, y1, x2, y2), corners included; `spatial_scale` takes the
    corners to data's pixels, where they are rounded. A part without pixels gives 0. The hidden output `maxidx` says
    where in data, taken as one row, the elements stand, -1 for none. No gradient for rois.
    """

    kinds = "f"
    pooled_size: Shape = param(doc="h and w")
    spatial_scale: float = param(doc="pixels of data for one of the rois' units", low=0, high=1)

    def setup(self):
        if len(self.pooled_size) != 2 or min(self.pooled_size) < 1:
            raise ParameterError(f"ROIPooling: pooled_size must be height and width, got {self.pooled_size}.")

    def inputs(self):
        return ("data", "rois")

    def outputs(self):
        return ("out", "maxidx")

    def visible_outputs(self):
        return 1

    def infer_shape(self, data, rois):
        image(data)
        if len(rois) != 2 or rois[1] != 5:
            raise ValueError("rois must be a matrix with rows (image, x1, y1, x2, y2)")
        shape = (rois[0], data[1], *self.pooled_size)
        return {"out": shape, "maxidx": shape}

    def infer_type(self, known):
        dtype = known["data"] or known["rois"] or known["out"]
        return {**dict.fromkeys(("data", "rois", "out"), dtype), "maxidx": np.dtype("int32")}

    def forward(self, xp, data, rois, *, out, maxidx=None):
        n, c, height, width = data.shape
        channels = xp.arange(c)
        for r, (number, lines, columns) in enumerate(self._regions(rois, (height, width))):
            start = (number * c + channels) * (height * width)
            for i, (top, bottom) in enumerate(lines):
                for j, (left, right) in enumerate(columns):
                    place = (r, slice(None), i, j)
                    if not 0 <= number < n or bottom <= top or right <= left:
                        _put(out, maxidx, place, 0, -1)
                        continue
                    part = data[number, :, top:bottom, left:right].reshape(c, -1)
                    best = part.argmax(axis=1)
                    line, column = top + best // (right - left), left + best % (right - left)
                    _put(out, maxidx, place, part[channels, best], start + line * width + column)

    def _regions(self, rois, extent: Shape):
        """The image's number and the parts' bounds in lines and columns, for each region."""
        corners = rois[:, 1:] * rois.dtype.type(self.spatial_scale)
        numbers = rois[:, 0].astype("int64").tolist()
        for number, (x1, y1, x2, y2) in zip(numbers, corners.tolist(), strict=True):
            dtype = np.dtype(rois.dtype.name).type
            lines, columns = (
                [_part(k, _round(first), _round(last), parts, end, dtype) for k in range(parts)]
                for first, last, parts, end in zip((y1, x1), (y2, x2), self.pooled_size, extent, strict=True)
            )
            yield number, lines, columns

    def backward(self, xp, g, maxidx, *, d_data=None):
        d_data.fill(0)
        found = maxidx >= 0
        xp.add.at(d_data.reshape(-1), maxidx[found], g[found])


def _put(out, maxidx, place, value, index) -> None:
    out[place] = value
    if maxidx is not None:
        maxidx[place] = index


def _round(x: float) -> int:
    """The nearest whole number, halves away from zero."""
    return int(abs(x) + 0.5) * (1 if x >= 0 else -1)


def _part(k: int, first: int, last: int, parts: int, end: int, dtype) -> tuple[int, int]:
    """The bounds of part k of [first, last], within [0, end); reckoned in data's type, as MXNet does."""
    size = dtype(max(last - first + 1, 1)) / dtype(parts)
    start, stop = (int(step(dtype(n) * size)) + first for step, n in ((np.floor, k), (np.ceil, k + 1)))
    return min(max(start, 0), end), min(max(stop, 0), end)
