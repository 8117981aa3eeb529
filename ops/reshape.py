"""The same elements under another shape, in another order, or repeated."""

from __future__ import annotations

import math

import numpy as np

from raymx.errors import ParameterError
from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param
from raymx.ops.shapes import flat2d, positive_axes, positive_axis, reshaped, size, sum_to

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


@operator("squeeze")
class Squeeze(Refill):
    """out = data without `axis` (one or several), which must be of size 1; without it, without all such axes."""

    axis: Shape | None = param(None, doc="axes to drop; None = all of size 1")

    def infer_shape(self, data):
        dropped = tuple(a for a, n in enumerate(data) if n == 1) if self.axis is None else self.axis
        dropped = positive_axes(dropped, len(data))
        if any(data[a] != 1 for a in dropped):
            raise ValueError(f"only axes of size 1 can be dropped, not {self.axis}")
        return {"out": tuple(n for a, n in enumerate(data) if a not in dropped) or (1,)}


@operator("reshape_like")
class ReshapeLike(Refill):
    """out = lhs in the shape of rhs, or with only its axes [`lhs_begin`, `lhs_end`) replaced by rhs's
    [`rhs_begin`, `rhs_end`). No gradient for rhs.
    """

    inplace = (("lhs", "out"),)
    inplace_backward = (("g", "d_lhs"),)
    one_type = ("lhs", "out")

    lhs_begin: int | None = param(None, doc="first axis of lhs that is replaced; None = 0")
    lhs_end: int | None = param(None, doc="axis after the last; None = all that follow")
    rhs_begin: int | None = param(None, doc="first axis of rhs that is used; None = 0")
    rhs_end: int | None = param(None, doc="axis after the last; None = all that follow")

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, lhs, rhs):
        replaced = range(len(lhs))[self.lhs_begin : self.lhs_end]
        shape = lhs[: replaced.start] + rhs[self.rhs_begin : self.rhs_end] + lhs[replaced.stop :]
        if size(shape) != size(lhs):
            raise ValueError(f"{size(lhs)} elements do not fill shape {shape}")
        return {"out": shape}

    def forward(self, xp, lhs, rhs, *, out):
        xp.copyto(out, lhs.reshape(out.shape))

    def backward(self, xp, g, *, d_lhs=None):
        xp.copyto(d_lhs, g.reshape(d_lhs.shape))


class Numbers(Op):
    """What is known of data's shape, as int64. No gradient."""

    def infer_type(self, known):
        return {"out": np.dtype("int64")}


@operator("shape_array")
class ShapeArray(Numbers):
    """out (D,) = the dimensions of data, which has D axes."""

    def infer_shape(self, data):
        return {"out": (len(data),)}

    def forward(self, xp, data, *, out):
        for axis, n in enumerate(data.shape):
            out[axis] = n


@operator("size_array")
class SizeArray(Numbers):
    """out (1,) = the number of elements of data."""

    def infer_shape(self, data):
        return {"out": (1,)}

    def forward(self, xp, data, *, out):
        out.fill(data.size)


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


class Blocks(Op):
    """Blocks of elements of an image move between the channel axis and the two axes of space, and back.

    `split` is data's shape with the axes of a block apart, `order` their order in the result.
    """

    order: Shape

    block_size: int = param(doc="length of the side of a block", low=1)

    def split(self, data: Shape) -> Shape:
        raise NotImplementedError

    def forward(self, xp, data, *, out):
        moved = data.reshape(self.split(data.shape)).transpose(self.order)
        xp.copyto(reshaped(out, moved.shape), moved)

    def backward(self, xp, g, *, d_data=None):
        whole = d_data.reshape(self.split(d_data.shape)).transpose(self.order)
        xp.copyto(whole, g.reshape(whole.shape))


@operator("depth_to_space")
class DepthToSpace(Blocks):
    """out (N, C / B**2, H * B, W * B) = data (N, C, H, W), B**2 channels becoming a block. B is `block_size`."""

    order = (0, 3, 4, 1, 5, 2)

    def infer_shape(self, data):
        n, c, h, w = _image(data)
        if c % self.block_size**2:
            raise ValueError(f"{c} channels cannot be cut into blocks of {self.block_size} x {self.block_size}")
        return {"out": (n, c // self.block_size**2, h * self.block_size, w * self.block_size)}

    def split(self, data):
        n, c, h, w = data
        return n, self.block_size, self.block_size, c // self.block_size**2, h, w


@operator("space_to_depth")
class SpaceToDepth(Blocks):
    """out (N, C * B**2, H / B, W / B) = data (N, C, H, W), blocks of B x B becoming channels. B is `block_size`."""

    order = (0, 3, 5, 1, 2, 4)

    def infer_shape(self, data):
        n, c, h, w = _image(data)
        if h % self.block_size or w % self.block_size:
            raise ValueError(f"{h} x {w} cannot be cut into blocks of {self.block_size} x {self.block_size}")
        return {"out": (n, c * self.block_size**2, h // self.block_size, w // self.block_size)}

    def split(self, data):
        n, c, h, w = data
        return n, c, h // self.block_size, self.block_size, w // self.block_size, self.block_size


def _image(data: Shape) -> Shape:
    if len(data) != 4:
        raise ValueError("data must have the axes (N, C, H, W)")
    return data


# ---- stretch and repeat ----


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

    axis: Shape = param((), doc="axes to stretch")
    size: Shape = param((), doc="their new sizes")

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


@operator("broadcast_like")
class BroadcastLike(Stretch):
    """out = lhs stretched to the shape of rhs; with `lhs_axes` and `rhs_axes`, only these axes of lhs, to the sizes of
    those of rhs. No gradient for rhs.
    """

    one_type = ("lhs", "out")

    lhs_axes: Shape | None = param(None, doc="axes of lhs to stretch")
    rhs_axes: Shape | None = param(None, doc="axes of rhs whose sizes they get")

    def setup(self):
        if len(self.lhs_axes or ()) != len(self.rhs_axes or ()):
            raise ParameterError(
                f"broadcast_like: lhs_axes {self.lhs_axes} and rhs_axes {self.rhs_axes} must be equally long."
            )

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, lhs, rhs):
        shape = list(rhs if self.lhs_axes is None else lhs)
        for axis, like in zip(self.lhs_axes or (), self.rhs_axes or (), strict=True):
            shape[positive_axis(axis, len(lhs))] = rhs[positive_axis(like, len(rhs))]
        if len(shape) != len(lhs) or any(have not in (1, want) for have, want in zip(lhs, shape, strict=True)):
            raise ValueError(f"only axes of size 1 stretch; {tuple(shape)} does not fit")
        return {"out": tuple(shape)}

    def forward(self, xp, lhs, rhs, *, out):
        xp.copyto(out, lhs)

    def backward(self, xp, g, *, d_lhs=None):
        sum_to(xp, g, d_lhs)


class Repeated(Op):
    """out = data several times over: `folds` is data's shape with an axis of size 1 for each repetition, and what
    these axes stretch to.
    """

    def folds(self, data: Shape) -> tuple[Shape, Shape]:
        raise NotImplementedError

    def forward(self, xp, data, *, out):
        narrow, wide = self.folds(data.shape)
        xp.copyto(reshaped(out, wide), data.reshape(narrow))

    def backward(self, xp, g, *, d_data=None):
        narrow, wide = self.folds(d_data.shape)
        sum_to(xp, g.reshape(wide), d_data.reshape(narrow))


@operator("tile")
class Tile(Repeated):
    """out = data laid side by side, `reps` times along each axis; shape or `reps`, if shorter, gets ones in front."""

    reps: Shape = param(doc="how often, for each axis")

    def setup(self):
        if min(self.reps, default=1) < 1:
            raise ParameterError(f"tile: reps must hold numbers of at least 1, got {self.reps}.")

    def _aligned(self, data: Shape) -> tuple[Shape, Shape]:
        ndim = max(len(data), len(self.reps))
        return (1,) * (ndim - len(data)) + data, (1,) * (ndim - len(self.reps)) + self.reps

    def infer_shape(self, data):
        return {"out": tuple(n * r for n, r in zip(*self._aligned(data), strict=True))}

    def folds(self, data):
        pairs = list(zip(*self._aligned(data), strict=True))
        return tuple(k for n, _ in pairs for k in (1, n)), tuple(k for n, r in pairs for k in (r, n))


@operator("repeat")
class Repeat(Repeated):
    """out = data with each element `repeats` times in a row along `axis`; without it, data counts as flat."""

    repeats: int = param(doc="how often", low=1)
    axis: int | None = param(None, doc="axis along which to repeat; None = the flattened array")

    def infer_shape(self, data):
        if self.axis is None:
            return {"out": (size(data) * self.repeats,)}
        axis = positive_axis(self.axis, len(data))
        return {"out": (*data[:axis], data[axis] * self.repeats, *data[axis + 1 :])}

    def folds(self, data):
        if self.axis is None:
            return (size(data), 1), (size(data), self.repeats)
        before, after = data[: self.axis % len(data) + 1], data[self.axis % len(data) + 1 :]
        return (*before, 1, *after), (*before, self.repeats, *after)
