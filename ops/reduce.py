"""Reductions of an array over some axes. Over all of them the result has shape (1,), as there are no 0-d arrays."""

from __future__ import annotations

import numpy as np

from raymx.errors import ParameterError
from raymx.ops.op import Op, operator
from raymx.ops.params import Floats, Shape, param
from raymx.ops.shapes import agreed, positive_axes, positive_axis, size


class Reduction(Op):
    """out = a number for each index of the axes that stay."""

    axis: Shape | None
    keepdims: bool
    exclude: bool = False

    def gone(self, ndim: int) -> Shape:
        """The axes that are reduced, from the front."""
        if not self.axis:
            return tuple(range(ndim))
        named = positive_axes(self.axis, ndim)
        return tuple(a for a in range(ndim) if a not in named) if self.exclude else named

    def kept(self, data: Shape) -> Shape:
        """The result's shape with the reduced axes as 1: it broadcasts against data."""
        axes = self.gone(len(data))
        return tuple(1 if a in axes else n for a, n in enumerate(data))

    def result(self, data: Shape) -> Shape:
        """The result's shape."""
        if self.keepdims:
            return self.kept(data)
        axes = self.gone(len(data))
        return tuple(n for a, n in enumerate(data) if a not in axes) or (1,)

    def infer_shape(self, data):
        return {"out": self.result(data)}

    def reduce(self, function, data, out) -> None:
        """out = function(data), one of `xp`'s reductions."""
        function(data, axis=self.gone(data.ndim), keepdims=True, out=out.reshape(self.kept(data.shape)))

    def stretched(self, array, like):
        """`array`, of the result's shape, so that it broadcasts against `like`."""
        return array.reshape(self.kept(like.shape))


class Reduce(Reduction):
    """out = a number for each index of the axes that stay.

    `axis`: the axes that go, all without it; `exclude`: `axis` names those that stay; `keepdims`: they become 1.
    """

    axis: Shape | None = param(None, doc="axes to reduce; None or () = all")
    keepdims: bool = param(False, doc="keep the reduced axes with size 1")
    exclude: bool = param(False, doc="reduce all axes but `axis`")


@operator("sum", "sum_axis")
class Sum(Reduce):
    """out = the sum."""

    def forward(self, xp, data, *, out):
        self.reduce(xp.sum, data, out)

    def backward(self, xp, g, *, d_data=None):
        xp.copyto(d_data, self.stretched(g, d_data))


@operator("sum_mid_internal")
class SumMidInternal(Op):
    """out (N, M) = data (N, K, M) summed over its middle axis."""

    def infer_shape(self, data):
        if len(data) != 3:
            raise ValueError("data must have 3 axes")
        return {"out": (data[0], data[2])}

    def forward(self, xp, data, *, out):
        xp.sum(data, axis=1, out=out)

    def backward(self, xp, g, *, d_data=None):
        xp.copyto(d_data, g[:, None])


@operator("mean")
class Mean(Reduce):
    """out = the mean; of integers cut off."""

    def forward(self, xp, data, *, out):
        self.reduce(xp.sum, data, out)
        xp.divide(out, size(data.shape) // size(out.shape), out=out, casting="unsafe")

    def backward(self, xp, g, *, d_data=None):
        xp.divide(self.stretched(g, d_data), d_data.size // g.size, out=d_data)


@operator("prod")
class Prod(Reduce):
    """out = the product. The gradient is g * out / data, which is not a number where data is 0."""

    def forward(self, xp, data, *, out):
        self.reduce(xp.prod, data, out)

    def backward(self, xp, g, data, out, *, d_data=None):
        xp.divide(self.stretched(out, data), data, out=d_data)
        xp.multiply(d_data, self.stretched(g, data), out=d_data)


class Extreme(Reduce):
    """A largest or smallest element: every element that equals it gets the whole gradient."""

    def backward(self, xp, g, data, out, *, d_data=None):
        xp.equal(data, self.stretched(out, data), out=d_data)
        xp.multiply(d_data, self.stretched(g, data), out=d_data)


@operator("max", "max_axis")
class Max(Extreme):
    """out = the largest element."""

    def forward(self, xp, data, *, out):
        self.reduce(xp.max, data, out)


@operator("min", "min_axis")
class Min(Extreme):
    """out = the smallest element."""

    def forward(self, xp, data, *, out):
        self.reduce(xp.min, data, out)


@operator("nansum")
class NanSum(Reduce):
    """out = the sum of what is a number."""

    def forward(self, xp, data, *, out):
        self.reduce(xp.nansum, data, out)

    def backward(self, xp, g, data, *, d_data=None):
        xp.equal(data, data, out=d_data)
        xp.multiply(d_data, self.stretched(g, data), out=d_data)


@operator("nanprod")
class NanProd(Reduce):
    """out = the product of what is a number. The gradient is g * out / data, zero for what is none."""

    def forward(self, xp, data, *, out):
        self.reduce(xp.nanprod, data, out)

    def backward(self, xp, g, data, out, *, d_data=None):
        xp.divide(self.stretched(out, data), data, out=d_data)
        xp.multiply(d_data, self.stretched(g, data), out=d_data)
        xp.copyto(d_data, 0, where=data != data)


@operator("_square_sum")
class SquareSum(Reduce):
    """out = the sum of squares."""

    def scratch(self, shapes, dtype):
        return {"squares": (shapes["data"], dtype)}

    def forward(self, xp, data, *, out, squares):
        xp.multiply(data, data, out=squares)
        self.reduce(xp.sum, squares, out)

    def backward(self, xp, g, data, *, d_data=None):
        xp.multiply(data, self.stretched(g, data), out=d_data)
        xp.multiply(d_data, 2, out=d_data)


@operator("moments")
class Moments(Reduction):
    """output0 = the mean over `axes`, output1 = the variance: the mean square of what differs from the mean."""

    axes: Shape | None = param(None, doc="axes to reduce; None or () = all")
    keepdims: bool = param(False, doc="keep the reduced axes with size 1")

    def setup(self):
        self.axis = self.axes

    def outputs(self):
        return ("output0", "output1")

    def infer_shape(self, data):
        return dict.fromkeys(self.outputs(), self.result(data))

    def scratch(self, shapes, dtype):
        return {"parts": (shapes["data"], dtype)}

    def forward(self, xp, data, *, output0, output1, parts):
        count = data.size // output0.size
        self.reduce(xp.sum, data, output0)
        xp.divide(output0, count, out=output0, casting="unsafe")
        xp.subtract(data, self.stretched(output0, data), out=parts)
        xp.multiply(parts, parts, out=parts)
        self.reduce(xp.sum, parts, output1)
        xp.divide(output1, count, out=output1, casting="unsafe")

    def backward(self, xp, gs, data, output0, *, d_data=None):
        of_mean, of_variance = (self.stretched(g, data) for g in gs)
        xp.subtract(data, self.stretched(output0, data), out=d_data)
        xp.multiply(d_data, 2 * of_variance, out=d_data)
        xp.add(d_data, of_mean, out=d_data)
        xp.divide(d_data, data.size // output0.size, out=d_data)


@operator("norm")
class Norm(Reduction):
    """out = the sum of absolute values (`ord` 1), or the square root of the sum of squares (`ord` 2)."""

    ord: int = param(2, doc="which norm", choices=(1, 2))
    axis: Shape | None = param(None, doc="axes to reduce; None or () = all")
    out_dtype: np.dtype | None = param(None, doc="element type of the result, which must be data's")
    keepdims: bool = param(False, doc="keep the reduced axes with size 1")

    def infer_type(self, known):
        if self.out_dtype is None:
            return super().infer_type(known)
        return dict.fromkeys(known, self.out_dtype)

    def scratch(self, shapes, dtype):
        return {"parts": (shapes["data"], dtype)}

    def forward(self, xp, data, *, out, parts):
        if self.ord == 1:
            xp.absolute(data, out=parts)
            self.reduce(xp.sum, parts, out)
        else:
            xp.multiply(data, data, out=parts)
            self.reduce(xp.sum, parts, out)
            xp.sqrt(out, out=out, casting="unsafe")

    def backward(self, xp, g, data, out, *, d_data=None):
        if self.ord == 1:
            xp.sign(data, out=d_data)
        else:
            xp.divide(data, self.stretched(out, data), out=d_data)
        xp.multiply(d_data, self.stretched(g, data), out=d_data)


class ArgExtreme(Op):
    """The position of an element along `axis`, the first of equals, as a number of data's type. No gradient."""

    axis: int | None = param(None, doc="axis to look along; None = the flattened array")
    keepdims: bool = param(False, doc="keep the axis with size 1")

    def infer_shape(self, data):
        if self.axis is None:
            return {"out": (1,) * len(data) if self.keepdims else (1,)}
        axis = positive_axis(self.axis, len(data))
        rest = (*data[:axis], *((1,) if self.keepdims else ()), *data[axis + 1 :])
        return {"out": rest or (1,)}

    def position(self, function, data, out) -> None:
        out[...] = function(data, axis=self.axis).reshape(out.shape)


@operator("argmax")
class ArgMax(ArgExtreme):
    """out = the position of the largest element."""

    def forward(self, xp, data, *, out):
        self.position(xp.argmax, data, out)


@operator("argmin")
class ArgMin(ArgExtreme):
    """out = the position of the smallest element."""

    def forward(self, xp, data, *, out):
        self.position(xp.argmin, data, out)


@operator("argmax_channel")
class ArgMaxChannel(Op):
    """out (N, …) = the position along axis 1 of data's (N, C, …) largest element, as a number of data's type."""

    def infer_shape(self, data):
        if len(data) < 2:
            raise ValueError("data must have at least 2 axes")
        return {"out": data[:1] + data[2:]}

    def forward(self, xp, data, *, out):
        out[...] = xp.argmax(data, axis=1)


# ---- running sums ----


@operator("cumsum", "_np_cumsum")
class CumSum(Op):
    """out = the sum of all elements of a up to this one along `axis`; without it, a counts as flat."""

    axis: int | None = param(None, doc="axis along which to sum; None = the flattened array")
    dtype: np.dtype | None = param(None, doc="element type of the result; None = a's")

    def inputs(self):
        return ("a",)

    def infer_shape(self, a):
        if self.axis is None:
            return {"out": (size(a),)}
        positive_axis(self.axis, len(a))
        return {"out": a}

    def infer_type(self, known):
        return super().infer_type(known) if self.dtype is None else {"out": self.dtype}

    def forward(self, xp, a, *, out):
        xp.cumsum(a, axis=self.axis, dtype=out.dtype, out=out)

    def backward(self, xp, g, *, d_a=None):
        axis = 0 if self.axis is None else self.axis
        into = d_a.reshape(g.shape)
        xp.copyto(into, xp.flip(xp.cumsum(xp.flip(g, axis), axis=axis, dtype=d_a.dtype), axis))


# ---- over whole arrays ----


@operator("all_finite")
class AllFinite(Op):
    """out (1,), float32 = 1 if every element of data is a finite number, else 0."""

    init_output: bool = param(True, doc="there is no other way here: what out held counts for nothing")

    def infer_shape(self, data):
        return {"out": (1,)}

    def infer_type(self, known):
        return {"out": np.dtype("float32")}

    def forward(self, xp, data, *, out):
        out[0] = xp.isfinite(data).all()


class OverMany(Op):
    """Something about each of several arrays, as float32."""

    variadic = "num_arrays"

    num_arrays: int = param(1, doc="number of inputs", low=1)

    def inputs(self):
        return tuple(f"arg{i}" for i in range(self.num_arrays))

    def infer_type(self, known):
        inputs = [known[n] for n in self.inputs()]
        first = next((t for t in inputs if t is not None), None)
        return {**dict.fromkeys(self.inputs(), first), "out": np.dtype("float32")}


@operator("multi_all_finite")
class MultiAllFinite(OverMany):
    """out (1,), float32 = 1 if every element of every input is a finite number, else 0."""

    init_output: bool = param(True, doc="there is no other way here: what out held counts for nothing")

    def infer_shape(self, **known):
        return {"out": (1,)}

    def forward(self, xp, *args, out):
        out.fill(1)
        for array in args:
            xp.multiply(out, xp.isfinite(array).all(), out=out)


@operator("multi_sum_sq")
class MultiSumSq(OverMany):
    """out (`num_arrays`,), float32 = the sum of squares of each input."""

    def infer_shape(self, **known):
        return {"out": (self.num_arrays,)}

    def forward(self, xp, *args, out):
        for i, array in enumerate(args):
            flat = array.reshape(-1).astype("float32", copy=False)
            out[i] = xp.vdot(flat, flat)


@operator("_contrib_allclose")
class AllClose(Op):
    """out (1,), uint8 = 1 if |a - b| <= `atol` + `rtol` * |b| everywhere, else 0."""

    rtol: float = param(1e-5, doc="how much of |b| the difference may be")
    atol: float = param(1e-8, doc="how large the difference may be beside that")
    equal_nan: bool = param(True, doc="count two elements that are no numbers as equal")

    def inputs(self):
        return ("a", "b")

    def infer_shape(self, a=None, b=None):
        shape = agreed(a, b)
        return {"a": shape, "b": shape, "out": (1,)}

    def infer_type(self, known):
        return {**dict.fromkeys(("a", "b"), known["a"] or known["b"]), "out": np.dtype("uint8")}

    def forward(self, xp, a, b, *, out):
        out[0] = xp.allclose(a, b, rtol=self.rtol, atol=self.atol, equal_nan=self.equal_nan)


@operator("_histogram")
class Histogram(Op):
    """output0, int64 = how many elements of data lie in each bin, output1 = the bins' edges.

    bins (B + 1,) holds the edges; instead of it, `bin_cnt` bins of equal width lie in `range`. A bin holds its lower
    edge, the last one its upper edge, too. No gradient.
    """

    bin_cnt: int | None = param(None, doc="number of bins of equal width", low=1)
    range: Floats | None = param(None, doc="lower edge of the first bin and upper edge of the last")

    def setup(self):
        if (self.bin_cnt is None) != (self.range is None):
            raise ParameterError("_histogram: give both bin_cnt and range, or an array of edges as bins.")

    def inputs(self):
        return ("data", "bins") if self.bin_cnt is None else ("data",)

    def outputs(self):
        return ("output0", "output1")

    def infer_shape(self, bins=None, **known):
        edges = self.bin_cnt + 1 if self.bin_cnt is not None else bins and bins[0]
        return {"output0": edges and (edges - 1,), "output1": edges and (edges,)}

    def infer_type(self, known):
        values = known["data"]
        return {**dict.fromkeys(self.inputs(), values), "output0": np.dtype("int64"), "output1": values}

    def forward(self, xp, data, bins=None, *, output0, output1):
        if bins is None:
            xp.copyto(output1, xp.linspace(*self.range, self.bin_cnt + 1), casting="unsafe")
            counts, _ = xp.histogram(data, bins=self.bin_cnt, range=self.range)
        else:
            xp.copyto(output1, bins)
            counts, _ = xp.histogram(data, bins=bins)
        xp.copyto(output0, counts)
