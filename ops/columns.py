"""Windows of an image as the columns of a matrix, and back."""

from __future__ import annotations

import math

from raymx.ops.op import operator
from raymx.ops.params import Shape, param
from raymx.ops.windows import Sliding, Windows, per_axis


class Columns(Sliding):
    """Between an image (N, C, *X) and its windows, each one column of (N, C * prod(kernel), W)."""

    heavy = False
    kinds = "fiu"

    stride: Shape = param((), doc="distance of windows; () = 1 everywhere")
    dilate: Shape = param((), doc="distance of a window's elements; () = 1 everywhere")
    pad: Shape = param((), doc="zeros before and behind each axis; () = none")

    def setup(self):
        n = len(self.kernel)
        self.stride, self.dilate = per_axis(self.stride, 1, n), per_axis(self.dilate, 1, n)
        self.pad = per_axis(self.pad, 0, n)
        self.check_windows("stride", "dilate", "pad")
        self.windows = Windows(self.kernel, self.stride, self.dilate, self.pad)

    def counts(self, sizes: Shape) -> Shape:
        """Windows along each axis; raises ValueError if one does not fit."""
        rows = list(zip(sizes, self.windows.extent, self.pad, self.stride, strict=True))
        if any(x + 2 * p < e for x, e, p, _ in rows):
            raise ValueError(f"a window of {self.windows.extent} does not fit into {sizes} with pad {self.pad}")
        return tuple((x + 2 * p - e) // s + 1 for x, e, p, s in rows)

    def pairs(self, image, columns):
        """For each place in a window: the elements of the image that stand there, and where they stand in columns."""
        sizes = image.shape[2:]
        counts = self.counts(sizes)
        cells = columns.reshape(*image.shape[:2], *self.kernel, *counts)
        for offset in self.windows.offsets():
            there, here = self.windows.meet(offset, sizes, counts)
            yield image[there], cells[(slice(None), slice(None), *offset)][here]

    def spread(self, xp, image, columns) -> None:
        columns.fill(0)
        for seen, place in self.pairs(image, columns):
            xp.copyto(place, seen)

    def gather(self, xp, columns, image) -> None:
        image.fill(0)
        for seen, place in self.pairs(image, columns):
            xp.add(seen, place, out=seen)


@operator("im2col")
class Im2Col(Columns):
    """out (N, C * prod(kernel), W) = the W windows of data (N, C, *X) as columns; `pad` stands for zeros around it."""

    leading = ("kernel",)

    kernel: Shape = param(doc="size of a window, one number an axis")

    def infer_shape(self, data):
        if len(data) != len(self.kernel) + 2:
            raise ValueError(f"data must have the axes (N, C) and {len(self.kernel)} more, as kernel is {self.kernel}")
        return {"out": (data[0], data[1] * math.prod(self.kernel), math.prod(self.counts(data[2:])))}

    def forward(self, xp, data, *, out):
        self.spread(xp, data, out)

    def backward(self, xp, g, *, d_data=None):
        self.gather(xp, g, d_data)


@operator("col2im")
class Col2Im(Columns):
    """out (N, C, *`output_size`) = the columns of data (N, C * prod(kernel), W) laid where they stand as windows; what
    falls together is added.
    """

    leading = ("output_size", "kernel")

    output_size: Shape = param(doc="sizes of the image, *X")
    kernel: Shape = param(doc="size of a window, one number an axis")

    def infer_shape(self, data):
        if len(self.output_size) != len(self.kernel):
            raise ValueError(f"output_size must have {len(self.kernel)} numbers, as kernel is {self.kernel}")
        rows, windows = math.prod(self.kernel), math.prod(self.counts(self.output_size))
        if len(data) != 3 or data[1] % rows or data[2] != windows:
            raise ValueError(f"data must be (N, C * {rows}, {windows})")
        return {"out": (data[0], data[1] // rows, *self.output_size)}

    def forward(self, xp, data, *, out):
        self.gather(xp, data, out)

    def backward(self, xp, g, *, d_data=None):
        self.spread(xp, g, d_data)
