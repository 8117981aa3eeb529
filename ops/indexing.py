"""Elements chosen by numbers that stand in another array."""

from __future__ import annotations

from typing import Any

import numpy as np

from raymx.errors import MXNetError, ParameterError
from raymx.ops.constant import Constant
from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param
from raymx.ops.shapes import agreed, positive_axes, positive_axis, reshaped


def positions(xp, index, length: int, mode: str = "clip"):
    """The numbers of `index`, cut off to whole ones, as positions from 0 to below `length`.

    `clip` takes the nearest position, `wrap` counts round, `raise` raises MXNetError for a number that is none.
    """
    whole = index.astype("int64")
    if mode == "clip":
        return xp.clip(whole, 0, length - 1, out=whole)
    if mode == "wrap":
        return xp.remainder(whole, length, out=whole)
    if int(whole.min()) < 0 or int(whole.max()) >= length:
        found = f"{int(whole.min())} to {int(whole.max())}"
        raise MXNetError(f"take: indices must lie from 0 to {length - 1}, got {found}.")
    return whole


def take(xp, data, where, axis: int, out) -> None:
    """out = data at the positions `where` along `axis`. NumPy writes to its destination directly in this mode only."""
    xp.take(data, where, axis=axis, out=out, **({"mode": "clip"} if xp is np else {}))


@operator("take")
class Take(Op):
    """out (L…, I…, R…) = the slices of a (L…, K, R…) along `axis` that stand at the positions in indices (I…).

    A number that is no position is an error (`mode` raise), counts as the nearest one (clip), or counts round (wrap).
    No gradient for indices.
    """

    one_type = ("a", "out")

    axis: int = param(0, doc="axis along which to choose")
    mode: str = param("clip", doc="what to do with numbers that are no positions", choices=("raise", "wrap", "clip"))

    def inputs(self):
        return ("a", "indices")

    def infer_shape(self, a, indices):
        axis = positive_axis(self.axis, len(a))
        return {"out": a[:axis] + indices + a[axis + 1 :]}

    def forward(self, xp, a, indices, *, out):
        axis = self.axis % a.ndim
        take(xp, a, positions(xp, indices, a.shape[axis], self.mode), axis, out)

    def backward(self, xp, g, indices, *, d_a=None):
        axis = self.axis % d_a.ndim
        d_a.fill(0)
        xp.add.at(d_a, (slice(None),) * axis + (positions(xp, indices, d_a.shape[axis], self.mode),), g)


@operator("pick")
class Pick(Op):
    """out = one element of data for each index of the other axes: the one at the position along `axis` in index.

    index has data's shape without `axis`, or with 1 there, as has out with `keepdims`. Without `axis`, data counts as
    flat. A number that is no position counts as the nearest one (`mode` clip) or counts round (wrap).
    """

    one_type = ("data", "out")

    axis: int | None = param(-1, doc="axis along which to choose; None = the flattened array")
    keepdims: bool = param(False, doc="keep the axis with size 1")
    mode: str = param("clip", doc="what to do with numbers that are no positions", choices=("wrap", "clip"))

    def inputs(self):
        return ("data", "index")

    def infer_shape(self, data, index=None):
        kept = self._kept(data)
        short = tuple(n for a, n in enumerate(data) if self.axis is not None and a != self.axis % len(data)) or (1,)
        if index is not None and 0 not in index and index not in (kept, short):
            raise ValueError(f"index must have shape {short} or {kept}")
        return {"index": index or short, "out": kept if self.keepdims else short}

    def _kept(self, data: Shape) -> Shape:
        if self.axis is None:
            return (1,) * len(data)
        axis = positive_axis(self.axis, len(data))
        return (*data[:axis], 1, *data[axis + 1 :])

    def _lines(self, xp, data, index):
        """data with the axis to choose along, that axis, and a position for each of its lines, of equal rank."""
        if self.axis is None:
            return data.reshape(-1), 0, positions(xp, index, data.size, self.mode).reshape(1)
        axis = self.axis % data.ndim
        return data, axis, positions(xp, index, data.shape[axis], self.mode).reshape(self._kept(data.shape))

    def forward(self, xp, data, index, *, out):
        lines, axis, where = self._lines(xp, data, index)
        xp.copyto(out, xp.take_along_axis(lines, where, axis).reshape(out.shape))

    def backward(self, xp, g, index, *, d_data=None):
        d_data.fill(0)
        lines, axis, where = self._lines(xp, d_data, index)
        xp.put_along_axis(lines, where, g.reshape(where.shape), axis)


@operator("batch_take")
class BatchTake(Op):
    """out (N,) = a (N, C) at column indices (N,) of each row; a number that is no column counts as the nearest one.

    Not differentiable, as in MXNet; `pick` is.
    """

    one_type = ("a", "out")
    differentiable = False

    def inputs(self):
        return ("a", "indices")

    def infer_shape(self, a):
        n, _ = _matrix(a)
        return {"indices": (n,), "out": (n,)}

    def forward(self, xp, a, indices, *, out):
        xp.copyto(out, a[xp.arange(len(a)), positions(xp, indices, a.shape[1])])


@operator("where")
class Where(Op):
    """out (N, …) = x where condition is not 0, y elsewhere; condition is (N, …), or (N,) and chooses whole rows."""

    inplace = (("y", "out"),)
    one_type = ("x", "y", "out")

    def inputs(self):
        return ("condition", "x", "y")

    def infer_shape(self, condition=None, x=None, y=None, out=None):
        shape = agreed(x, y, out)
        deduced = dict.fromkeys(("x", "y", "out"), shape)
        if condition is None:
            return {"condition": shape, **deduced}
        if len(condition) != 1:
            return {"condition": agreed(condition, shape), **dict.fromkeys(deduced, agreed(shape, condition))}
        if shape is not None and 0 not in (condition[0], shape[0]) and condition[0] != shape[0]:
            raise ValueError(f"condition must have shape {shape} or {shape[:1]}")
        return deduced

    def chosen(self, condition, like):
        """Where x is chosen, so that it broadcasts against `like`."""
        chosen = condition != 0
        return chosen if condition.ndim == like.ndim else chosen.reshape((-1,) + (1,) * (like.ndim - 1))

    def forward(self, xp, condition, x, y, *, out):
        xp.copyto(out, y)
        xp.copyto(out, x, where=self.chosen(condition, out))

    def backward(self, xp, g, condition, *, d_x=None, d_y=None):
        chosen = self.chosen(condition, g)
        if d_x is not None:
            xp.multiply(g, chosen, out=d_x)
        if d_y is not None:
            xp.multiply(g, ~chosen, out=d_y)


@operator("one_hot")
class OneHot(Op):
    """out (I…, `depth`) = `on_value` at the position along the last axis that stands in indices (I…), else `off_value`.

    The row of a number that is no position holds `off_value` only. No gradient.
    """

    depth: int = param(doc="length of the new axis", low=1)
    on_value: float = param(1.0, doc="the value at the positions")
    off_value: float = param(0.0, doc="the value elsewhere")
    dtype: np.dtype = param(np.dtype("float32"), doc="element type of the result")

    def inputs(self):
        return ("indices",)

    def infer_shape(self, indices):
        return {"out": (*indices, self.depth)}

    def infer_type(self, known):
        return {"out": self.dtype}

    def setup(self):
        self.on, self.off = Constant(self.on_value), Constant(self.off_value)

    def forward(self, xp, indices, *, out):
        out.fill(self.off.like(xp, out))
        where = indices.astype("int64").reshape(-1)
        (rows,) = xp.nonzero((where >= 0) & (where < self.depth))
        reshaped(out, (-1, self.depth))[rows, where[rows]] = self.on.like(xp, out)


# ---- several numbers for an element ----


def index_of(xp, indices, shape: Shape) -> tuple:
    """The rows of `indices` as an index into the first axes of `shape`; negative numbers count from the end.

    Raises MXNetError for a number that is no index.
    """
    rows = []
    for axis, (row, length) in enumerate(zip(indices, shape, strict=False)):
        whole = row.astype("int64")
        low, high = int(whole.min()), int(whole.max())
        if low < -length or high >= length:
            raise MXNetError(f"indices along axis {axis} must lie from {-length} to {length - 1}, got {low} to {high}.")
        rows.append(xp.remainder(whole, length, out=whole))
    return tuple(rows)


class ByIndices(Op):
    """Elements or slices of an array, chosen by indices (M, I…): column i holds the index along the first M axes."""

    def chosen(self, whole: Shape, indices: Shape) -> Shape:
        """The shape of what indices choose from an array of shape `whole`."""
        if len(indices) < 1 or indices[0] > len(whole):
            raise ValueError(f"indices have {indices[0]} rows, one an axis, for an array of {len(whole)} axes")
        return indices[1:] + whole[indices[0] :] or (1,)

    def gather(self, xp, whole, indices, out) -> None:
        lead, rest = whole.shape[: len(indices)], whole.shape[len(indices) :]
        flat: Any = 0
        for row, length in zip(index_of(xp, indices, lead), lead, strict=True):
            flat = flat * length + row
        take(xp, whole.reshape(-1, *rest), flat, 0, reshaped(out, flat.shape + rest))


@operator("gather_nd")
class GatherNd(ByIndices):
    """out (I…, R…) = the slices of data (K1, …, KM, R…) at indices (M, I…); negative numbers count from the end."""

    one_type = ("data", "out")

    def inputs(self):
        return ("data", "indices")

    def infer_shape(self, data, indices):
        return {"out": self.chosen(data, indices)}

    def forward(self, xp, data, indices, *, out):
        self.gather(xp, data, indices, out)

    def backward(self, xp, g, indices, *, d_data=None):
        d_data.fill(0)
        index = index_of(xp, indices, d_data.shape)
        xp.add.at(d_data, index, g.reshape(index[0].shape + d_data.shape[len(index) :]))


@operator("scatter_nd")
class ScatterNd(ByIndices):
    """out (`shape`) = zeros, but for the slices of data (I…, R…) at indices (M, I…), of equal ones any."""

    one_type = ("data", "out")

    shape: Shape = param(doc="shape of the result")

    def inputs(self):
        return ("data", "indices")

    def infer_shape(self, data, indices):
        if self.chosen(self.shape, indices) != data:
            raise ValueError(f"data must have shape {self.chosen(self.shape, indices)}")
        return {"out": self.shape}

    def forward(self, xp, data, indices, *, out):
        out.fill(0)
        out[index_of(xp, indices, out.shape)] = data

    def backward(self, xp, g, indices, *, d_data=None):
        self.gather(xp, g, indices, d_data)


@operator("_scatter_set_nd")
class ScatterSetNd(ByIndices):
    """out = lhs (`shape`), but for the slices of rhs (I…, R…) at indices (M, I…). No gradient."""

    inplace = (("lhs", "out"),)
    one_type = ("lhs", "rhs", "out")

    shape: Shape = param(doc="shape of lhs")

    def inputs(self):
        return ("lhs", "rhs", "indices")

    def infer_shape(self, lhs, indices):
        return {"lhs": self.shape, "rhs": self.chosen(self.shape, indices), "out": lhs}

    def forward(self, xp, lhs, rhs, indices, *, out):
        xp.copyto(out, lhs)
        out[index_of(xp, indices, out.shape)] = rhs


class IndexArithmetic(Op):
    """Between indices of elements in an array of shape `shape` and their positions in it, flattened."""

    shape: Shape = param((), doc="shape of the array; its first number may be -1")

    def setup(self):
        if not self.shape:
            raise ParameterError(f"{self.name}: parameter 'shape' (a tuple of integers) is missing.")


@operator("_ravel_multi_index", "ravel_multi_index")
class RavelMultiIndex(IndexArithmetic):
    """out (I…) = the positions of the elements whose indices stand in the columns of data (M, I…). No gradient."""

    def infer_shape(self, data):
        if len(data) < 2 or data[0] != len(self.shape):
            raise ValueError(f"data must have {len(self.shape)} rows, one an axis of shape {self.shape}")
        return {"out": data[1:]}

    def forward(self, xp, data, *, out):
        xp.copyto(out, data[0])
        for row, length in zip(data[1:], self.shape[1:], strict=True):
            xp.multiply(out, length, out=out)
            xp.add(out, row, out=out)


@operator("_unravel_index", "unravel_index")
class UnravelIndex(IndexArithmetic):
    """out (M, I…) = the indices, in columns, of the elements at the positions in data (I…). No gradient."""

    def infer_shape(self, data):
        return {"out": (len(self.shape), *data)}

    def forward(self, xp, data, *, out):
        rest = data.astype("int64")
        for axis in reversed(range(1, len(self.shape))):
            out[axis] = rest % self.shape[axis]
            rest //= self.shape[axis]
        out[0] = rest


@operator("_contrib_index_copy")
class IndexCopy(Op):
    """out (N, …) = old_tensor, but for new_tensor's (I, …) rows, which stand at the positions in index_vector (I,)."""

    inplace = (("old_tensor", "out"),)
    one_type = ("old_tensor", "new_tensor", "out")

    def inputs(self):
        return ("old_tensor", "index_vector", "new_tensor")

    def infer_shape(self, old_tensor, index_vector):
        return {"new_tensor": index_vector + old_tensor[1:], "out": old_tensor}

    def forward(self, xp, old_tensor, index_vector, new_tensor, *, out):
        xp.copyto(out, old_tensor)
        out[index_vector.astype("int64")] = new_tensor

    def backward(self, xp, g, index_vector, *, d_old_tensor=None, d_new_tensor=None):
        rows = index_vector.astype("int64")
        if d_new_tensor is not None:
            take(xp, g, rows, 0, d_new_tensor)
        if d_old_tensor is not None:
            xp.copyto(d_old_tensor, g)
            d_old_tensor[rows] = 0


@operator("_contrib_index_array")
class IndexArray(Op):
    """out (D…, M) = for each element of data (D…) its own index along `axes`, all M of them without. No gradient."""

    axes: Shape | None = param(None, doc="axes whose indices are wanted; None = all")

    def infer_shape(self, data):
        return {"out": (*data, len(data) if self.axes is None else len(positive_axes(self.axes, len(data))))}

    def infer_type(self, known):
        return {"out": np.dtype("int64")}

    def forward(self, xp, data, *, out):
        for place, axis in enumerate(range(data.ndim) if self.axes is None else self.axes):
            numbers = xp.arange(data.shape[axis])
            out[..., place] = numbers.reshape((-1,) + (1,) * (data.ndim - 1 - axis % data.ndim))


# ---- rows, and one element of each: the names of 2015 ----


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
