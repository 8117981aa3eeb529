"""Arrays joined, and pieces cut out of arrays or put into them."""

from __future__ import annotations

from raymx.errors import ParameterError
from raymx.ops.constant import Constant
from raymx.ops.op import Op, operator
from raymx.ops.params import Bounds, Shape, param
from raymx.ops.shapes import agreed, positive_axis

# ---- join and cut ----


@operator("Concat", "concat", "_rnn_param_concat")
class Concat(Op):
    """out = the inputs joined along `dim`; all other axes are equal, and unknown ones are inferred from each other."""

    variadic = "num_args"
    num_args: int = param(doc="number of inputs", low=1)
    dim: int = param(1, doc="axis along which to join")

    def setup(self):
        self.channelled = (*self.inputs(), "out") if self.dim == 1 else ()

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

    def pieces(self):
        return ("out", self.inputs()) if self.dim == 0 else None

    def forward(self, xp, *args, out):
        xp.concatenate(args, axis=self.dim, out=out)

    def backward(self, xp, g, *args, **d):
        start = 0
        for name, source in zip(self.inputs(), args, strict=True):
            stop = start + source.shape[self.dim]
            if d.get(f"d_{name}") is not None:
                xp.copyto(d[f"d_{name}"], g[_range(g.ndim, self.dim, start, stop)])
            start = stop


@operator("stack")
class Stack(Op):
    """out = the inputs, all of one shape, joined along a new axis that stands at `axis`."""

    variadic = "num_args"
    axis: int = param(0, doc="where the new axis stands in the result")
    num_args: int = param(doc="number of inputs", low=1)

    def inputs(self):
        return tuple(f"arg{i}" for i in range(self.num_args))

    def infer_shape(self, **known):
        out = known["out"]
        part = agreed(*(known[n] for n in self.inputs()))
        if out is not None:
            axis = positive_axis(self.axis, len(out))
            part = agreed(part, out[:axis] + out[axis + 1 :])
        if part is None:
            return {}
        axis = positive_axis(self.axis, len(part) + 1)
        return {**dict.fromkeys(self.inputs(), part), "out": (*part[:axis], self.num_args, *part[axis:])}

    def forward(self, xp, *args, out):
        for i, source in enumerate(args):
            xp.copyto(out[_at(out.ndim, self.axis, i)], source)

    def backward(self, xp, g, **d):
        for i, name in enumerate(self.inputs()):
            if d.get(f"d_{name}") is not None:
                xp.copyto(d[f"d_{name}"], g[_at(g.ndim, self.axis, i)])


def _at(ndim: int, axis: int, i: int) -> tuple[slice | int, ...]:
    """The index that takes place `i` out of `axis`."""
    index: list[slice | int] = [slice(None)] * ndim
    index[axis] = i
    return tuple(index)


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

    def pieces(self):
        return ("data", self.outputs()) if self.axis == 0 else None

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


@operator("_split_v2")
class SplitAt(Op):
    """output0, output1, … = data cut along `axis` where each number of `indices` begins a part, or into `sections`
    equal parts; `squeeze_axis` drops an axis of 1.
    """

    indices: Shape = param((), doc="first index of each part, 0 for the first; used without sections")
    axis: int = param(1, doc="axis to cut")
    squeeze_axis: bool = param(False, doc="drop the axis, which must have become 1")
    sections: int = param(0, doc="number of equal parts; 0 = use indices", low=0)

    def setup(self):
        if not self.sections and not self.indices:
            raise ParameterError("_split_v2: give indices, or a number of sections.")

    def outputs(self):
        return tuple(f"output{i}" for i in range(self.sections or len(self.indices)))

    def bounds(self, length: int) -> list[tuple[int, int]]:
        """The first index of each part, and the one after its last."""
        if self.sections and length % self.sections:
            raise ValueError(f"axis {self.axis} of {length} cannot be cut into {self.sections} equal parts")
        part = length // (self.sections or 1)
        starts = [i * part for i in range(self.sections)] if self.sections else list(self.indices)
        return list(zip(starts, [*starts[1:], length], strict=True))

    def infer_shape(self, data):
        axis = positive_axis(self.axis, len(data))
        lengths = [len(range(data[axis])[start:stop]) for start, stop in self.bounds(data[axis])]
        if 0 in lengths or (self.squeeze_axis and set(lengths) != {1}):
            wanted = "1, for squeeze_axis" if self.squeeze_axis else "at least 1"
            raise ValueError(f"the parts of axis {axis} have the lengths {lengths}; each must be {wanted}")
        shapes = [data[:axis] + (() if self.squeeze_axis else (n,)) + data[axis + 1 :] for n in lengths]
        return dict(zip(self.outputs(), (shape or (1,) for shape in shapes), strict=True))

    def parts(self, whole) -> list:
        """Views of `whole`, one for each output."""
        return [whole[_range(whole.ndim, self.axis, *ends)] for ends in self.bounds(whole.shape[self.axis])]

    def forward(self, xp, data, **outs):
        parts = dict(zip(self.outputs(), self.parts(data), strict=True))
        for name, out in outs.items():
            xp.copyto(out, parts[name].reshape(out.shape))

    def backward(self, xp, gs, *, d_data=None):
        for part, g in zip(self.parts(d_data), gs, strict=True):
            xp.copyto(part, g.reshape(part.shape))


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
    """Something with the region [begin[0]:end[0]:step[0], …] of an array, whole along axes not named."""

    begin: Bounds = param(doc="first index along each axis, None = 0")
    end: Bounds = param(doc="index after the last along each axis, None = the end")
    step: Bounds = param((), doc="distance along each axis, None = 1; a negative one goes backwards")

    def setup(self):
        if len(self.begin) != len(self.end):
            raise ParameterError(f"{self.name}: begin {self.begin} and end {self.end} must be equally long.")
        if self.step and (len(self.step) != len(self.begin) or 0 in self.step):
            raise ParameterError(f"{self.name}: step must hold a number but 0 for each of begin, got {self.step}.")
        steps = self.step or (None,) * len(self.begin)
        self.index = tuple(slice(b, e, s) for b, e, s in zip(self.begin, self.end, steps, strict=True))

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
    """out = data[begin[0]:end[0]:step[0], …]; axes that are not named stay whole."""

    def infer_shape(self, data):
        return {"out": self.region(data)}

    def forward(self, xp, data, *, out):
        xp.copyto(out, data[self.index])

    def backward(self, xp, g, *, d_data=None):
        d_data.fill(0)
        d_data[self.index] = g


@operator("slice_like")
class SliceLike(Op):
    """out = the beginning of data, as long as shape_like along `axes`, () = all. No gradient for shape_like."""

    one_type = ("data", "out")

    axes: Shape = param((), doc="axes to cut; () = all")

    def inputs(self):
        return ("data", "shape_like")

    def infer_shape(self, data, shape_like):
        if not self.axes and len(data) != len(shape_like):
            raise ValueError("without axes, both must have the same number of axes")
        shape = list(data)
        for axis in [positive_axis(a, len(data)) for a in self.axes] or range(len(data)):
            shape[axis] = shape_like[axis]
        if any(have < want for have, want in zip(data, shape, strict=True)):
            raise ValueError(f"data is too small for shape {tuple(shape)}")
        return {"out": tuple(shape)}

    def forward(self, xp, data, shape_like, *, out):
        xp.copyto(out, data[tuple(map(slice, out.shape))])

    def backward(self, xp, g, *, d_data=None):
        d_data.fill(0)
        d_data[tuple(map(slice, g.shape))] = g


@operator("diag")
class Diag(Op):
    """out (M, M) = a matrix with data (N,) on its diagonal `k`; or the diagonal `k` of each of data's matrices, which
    lie along `axis1` and `axis2`, as the last axis of out.
    """

    k: int = param(0, doc="which diagonal: 0 the main one, above it positive, below negative")
    axis1: int = param(0, doc="axis of the rows")
    axis2: int = param(1, doc="axis of the columns")

    def infer_shape(self, data):
        if len(data) == 1:
            return {"out": (data[0] + abs(self.k),) * 2}
        rows, columns = positive_axis(self.axis1, len(data)), positive_axis(self.axis2, len(data))
        if rows == columns:
            raise ValueError(f"axis1 and axis2 must differ, both are {rows}")
        length = min(data[rows] + min(self.k, 0), data[columns] - max(self.k, 0))
        if length < 1:
            raise ValueError(f"there is no diagonal {self.k}")
        return {"out": (*(n for a, n in enumerate(data) if a not in (rows, columns)), length)}

    def _index(self, xp, length: int) -> tuple:
        """Row and column of each element on the diagonal."""
        along = xp.arange(length)
        return along - min(self.k, 0), along + max(self.k, 0)

    def _lines(self, xp, whole):
        """The matrices of `whole` with their two axes first."""
        return xp.moveaxis(whole, (self.axis1, self.axis2), (0, 1))

    def forward(self, xp, data, *, out):
        if data.ndim == 1:
            out.fill(0)
            out[self._index(xp, len(data))] = data
        else:
            lines = self._lines(xp, data)[self._index(xp, out.shape[-1])]
            xp.copyto(out, xp.moveaxis(lines, 0, -1))

    def backward(self, xp, g, *, d_data=None):
        if d_data.ndim == 1:
            xp.copyto(d_data, g[self._index(xp, len(d_data))])
        else:
            d_data.fill(0)
            self._lines(xp, d_data)[self._index(xp, g.shape[-1])] = xp.moveaxis(g, -1, 0)


@operator("_crop_assign", "_slice_assign")
class CropAssign(Region):
    """out = lhs, but for lhs[begin[0]:end[0]:step[0], …] = rhs."""

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
    """out = data, but for data[begin[0]:end[0]:step[0], …] = scalar."""

    leading = ("scalar",)

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
