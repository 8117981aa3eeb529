"""The same elements under another shape, in another order, or repeated."""

from __future__ import annotations

import math

import numpy as np

from raymx.errors import ParameterError
from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param
from raymx.ops.shapes import flat2d, positive_axes, positive_axis, size, sum_to

# ---- another shape for the same elements ----


class Refill(Op):
    """out = the elements of data in their order, under another shape."""

    view = True
    inplace = (("data", "out"),)
    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        xp.copyto(out, data.reshape(out.shape))

    def backward(self, xp, g, *, d_data=None):
        xp.copyto(d_data, g.reshape(d_data.shape))


@operator("Reshape", "reshape")
class Reshape(Refill):
    """out has the shape that `shape` describes, where a number may be a code:

    0 keeps the dimension at this place, -1 is inferred, -2 keeps all that follow, -3 joins the next two, -4 splits the
    next into the two numbers that follow (one may be -1). `reverse` matches from the right. `target_shape` is the form
    of 2015: one 0 is inferred; `keep_highest` keeps the first dimension.
    """

    shape: Shape = param((), doc="the new shape, with codes")
    reverse: bool = param(False, doc="match the codes from the right")
    target_shape: Shape = param((), doc="the new shape in the form of 2015")
    keep_highest: bool = param(False, doc="keep the first dimension, for target_shape")

    def setup(self):
        if not self.shape and not self.target_shape:
            raise ParameterError("Reshape: parameter 'shape' (a tuple of integers) is missing.")

    def infer_shape(self, data=None):
        if data is None:
            return {}
        if not self.shape:
            shape = self._in_2015(data)
        elif self.reverse:
            shape = apply_codes(data[::-1], self.shape[::-1])[::-1]
        else:
            shape = apply_codes(data, self.shape)
        if 0 not in data and size(shape) != size(data):
            raise ValueError(f"{size(data)} elements do not fill shape {shape}")
        return {"out": shape}

    def _in_2015(self, data: Shape) -> Shape:
        wanted = data[:1] + self.target_shape[1:] if self.keep_highest else self.target_shape
        return apply_codes(data, tuple(n or -1 for n in wanted))


def apply_codes(shape: Shape, codes: Shape) -> Shape:
    """The shape that Reshape's `codes` make of `shape`; unknown dimensions stay 0. Raises ValueError."""
    try:
        return _fill_in(_decode(shape, codes), size(shape))
    except IndexError:
        raise ValueError(f"the codes {codes} ask for more dimensions than there are") from None


def _decode(shape: Shape, codes: Shape) -> list[int]:
    """The shape with at most one -1 for what is to be inferred."""
    result: list[int] = []
    position, rest = 0, list(codes)
    while rest:
        code = rest.pop(0)
        if code == -2:
            result += shape[position:]
            position = len(shape)
        elif code == -3:
            result.append(shape[position] * shape[position + 1])
            position += 2
        elif code == -4:
            result += _split(shape[position], rest.pop(0), rest.pop(0))
            position += 1
        elif code >= -1:
            result.append(code or shape[position])
            position += 1
        else:
            raise ValueError(f"shape holds {code}; the codes are 0, -1, -2, -3 and -4")
    return result


def _split(whole: int, first: int, second: int) -> tuple[int, int]:
    if first == -1:
        first = whole // second
    if second == -1:
        second = whole // first
    if first * second != whole:
        raise ValueError(f"a dimension of {whole} cannot be split into {first} and {second}")
    return first, second


def _fill_in(shape: list[int], total: int) -> Shape:
    """Replace the one -1 of `shape` by what gives `total` elements; total 0 = unknown."""
    if shape.count(-1) > 1:
        raise ValueError("only one dimension can be inferred")
    known = math.prod(n for n in shape if n > 0)
    if -1 in shape and total % known:
        raise ValueError(f"{total} elements do not fill shape {tuple(shape)}")
    return tuple(total // known if n == -1 else n for n in shape)


@operator("Flatten", "flatten")
class Flatten(Refill):
    """out (N, D) = data (N, …)."""

    def infer_shape(self, data=None):
        return {"out": data and flat2d(data)}


@operator("expand_dims")
class ExpandDims(Refill):
    """out = data with an axis of size 1 put in at `axis`."""

    axis: int = param(doc="where the new axis stands in the result")

    def infer_shape(self, data=None):
        if data is None:
            return {}
        axis = positive_axis(self.axis, len(data) + 1)
        return {"out": (*data[:axis], 1, *data[axis:])}


# ---- order of axes and elements ----


@operator("transpose")
class Transpose(Op):
    """out has data's axes in the order `axes`; reversed without it."""

    axes: Shape = param((), doc="data's axes in their new order")

    def infer_shape(self, data):
        axes = self.axes or tuple(range(len(data)))[::-1]
        if positive_axes(axes, len(data)) != tuple(range(len(data))):
            raise ValueError(f"axes {axes} must name each of {len(data)} axes once")
        return {"out": tuple(data[a] for a in axes)}

    def forward(self, xp, data, *, out):
        xp.copyto(out, data.transpose(self.axes or None))

    def backward(self, xp, g, *, d_data=None):
        back = tuple(np.argsort([a % g.ndim for a in self.axes])) if self.axes else None
        xp.copyto(d_data, g.transpose(back))


@operator("SwapAxis", "swapaxes", "SwapAxes")
class SwapAxis(Op):
    """out = data with the axes `dim1` and `dim2` exchanged."""

    dim1: int = param(0, doc="an axis")
    dim2: int = param(0, doc="the other axis")

    def infer_shape(self, data):
        i, j = positive_axis(self.dim1, len(data)), positive_axis(self.dim2, len(data))
        order = list(range(len(data)))
        order[i], order[j] = j, i
        return {"out": tuple(data[a] for a in order)}

    def forward(self, xp, data, *, out):
        xp.copyto(out, data.swapaxes(self.dim1, self.dim2))

    def backward(self, xp, g, *, d_data=None):
        xp.copyto(d_data, g.swapaxes(self.dim1, self.dim2))


@operator("flip", "reverse")
class Flip(Op):
    """out = data with the order of elements turned round along `axis` (one or several)."""

    axis: Shape = param(doc="axes to turn round")

    def infer_shape(self, data):
        positive_axes(self.axis, len(data))
        return {"out": data}

    def forward(self, xp, data, *, out):
        xp.copyto(out, xp.flip(data, self.axis))

    def backward(self, xp, g, *, d_data=None):
        xp.copyto(d_data, xp.flip(g, self.axis))


# ---- stretch ----


class Stretch(Op):
    """out = data repeated along axes of size 1."""

    def forward(self, xp, data, *, out):
        xp.copyto(out, data)

    def backward(self, xp, g, *, d_data=None):
        sum_to(xp, g, d_data)


@operator("broadcast_to")
class BroadcastTo(Stretch):
    """out (`shape`) = data stretched along its axes of size 1; a 0 in `shape` keeps data's dimension."""

    shape: Shape = param(doc="the new shape")

    def infer_shape(self, data):
        if len(data) != len(self.shape):
            raise ValueError(f"shape {self.shape} must have data's {len(data)} axes")
        if any(have not in (1, want or have) for have, want in zip(data, self.shape, strict=True)):
            raise ValueError(f"only axes of size 1 stretch; shape {self.shape} does not fit")
        return {"out": tuple(want or have for have, want in zip(data, self.shape, strict=True))}


@operator("broadcast_axis", "broadcast_axes")
class BroadcastAxis(Stretch):
    """out = data with each of `axis`, of size 1, stretched to its number in `size`."""

    axis: Shape = param(doc="axes to stretch")
    size: Shape = param(doc="their new sizes")

    def setup(self):
        if len(self.axis) != len(self.size):
            raise ParameterError(f"broadcast_axis: axis {self.axis} and size {self.size} must be equally long.")

    def infer_shape(self, data):
        shape = list(data)
        for axis, length in zip(self.axis, self.size, strict=True):
            if data[positive_axis(axis, len(data))] != 1:
                raise ValueError(f"only axes of size 1 stretch, axis {axis} has {data[axis]}")
            shape[axis] = length
        return {"out": tuple(shape)}
