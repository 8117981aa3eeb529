"""Pairs of operators in one, which only the graph compiler puts into a graph: the values of the unfused pair, in fewer
passes over memory."""

from __future__ import annotations

import math

import numpy as np

from raymx.ops.convolution import Convolution
from raymx.ops.elementwise import ZERO, rectify
from raymx.ops.layers import Activation
from raymx.ops.layout import BLOCKED, fits
from raymx.ops.normalize import BatchNorm
from raymx.ops.op import Op, make, operator
from raymx.ops.params import param
from raymx.ops.shapes import agreed


@operator("_conv_act")
class ConvolutionActivation(Convolution):
    """out = Activation(Convolution(data, weight, bias)); backward reads the activation's slope from out."""

    act_type: str = param(doc="which function", choices=Activation.declared["act_type"].choices)

    def setup(self):
        super().setup()
        self.activation = make("Activation", act_type=self.act_type)

    def forward(self, xp, data, weight, bias=None, *, out, columns):
        super().forward(xp, data, weight, bias, out=out, columns=columns)
        self.activation.forward(xp, out, out=out)

    def scratch_backward(self, shapes, dtype):
        inner, alive = (shapes["g"], dtype), (shapes["g"], np.dtype("bool"))
        return {**super().scratch_backward(shapes, dtype), "inner": inner, "alive": alive}

    def backward(
        self, xp, g, data, weight, out, *, d_data=None, d_weight=None, d_bias=None, columns=None, product=None,
        inner, alive=None,
    ):  # fmt: skip
        self.activation.backward(xp, g, out, d_data=inner, alive=alive)
        super().backward(
            xp, inner, data, weight, d_data=d_data, d_weight=d_weight, d_bias=d_bias, columns=columns, product=product
        )


@operator("_batchnorm_relu")
class BatchNormRelu(BatchNorm):
    """out = max(BatchNorm(data), 0). The hidden output `mask` tells which elements are above 0: in bits, or in bytes
    where the channels do not fill blocks, as oneDNN has it."""

    def outputs(self):
        return ("out", "mean", "var", "mask")

    def visible_outputs(self):
        return 1

    def output_labels(self):
        return ("output", "mean", "var", "mask")

    def infer_shape(self, data=None, gamma=None, beta=None, moving_mean=None, moving_var=None, out=None):
        shapes = super().infer_shape(data, gamma, beta, moving_mean, moving_var, out)
        data = shapes["data"] or (0,)
        size = math.prod(data)
        if not size:
            return shapes
        return {**shapes, "mask": (-(-size // 8) if len(data) > 2 and fits(BLOCKED, data) else size,)}

    def infer_type(self, known):
        types = super().infer_type({n: t for n, t in known.items() if n != "mask"})
        return {**types, "mask": np.dtype("uint8")} if "mask" in known else types

    def forward(
        self, xp, data, gamma, beta, moving_mean, moving_var, *, out, mean=None, var=None, mask=None, is_train=False
    ):
        super().forward(
            xp, data, gamma, beta, moving_mean, moving_var, out=out, mean=mean, var=var, is_train=is_train
        )
        self.rectify(xp, out, mask)

    def rectify(self, xp, out, mask) -> None:
        """out = max(out, 0), and note where that is above 0."""
        rectify(xp, out, out)
        if mask is not None:
            alive = out > 0
            xp.copyto(mask, alive.reshape(-1) if mask.size == out.size else xp.packbits(alive, bitorder="little"))

    def gate(self, xp, g, mask, gated) -> None:
        """gated = g where the output is above 0, else 0."""
        alive = mask if mask.size == g.size else xp.unpackbits(mask, bitorder="little")[: g.size]
        xp.multiply(g, alive.reshape(g.shape), out=gated)

    def scratch_backward(self, shapes, dtype):
        return {**super().scratch_backward(shapes, dtype), "gated": (shapes["g"], dtype)}

    def backward(
        self, xp, g, data, gamma, mean, var, mask, moving_mean, moving_var, *, d_data=None, d_gamma=None, d_beta=None,
        is_train=False, centred, gated,
    ):  # fmt: skip
        self.gate(xp, g, mask, gated)
        super().backward(
            xp, gated, data, gamma, mean, var, moving_mean, moving_var, d_data=d_data, d_gamma=d_gamma, d_beta=d_beta,
            is_train=is_train, centred=centred,
        )  # fmt: skip


@operator("_add_relu")
class AddRelu(Op):
    """out (any) = max(lhs + rhs, 0)."""

    alike = True
    elementwise = True
    inplace = (("lhs", "out"), ("rhs", "out"))
    inplace_backward = (("g", "d_lhs"),)

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, lhs=None, rhs=None, out=None):
        return dict.fromkeys(("lhs", "rhs", "out"), agreed(lhs, rhs, out))

    def forward(self, xp, lhs, rhs, *, out):
        xp.add(lhs, rhs, out=out)
        rectify(xp, out, out)

    def backward(self, xp, g, out, *, d_lhs=None, d_rhs=None):
        target = d_rhs if d_lhs is None else d_lhs
        xp.multiply(g, xp.greater(out, ZERO.like(xp, out)), out=target)
        if d_lhs is not None and d_rhs is not None:
            xp.copyto(d_rhs, target)
