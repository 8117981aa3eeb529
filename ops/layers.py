"""Layers of networks."""

from __future__ import annotations

import math

from raymx.ops.elementwise import ZERO, Unary, rectify, sigmoid, sigmoid_slope, tanh_slope
from raymx.ops.op import Op, make, operator
from raymx.ops.params import Shape, param
from raymx.ops.random import fill_mask
from raymx.ops.shapes import agreed, positive_axes, reshaped
from raymx.ops.softmax import softmax, softmax_gradient


@operator("FullyConnected")
class FullyConnected(Op):
    """out (N, H) = data (N, …) flattened to (N, D) @ weight (H, D).T + bias (H,).

    With `flatten=False` only data's last axis is D, and out (…, H) keeps the others.
    """

    heavy = True
    addable = ("weight", "bias")
    num_hidden: int = param(doc="H, rows of the weight", low=1)
    no_bias: bool = param(False, doc="leave out the bias input")
    flatten: bool = param(True, doc="join all of data's axes but the first")

    def inputs(self):
        return ("data", "weight") if self.no_bias else ("data", "weight", "bias")

    def infer_shape(self, data=None, out=None):
        if data is None:
            return {}
        lead = self._lead(data)
        known = {"weight": (self.num_hidden, math.prod(data[len(lead) :])), "bias": (self.num_hidden,)}
        if self.no_bias:
            del known["bias"]
        if out is not None and len(out) == len(lead) + 1:
            lead = agreed(lead, out[:-1])
            known["data"] = lead + data[len(lead) :]
        return {**known, "out": (*lead, self.num_hidden)}

    def _lead(self, data: Shape) -> Shape:
        """The axes of data that out keeps."""
        return data[:1] if self.flatten else data[:-1]

    def rows(self, data: Shape) -> Shape:
        """Data as a matrix: (all that `_lead` holds, D)."""
        lead = self._lead(data)
        return math.prod(lead), math.prod(data[len(lead) :])

    def forward(self, xp, data, weight, bias=None, *, out):
        rows = data.reshape(self.rows(data.shape))
        xp.matmul(rows, weight.T, out=reshaped(out, (len(rows), self.num_hidden)))
        if bias is not None:
            xp.add(out, bias, out=out)

    def scratch_backward(self, shapes, dtype):
        return {"term": (shapes["d_weight"], dtype)} if "sum_weight" in shapes else {}

    def backward(self, xp, g, data, weight, *, d_data=None, d_weight=None, d_bias=None, add=(), term=None):
        shape = self.rows(data.shape)
        g = g.reshape(shape[0], self.num_hidden)
        if d_data is not None:
            xp.matmul(g, weight, out=reshaped(d_data, shape))
        if d_weight is not None:
            xp.matmul(g.T, data.reshape(shape), out=term if "weight" in add else d_weight)
            if "weight" in add:
                xp.add(d_weight, term, out=d_weight)
        if d_bias is not None and "bias" in add:
            xp.add(d_bias, xp.sum(g, axis=0), out=d_bias)
        elif d_bias is not None:
            xp.sum(g, axis=0, out=d_bias)


@operator("Activation")
class Activation(Unary):
    """out = f(data): relu max(x, 0), sigmoid 1 / (1 + e**-x), tanh, softrelu log(1 + e**x), softsign x / (1 + |x|)."""

    act_type: str = param(doc="which function", choices=("relu", "sigmoid", "tanh", "softrelu", "softsign"))

    def setup(self):
        self.kinds = "fiu" if self.act_type == "relu" else "f"
        if self.act_type == "relu":
            self.inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        if self.act_type == "relu":
            rectify(xp, data, out)
        elif self.act_type == "sigmoid":
            sigmoid(xp, data, out)
        elif self.act_type == "tanh":
            xp.tanh(data, out=out)
        elif self.act_type == "softrelu":
            xp.logaddexp(data, 0, out=out)
        else:
            xp.divide(data, 1 + xp.absolute(data), out=out)

    def scratch_backward(self, shapes, dtype):
        return {"alive": (shapes["out"], "bool")} if self.act_type == "relu" else {}

    def backward(self, xp, g, out, *, d_data=None, alive=None):
        if self.act_type == "relu":
            alive = alive.reshape(out.shape)  # which is another one where channels lie in blocks
            xp.greater(out, ZERO.like(xp, out), out=alive)
            xp.multiply(g, alive, out=d_data)
        else:
            self._slope(xp, out, d_data)
            xp.multiply(d_data, g, out=d_data)

    def _slope(self, xp, out, slope) -> None:
        """slope = f'(data), told from out = f(data)."""
        if self.act_type == "sigmoid":
            sigmoid_slope(xp, out, slope)
        elif self.act_type == "tanh":
            tanh_slope(xp, out, slope)
        elif self.act_type == "softrelu":  # 1 - e**-out
            xp.negative(out, out=slope)
            xp.expm1(slope, out=slope)
            xp.negative(slope, out=slope)
        else:  # (1 - |out|) ** 2
            xp.absolute(out, out=slope)
            xp.subtract(1, slope, out=slope)
            xp.multiply(slope, slope, out=slope)


@operator("Dropout")
class Dropout(Op):
    """In training out = data * mask, where mask is 0 with probability `p`, else 1 / (1 - p); otherwise out = data.

    The hidden output `mask` has data's shape, but 1 along `axes`: these are dropped as one. The numbers come from the
    device's seeded generator.
    """

    kinds = "f"
    elementwise = True
    inplace = (("data", "out"),)
    inplace_backward = (("g", "d_data"),)

    p: float = param(0.5, doc="probability that an element is dropped", low=0, high=1)
    mode: str = param("training", doc="`always`: drop when not training, too", choices=("training", "always"))
    axes: Shape = param((), doc="axes along which elements share their fate")
    cudnn_off: bool | None = param(False, doc="accepted and without effect")

    def outputs(self):
        return ("out", "mask")

    def visible_outputs(self):
        return 1

    def infer_shape(self, data=None, out=None):
        shape = agreed(data, out)
        return {"data": shape, "out": shape, "mask": None if shape is None else self._mask(shape)}

    def _mask(self, data: Shape) -> Shape:
        shared = positive_axes(self.axes, len(data))
        return tuple(1 if axis in shared else n for axis, n in enumerate(data))

    def forward(self, xp, data, *, out, mask=None, is_train=False, rng):
        mask = xp.empty(self._mask(out.shape), out.dtype) if mask is None else mask
        drops = is_train or self.mode == "always"
        fill_mask(xp, rng, mask, self.p if drops else 0)
        xp.multiply(data, mask, out=out)

    def backward(self, xp, g, mask, *, d_data=None):
        xp.multiply(g, mask, out=d_data)

    def remake(self):
        return make("_mul"), ("data", "mask"), ("out",)


@operator("SoftmaxActivation")
class SoftmaxActivation(Unary):
    """out = softmax of data along its last axis (`instance`), or along axis 1 (`channel`)."""

    kinds = "f"
    elementwise = False
    mode: str = param("instance", doc="over what", choices=("instance", "channel"))
    type: str | None = param(None, doc="2015's name of `mode`", choices=("instance", "channel"))

    def setup(self):
        self.along = 1 if (self.type or self.mode) == "channel" else -1

    def forward(self, xp, data, *, out):
        softmax(xp, data, out, self.along)

    def backward(self, xp, g, out, *, d_data=None):
        softmax_gradient(xp, g, out, d_data, self.along)
