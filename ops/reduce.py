"""Reductions of an array over some axes. Over all of them the result has shape (1,), as there are no 0-d arrays."""

from __future__ import annotations

from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param
from raymx.ops.shapes import positive_axes, positive_axis, size


class Reduce(Op):
    """out = a number for each index of the axes that stay.

    `axis`: the axes that go, all without it; `exclude`: `axis` names those that stay; `keepdims`: they become 1.
    """

    axis: Shape | None = param(None, doc="axes to reduce; None or () = all")
    keepdims: bool = param(False, doc="keep the reduced axes with size 1")
    exclude: bool = param(False, doc="reduce all axes but `axis`")

    def axes(self, ndim: int) -> Shape:
        """The axes that are reduced, from the front."""
        if not self.axis:
            return tuple(range(ndim))
        named = positive_axes(self.axis, ndim)
        return tuple(a for a in range(ndim) if a not in named) if self.exclude else named

    def kept(self, data: Shape) -> Shape:
        """The result's shape with the reduced axes as 1: it broadcasts against data."""
        axes = self.axes(len(data))
        return tuple(1 if a in axes else n for a, n in enumerate(data))

    def infer_shape(self, data):
        if self.keepdims:
            return {"out": self.kept(data)}
        axes = self.axes(len(data))
        return {"out": tuple(n for a, n in enumerate(data) if a not in axes) or (1,)}

    def reduce(self, function, data, out) -> None:
        """out = function(data), one of `xp`'s reductions."""
        function(data, axis=self.axes(data.ndim), keepdims=True, out=out.reshape(self.kept(data.shape)))

    def stretched(self, array, like):
        """`array`, of the result's shape, so that it broadcasts against `like`."""
        return array.reshape(self.kept(like.shape))


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


@operator("norm")
class Norm(Reduce):
    """out = the sum of absolute values (`ord` 1), or the square root of the sum of squares (`ord` 2)."""

    ord: int = param(2, doc="which norm", choices=(1, 2))

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
