"""Softmax and its logarithm along one axis."""

from __future__ import annotations

from raymx.ops.elementwise import Unary
from raymx.ops.op import operator
from raymx.ops.params import param
from raymx.ops.shapes import positive_axis


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
    elementwise = False
    axis: int = param(-1, doc="the axis whose elements sum to 1")
    temperature: float | None = param(None, doc="divides data; None = 1")

    def infer_shape(self, data=None, out=None):
        shapes = super().infer_shape(data, out)
        if shapes["data"] is not None:
            positive_axis(self.axis, len(shapes["data"]))
        return shapes

    def cooled(self, xp, data, out):
        """Data divided by the temperature, in `out` if there is one."""
        if self.temperature is None:
            return data
        xp.divide(data, self.temperature, out=out)
        return out


@operator("softmax")
class Softmax(AlongAxis):
    """out = e**data / sum(e**data) along `axis`."""

    def forward(self, xp, data, *, out):
        softmax(xp, self.cooled(xp, data, out), out, self.axis)

    def backward(self, xp, g, out, *, d_data=None):
        softmax_gradient(xp, g, out, d_data, self.axis)
        self.cooled(xp, d_data, d_data)


@operator("softmin")
class Softmin(AlongAxis):
    """out = e**-data / sum(e**-data) along `axis`."""

    def forward(self, xp, data, *, out):
        xp.negative(self.cooled(xp, data, out), out=out)
        softmax(xp, out, out, self.axis)

    def backward(self, xp, g, out, *, d_data=None):
        softmax_gradient(xp, g, out, d_data, self.axis)
        xp.negative(self.cooled(xp, d_data, d_data), out=d_data)


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
        self.cooled(xp, d_data, d_data)
