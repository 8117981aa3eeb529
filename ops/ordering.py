"""Elements in order. Equal elements keep the order in which they stand."""

from __future__ import annotations

import numpy as np

from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param
from raymx.ops.shapes import positive_axis, size

INDEX_TYPES = tuple(map(np.dtype, ("uint8", "int32", "int64", "float16", "float32", "float64")))


class Ordered(Op):
    """Something with data's elements in order along `axis`; without it, data counts as flat."""

    axis: int | None
    is_ascend: bool

    def line_shape(self, data: Shape, length: int | None = None) -> Shape:
        """data's shape, flat without an axis, with `length` elements along the axis."""
        if self.axis is None:
            return (size(data) if length is None else length,)
        axis = positive_axis(self.axis, len(data))
        return (*data[:axis], data[axis] if length is None else length, *data[axis + 1 :])

    def lines(self, array):
        """`array`, flat without an axis, and the axis along which its lines lie."""
        return (array.reshape(-1), 0) if self.axis is None else (array, self.axis)

    def order(self, xp, data):
        """For each place along the axis the position of the element that belongs there."""
        lines, axis = self.lines(data)
        if self.is_ascend:
            return xp.argsort(lines, axis=axis, kind="stable")
        turned = xp.argsort(xp.flip(lines, axis), axis=axis, kind="stable")
        return lines.shape[axis] - 1 - xp.flip(turned, axis)


@operator("sort")
class Sort(Ordered):
    """out = data's elements in order along `axis`, the smallest first, or the largest without `is_ascend`."""

    axis: int | None = param(-1, doc="axis along which to order; None = the flattened array")
    is_ascend: bool = param(True, doc="the smallest first")

    def output_labels(self):
        return ("output0",)  # MXNet's operator has a second, hidden output

    def infer_shape(self, data):
        return {"out": self.line_shape(data)}

    def forward(self, xp, data, *, out):
        lines, axis = self.lines(data)
        xp.copyto(out, lines)
        out.sort(axis=axis)
        if not self.is_ascend:
            xp.copyto(out, xp.flip(out, axis).copy())

    def backward(self, xp, g, data, *, d_data=None):
        lines, axis = self.lines(d_data)
        xp.put_along_axis(lines, self.order(xp, data), g, axis)


@operator("argsort")
class ArgSort(Ordered):
    """out = the positions of data's elements in their order along `axis`, as numbers of `dtype`. No gradient."""

    axis: int | None = param(-1, doc="axis along which to order; None = the flattened array")
    is_ascend: bool = param(True, doc="the smallest first")
    dtype: np.dtype = param(np.dtype("float32"), doc="element type of the positions", choices=INDEX_TYPES)

    def infer_shape(self, data):
        return {"out": self.line_shape(data)}

    def infer_type(self, known):
        return {"out": self.dtype}

    def forward(self, xp, data, *, out):
        xp.copyto(out, self.order(xp, data), casting="unsafe")


@operator("topk")
class TopK(Ordered):
    """The `k` largest elements along `axis`, the largest first, or the smallest with `is_ascend`; all if k is 0.

    `ret_typ`: their values, their positions as numbers of `dtype` (indices), both as output0 and output1, or 1 at their
    places and 0 elsewhere (mask). Only values have a gradient.
    """

    axis: int | None = param(-1, doc="axis along which to choose; None = the flattened array")
    k: int = param(1, doc="how many; below 1 = all")
    ret_typ: str = param("indices", doc="what is wanted", choices=("value", "indices", "mask", "both"))
    is_ascend: bool = param(False, doc="the smallest instead of the largest")
    dtype: np.dtype = param(np.dtype("float32"), doc="element type of the positions", choices=INDEX_TYPES)

    def outputs(self):
        return ("output0", "output1") if self.ret_typ == "both" else ("out",)

    def output_labels(self):  # for values, MXNet's operator has a second, hidden output
        return ("output0",) if self.ret_typ == "value" else super().output_labels()

    def infer_shape(self, data):
        length = self.line_shape(data)[0 if self.axis is None else self.axis]
        if self.k > length:
            raise ValueError(f"k={self.k} elements are more than the {length} along the axis")
        found = data if self.ret_typ == "mask" else self.line_shape(data, self.k if self.k > 0 else length)
        return dict.fromkeys(self.outputs(), found)

    def infer_type(self, known):
        if self.ret_typ == "indices":
            return {"out": self.dtype}
        values = known["data"] or known[self.outputs()[0]]
        found = {"data": values, self.outputs()[0]: values}
        return {**found, "output1": self.dtype} if self.ret_typ == "both" else found

    def has_gradient(self, input_name):
        return self.ret_typ in ("value", "both")

    def needs_head_gradient(self):
        return self.has_gradient("data")

    def chosen(self, xp, data):
        """The positions of the elements that are wanted."""
        order = self.order(xp, data)
        _, axis = self.lines(data)
        index = [slice(None)] * order.ndim
        index[axis] = slice(self.k if self.k > 0 else None)
        return order[tuple(index)]

    def forward(self, xp, data, *, out=None, output0=None, output1=None):
        where, (lines, axis) = self.chosen(xp, data), self.lines(data)
        values = out if self.ret_typ == "value" else output0
        positions = out if self.ret_typ == "indices" else output1
        if self.ret_typ == "mask":
            out.fill(0)
            marked = xp.zeros(lines.shape, bool)
            xp.put_along_axis(marked, where, True, axis)
            xp.copyto(out, marked.reshape(out.shape))
        if values is not None:
            xp.copyto(values, xp.take_along_axis(lines, where, axis))
        if positions is not None:
            xp.copyto(positions, where, casting="unsafe")

    def backward(self, xp, gs, data, *, d_data=None):
        d_data.fill(0)
        lines, axis = self.lines(d_data)
        xp.put_along_axis(lines, self.chosen(xp, data), gs[0], axis)
