"""Softmax and its logarithm along one axis."""

from __future__ import annotations

import numpy as np

from raymx.ops.elementwise import Unary
from raymx.ops.op import operator
from raymx.ops.params import param
from raymx.ops.shapes import positive_axis

FLOATING = tuple(map(np.dtype, ("float16", "float32", "float64")))


def softmax(xp, data, out, axis: int) -> None:
    """out = e**data / sum(e**data) along `axis`; out may be data."""
    xp.subtract(data, xp.maximum.reduce(data, axis=axis, keepdims=True), out=out)
    xp.exp(out, out=out)
    xp.divide(out, xp.add.reduce(out, axis=axis, keepdims=True), out=out)


def softmax_gradient(xp, g, out, d_data, axis: int) -> None:
    """d_data = (g - sum(g * out)) * out along `axis`."""
    xp.multiply(g, out, out=d_data)
    total = d_data.sum(axis=axis, keepdims=True)
    xp.subtract(g, total, out=d_data)
    xp.multiply(d_data, out, out=d_data)


class AlongAxis(Unary):
    """A function of whole lines along `axis`; `temperature` divides data first."""

    kinds = "f"
    one_type = ("data", "out")
    elementwise = False

    axis: int = param(-1, doc="the axis whose elements sum to 1")
    temperature: float | None = param(None, doc="divides data; None = 1")
    dtype: np.dtype | None = param(None, doc="element type of the result; None = data's", choices=FLOATING)
    use_length: bool = param(False, doc="an input length says how much of each line counts; for softmax only")

    def setup(self):
        if self.dtype is not None:
            self.inplace = ()

    def infer_shape(self, data=None, out=None):
        shapes = super().infer_shape(data, out)
        if shapes["data"] is not None:
            positive_axis(self.axis, len(shapes["data"]))
        return shapes

    def infer_type(self, known):
        if self.dtype is not None:
            return {"out": self.dtype}
        return super().infer_type(known)

    def cooled(self, xp, data, out):
        """Data divided by the temperature, in `out` if that differs from data."""
        if self.temperature is None and self.dtype is None:
            return data
        if self.temperature is None:
            xp.copyto(out, data, casting="same_kind")
        else:
            xp.divide(data, self.temperature, out=out)
        return out


@operator("softmax")
class Softmax(AlongAxis):
    """out = e**data / sum(e**data) along `axis`. With `use_length`, only so many elements of each line count as length
    says, which has data's shape without `axis`; out is 0 at the others.
    """

    def inputs(self):
        return ("data", "length") if self.use_length else ("data",)

    def infer_shape(self, data=None, out=None):
        shapes = super().infer_shape(data, out)
        whole = shapes["data"]
        if self.use_length and whole is not None:
            axis = self.axis % len(whole)
            shapes["length"] = (whole[:axis] + whole[axis + 1 :]) or (1,)
        return shapes

    def forward(self, xp, data, length=None, *, out):
        if length is None:
            softmax(xp, self.cooled(xp, data, out), out, self.axis)
            return
        beyond = self._beyond(xp, data, length)
        xp.copyto(out, self.cooled(xp, data, out))
        xp.copyto(out, -np.inf, where=beyond)
        softmax(xp, out, out, self.axis)
        xp.copyto(out, 0, where=beyond)

    def _beyond(self, xp, data, length):
        """Where no element counts."""
        axis = self.axis % data.ndim
        place = xp.arange(data.shape[axis]).reshape((-1,) + (1,) * (data.ndim - 1 - axis))
        return place >= length.reshape(data.shape[:axis] + (1,) + data.shape[axis + 1 :])

    def backward(self, xp, g, out, *, d_data=None):
        softmax_gradient(xp, g, out, d_data, self.axis)
        if self.temperature is not None:
            xp.divide(d_data, self.temperature, out=d_data)


@operator("softmin")
class Softmin(AlongAxis):
    """out = e**-data / sum(e**-data) along `axis`."""

    def forward(self, xp, data, *, out):
        xp.negative(self.cooled(xp, data, out), out=out)
        softmax(xp, out, out, self.axis)

    def backward(self, xp, g, out, *, d_data=None):
        softmax_gradient(xp, g, out, d_data, self.axis)
        xp.divide(d_data, -(self.temperature or 1), out=d_data)


@operator("log_softmax")
class LogSoftmax(AlongAxis):
    """out = data - log(sum(e**data)) along `axis`."""

    def forward(self, xp, data, *, out):
        data = self.cooled(xp, data, out)
        xp.subtract(data, data.max(axis=self.axis, keepdims=True), out=out)
        xp.subtract(out, xp.log(xp.exp(out).sum(axis=self.axis, keepdims=True)), out=out)

    def backward(self, xp, g, out, *, d_data=None):
        xp.exp(out, out=d_data)
        xp.multiply(d_data, g.sum(axis=self.axis, keepdims=True), out=d_data)
        xp.subtract(g, d_data, out=d_data)
        if self.temperature is not None:
            xp.divide(d_data, self.temperature, out=d_data)
