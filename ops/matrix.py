"""Products of matrices, and what changes the form of an array: reshape, transpose, join, cut, pick."""

from __future__ import annotations

import math

import numpy as np

from raymx.errors import ParameterError
from raymx.ops.constant import Constant
from raymx.ops.elementwise import Unary
from raymx.ops.op import Op, operator
from raymx.ops.params import Bounds, Shape, param
from raymx.ops.shapes import agreed, flat2d, positive_axes, positive_axis, reshaped, size, sum_to

# ---- products ----


@operator("dot")
class Dot(Op):
    """out (M…, N…) = lhs (M…, K) · rhs (K, N…): lhs's last axis with rhs's first; of two vectors: shape (1,).

    `transpose_a`: lhs is (K, M…); `transpose_b`: rhs is (N…, K).
    """

    heavy = True
    transpose_a: bool = param(False, doc="contract lhs's first axis")
    transpose_b: bool = param(False, doc="contract rhs's last axis")

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, lhs, rhs):
        left, k = (lhs[1:], lhs[0]) if self.transpose_a else (lhs[:-1], lhs[-1])
        right, k_right = (rhs[:-1], rhs[-1]) if self.transpose_b else (rhs[1:], rhs[0])
        if k != k_right:
            raise ValueError(f"the contracted axes must be equal, {k} is not {k_right}")
        return {"out": left + right or (1,)}

    def matrices(self, lhs, rhs):
        """Both as matrices (M, K) and (K, N)."""
        a = lhs.reshape(lhs.shape[0], -1).T if self.transpose_a else lhs.reshape(-1, lhs.shape[-1])
        b = rhs.reshape(-1, rhs.shape[-1]).T if self.transpose_b else rhs.reshape(rhs.shape[0], -1)
        return a, b

    def forward(self, xp, lhs, rhs, *, out):
        a, b = self.matrices(lhs, rhs)
        xp.matmul(a, b, out=reshaped(out, (a.shape[0], b.shape[1])))

    def products(self, a, b, g, d_lhs, d_rhs):
        """The matrix products of backward as (left, right, destination), for the destinations that are wanted."""
        if d_lhs is not None:
            flat = (d_lhs.shape[0], a.shape[0]) if self.transpose_a else a.shape
            yield (b, g.T, reshaped(d_lhs, flat)) if self.transpose_a else (g, b.T, reshaped(d_lhs, flat))
        if d_rhs is not None:
            flat = (b.shape[1], b.shape[0]) if self.transpose_b else b.shape
            yield (g.T, a, reshaped(d_rhs, flat)) if self.transpose_b else (a.T, g, reshaped(d_rhs, flat))

    def backward(self, xp, g, lhs, rhs, *, d_lhs=None, d_rhs=None):
        a, b = self.matrices(lhs, rhs)
        for left, right, out in self.products(a, b, g.reshape(a.shape[0], b.shape[1]), d_lhs, d_rhs):
            xp.matmul(left, right, out=out)


@operator("batch_dot")
class BatchDot(Op):
    """out (B…, M, N) = lhs (B…, M, K) · rhs (B…, K, N), one product for each index of B.

    `transpose_a`: lhs is (B…, K, M); `transpose_b`: rhs is (B…, N, K).
    """

    heavy = True
    transpose_a: bool = param(False, doc="transpose each matrix of lhs")
    transpose_b: bool = param(False, doc="transpose each matrix of rhs")

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, lhs, rhs):
        if len(lhs) < 3 or len(lhs) != len(rhs) or lhs[:-2] != rhs[:-2]:
            raise ValueError("both must have at least 3 axes, all but the last two equal")
        m, k = lhs[:-3:-1] if self.transpose_a else lhs[-2:]
        k_right, n = rhs[:-3:-1] if self.transpose_b else rhs[-2:]
        if k != k_right:
            raise ValueError(f"the contracted axes must be equal, {k} is not {k_right}")
        return {"out": lhs[:-2] + (m, n)}

    def matrices(self, lhs, rhs):
        """Both as stacks of matrices (…, M, K) and (…, K, N)."""
        return lhs.swapaxes(-1, -2) if self.transpose_a else lhs, rhs.swapaxes(-1, -2) if self.transpose_b else rhs

    def forward(self, xp, lhs, rhs, *, out):
        xp.matmul(*self.matrices(lhs, rhs), out=out)

    def products(self, a, b, g, d_lhs, d_rhs):
        """The matrix products of backward as (left, right, destination), for the destinations that are wanted."""
        a_t, b_t, g_t = (x.swapaxes(-1, -2) for x in (a, b, g))
        if d_lhs is not None:
            yield (b, g_t, d_lhs) if self.transpose_a else (g, b_t, d_lhs)
        if d_rhs is not None:
            yield (g_t, a, d_rhs) if self.transpose_b else (a_t, g, d_rhs)

    def backward(self, xp, g, lhs, rhs, *, d_lhs=None, d_rhs=None):
        for left, right, out in self.products(*self.matrices(lhs, rhs), g, d_lhs, d_rhs):
            xp.matmul(left, right, out=out)


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


# ---- join and cut ----


@operator("Concat", "concat")
class Concat(Op):
    """out = the inputs joined along `dim`; all other axes are equal, and unknown ones are inferred from each other."""

    variadic = "num_args"
    num_args: int = param(doc="number of inputs", low=1)
    dim: int = param(1, doc="axis along which to join")

    def inputs(self):
        return tuple(f"arg{i}" for i in range(self.num_args))

    def infer_shape(self, **known):
        shapes = [known[n] for n in self.inputs()]
        ndim = len(agreed(*(s and (0,) * len(s) for s in (*shapes, known["out"]))) or ())
        if ndim == 0:
            return {}
        axis = positive_axis(self.dim, ndim)
        others = agreed(*(s and _with(s, axis, 0) for s in (*shapes, known["out"])))
        lengths = [s[axis] if s else 0 for s in shapes]
        total = 0 if 0 in lengths else sum(lengths)
        deduced = {n: _with(others, axis, k) for n, k in zip(self.inputs(), lengths, strict=True)}
        return {**deduced, "out": _with(others, axis, total)}

    def forward(self, xp, *args, out):
        xp.concatenate(args, axis=self.dim, out=out)

    def backward(self, xp, g, *args, **d):
        start = 0
        for name, source in zip(self.inputs(), args, strict=True):
            stop = start + source.shape[self.dim]
            if d.get(f"d_{name}") is not None:
                xp.copyto(d[f"d_{name}"], g[_range(g.ndim, self.dim, start, stop)])
            start = stop


def _with(shape: Shape, axis: int, length: int) -> Shape:
    return (*shape[:axis], length, *shape[axis + 1 :])


def _range(ndim: int, axis: int, start: int | None, stop: int | None) -> tuple[slice, ...]:
    """The index that cuts [start, stop) out of `axis`."""
    index = [slice(None)] * ndim
    index[axis] = slice(start, stop)
    return tuple(index)


@operator("SliceChannel", "split")
class SliceChannel(Op):
    """output0, output1, … = data cut along `axis` into `num_outputs` equal parts; `squeeze_axis` drops an axis of 1."""

    num_outputs: int = param(doc="number of parts", low=1)
    axis: int = param(1, doc="axis to cut")
    squeeze_axis: bool = param(False, doc="drop the axis, which must have become 1")

    def outputs(self):
        return tuple(f"output{i}" for i in range(self.num_outputs))

    def infer_shape(self, data=None, **outs):
        part = agreed(data and self._part(data), *(outs[n] for n in self.outputs()))
        if part is None:
            return {}
        return {"data": self._whole(part), **dict.fromkeys(self.outputs(), part)}

    def _part(self, data: Shape) -> Shape:
        """The shape of one output, as far as data's tells it."""
        axis = positive_axis(self.axis, len(data))
        if data[axis] % self.num_outputs:
            raise ValueError(f"axis {axis} of {data[axis]} cannot be cut into {self.num_outputs} equal parts")
        length = data[axis] // self.num_outputs
        if self.squeeze_axis and length > 1:
            raise ValueError(f"squeeze_axis needs parts of 1 along axis {axis}, not {length}")
        return data[:axis] + data[axis + 1 :] if self.squeeze_axis else _with(data, axis, length)

    def _whole(self, part: Shape) -> Shape:
        """The shape of data, as far as an output's tells it."""
        axis = positive_axis(self.axis, len(part) + self.squeeze_axis)
        if self.squeeze_axis:
            return (*part[:axis], self.num_outputs, *part[axis:])
        return _with(part, axis, part[axis] * self.num_outputs)

    def parts(self, whole) -> list:
        """Views of `whole` in the form of the outputs."""
        axis = self.axis % whole.ndim
        if self.squeeze_axis:
            return [whole[(slice(None),) * axis + (i,)] for i in range(self.num_outputs)]
        length = whole.shape[axis] // self.num_outputs
        return [whole[_range(whole.ndim, axis, i * length, (i + 1) * length)] for i in range(self.num_outputs)]

    def forward(self, xp, data, **outs):
        parts = dict(zip(self.outputs(), self.parts(data), strict=True))
        for name, out in outs.items():
            xp.copyto(out, parts[name])

    def backward(self, xp, gs, *, d_data=None):
        for part, g in zip(self.parts(d_data), gs, strict=True):
            xp.copyto(part, g)


@operator("slice_axis")
class SliceAxis(Op):
    """out = data[begin:end] along `axis`; negative numbers count from the end, end None is the end."""

    axis: int = param(doc="axis to cut")
    begin: int = param(doc="first index")
    end: int | None = param(doc="index after the last")

    def infer_shape(self, data):
        axis = positive_axis(self.axis, len(data))
        length = len(range(data[axis])[self.begin : self.end])
        if length == 0:
            raise ValueError(f"nothing lies in [{self.begin}, {self.end}) of axis {axis} with {data[axis]}")
        return {"out": _with(data, axis, length)}

    def forward(self, xp, data, *, out):
        xp.copyto(out, data[_range(data.ndim, self.axis, self.begin, self.end)])

    def backward(self, xp, g, *, d_data=None):
        d_data.fill(0)
        d_data[_range(d_data.ndim, self.axis, self.begin, self.end)] = g


class Region(Op):
    """Something with the region [begin[0]:end[0], begin[1]:end[1], …] of an array, whole along axes not named."""

    begin: Bounds = param(doc="first index along each axis, None = 0")
    end: Bounds = param(doc="index after the last along each axis, None = the end")

    def setup(self):
        if len(self.begin) != len(self.end):
            raise ParameterError(f"{self.name}: begin {self.begin} and end {self.end} must be equally long.")
        self.index = tuple(slice(b, e) for b, e in zip(self.begin, self.end, strict=True))

    def region(self, whole: Shape) -> Shape:
        """The region's shape in an array of shape `whole`; raises ValueError if nothing lies in it."""
        if len(self.index) > len(whole):
            raise ValueError(f"begin {self.begin} names more than {len(whole)} axes")
        lengths = tuple(len(range(n)[cut]) for n, cut in zip(whole, self.index, strict=False))
        if 0 in lengths:
            raise ValueError(f"nothing lies from {self.begin} to {self.end}")
        return lengths + whole[len(lengths) :]


@operator("crop", "slice")
class Crop(Region):
    """out = data[begin[0]:end[0], begin[1]:end[1], …]; axes that are not named stay whole."""

    def infer_shape(self, data):
        return {"out": self.region(data)}

    def forward(self, xp, data, *, out):
        xp.copyto(out, data[self.index])

    def backward(self, xp, g, *, d_data=None):
        d_data.fill(0)
        d_data[self.index] = g


@operator("_crop_assign", "_slice_assign")
class CropAssign(Region):
    """out = lhs, but for lhs[begin[0]:end[0], …] = rhs."""

    inplace = (("lhs", "out"),)

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, lhs):
        return {"rhs": self.region(lhs), "out": lhs}

    def forward(self, xp, lhs, rhs, *, out):
        xp.copyto(out, lhs)
        out[self.index] = rhs

    def backward(self, xp, g, *, d_lhs=None, d_rhs=None):
        if d_rhs is not None:
            xp.copyto(d_rhs, g[self.index])
        if d_lhs is not None:
            xp.copyto(d_lhs, g)
            d_lhs[self.index] = 0


@operator("_crop_assign_scalar", "_slice_assign_scalar")
class CropAssignScalar(Region):
    """out = data, but for data[begin[0]:end[0], …] = scalar."""

    inplace = (("data", "out"),)

    scalar: int | float = param(0, doc="the number")

    def setup(self):
        super().setup()
        self.number = Constant(self.scalar)

    def infer_shape(self, data):
        self.region(data)
        return {"out": data}

    def forward(self, xp, data, *, out):
        xp.copyto(out, data)
        out[self.index] = self.number.like(xp, data)

    def backward(self, xp, g, *, d_data=None):
        xp.copyto(d_data, g)
        d_data[self.index] = 0


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


# ---- types and bounds ----


@operator("Cast", "cast")
class Cast(Unary):
    """out = data converted to `dtype` as C does; the gradient is converted back. Types are not inferred through it."""

    dtype: np.dtype = param(doc="the new element type")

    inplace = ()

    def infer_type(self, known):
        return {"out": self.dtype}

    def forward(self, xp, data, *, out):
        xp.copyto(out, data, casting="unsafe")

    def backward(self, xp, g, *, d_data=None):
        xp.copyto(d_data, g, casting="unsafe")


@operator("clip")
class Clip(Unary):
    """out = data held within [a_min, a_max]; the gradient passes where data lies within, bounds included."""

    a_min: float = param(doc="lower bound")
    a_max: float = param(doc="upper bound")

    def setup(self):
        self.low, self.high = Constant(self.a_min), Constant(self.a_max)

    def forward(self, xp, data, *, out):
        data.clip(self.low.like(xp, data), self.high.like(xp, data), out=out)

    def backward(self, xp, g, data, *, d_data=None):
        inside = (data >= self.low.like(xp, data)) & (data <= self.high.like(xp, data))
        xp.multiply(g, inside, out=d_data)


# ---- rows, and one element of each ----


@operator("element_mask")
class ElementMask(Op):
    """out (N, …) = lhs (N, …) with row n multiplied by rhs (N,)[n]; rhs gets no gradient."""

    inplace = (("lhs", "out"),)
    inplace_backward = (("g", "d_lhs"),)

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, lhs):
        return {"rhs": lhs[:1], "out": lhs}

    def forward(self, xp, lhs, rhs, *, out):
        xp.multiply(lhs, rhs.reshape((-1,) + (1,) * (lhs.ndim - 1)), out=out)

    def backward(self, xp, g, rhs, *, d_lhs=None):
        self.forward(xp, g, rhs, out=d_lhs)


def _columns(xp, rows, index):
    """The index (0…n-1, whole numbers of `index`) of one element in each of n rows."""
    return xp.arange(rows.shape[0]), index.astype("int64")


@operator("choose_element_0index")
class ChooseElement0Index(Op):
    """out (N,) = lhs (N, C) at column rhs (N,) of each row."""

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, lhs):
        n, _ = _matrix(lhs)
        return {"rhs": (n,), "out": (n,)}

    def forward(self, xp, lhs, rhs, *, out):
        xp.copyto(out, lhs[_columns(xp, lhs, rhs)])

    def backward(self, xp, g, rhs, *, d_lhs=None):
        d_lhs.fill(0)
        d_lhs[_columns(xp, d_lhs, rhs)] = g


@operator("fill_element_0index")
class FillElement0Index(Op):
    """out (N, C) = lhs (N, C) with mhs (N,) put in column rhs (N,) of each row; no gradient."""

    inplace = (("lhs", "out"),)

    def inputs(self):
        return ("lhs", "mhs", "rhs")

    def infer_shape(self, lhs):
        n, _ = _matrix(lhs)
        return {"mhs": (n,), "rhs": (n,), "out": lhs}

    def forward(self, xp, lhs, mhs, rhs, *, out):
        xp.copyto(out, lhs)
        out[_columns(xp, lhs, rhs)] = mhs


@operator("_onehot_encode")
class OneHotEncode(Op):
    """out (N, C) = 1 in column lhs (N,) of each row, 0 elsewhere; rhs (N, C) only gives the shape. No gradient."""

    inplace = (("rhs", "out"),)

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, rhs):
        n, _ = _matrix(rhs)
        return {"lhs": (n,), "out": rhs}

    def forward(self, xp, lhs, rhs, *, out):
        out.fill(0)
        out[_columns(xp, out, lhs)] = 1


def _matrix(shape: Shape) -> Shape:
    if len(shape) != 2:
        raise ValueError("the rows must form a matrix")
    return shape
