"""Activations beyond those of `Activation`."""

from __future__ import annotations

import math

from raymx.errors import ParameterError
from raymx.ops.backend import special
from raymx.ops.elementwise import Unary
from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param
from raymx.ops.random import fill
from raymx.ops.shapes import agreed, sum_to

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848, 1.0507009873554804934  # Klambauer et al. 2017
_NEEDED = {"leaky": ("data",), "prelu": ("data", "gamma"), "rrelu": ("data", "mask"), "elu": ("out",), "selu": ("out",),
           "gelu": ("data",)}  # fmt: skip


@operator("LeakyReLU")
class LeakyReLU(Op):
    """out = data (N, C, …) where it is positive; elsewhere by `act_type`:

    leaky: slope * data; prelu: gamma (C,) * data, gamma is learnt, shape (1,) is one for all channels;
    rrelu: data times a random number from [lower_bound, upper_bound) in training, else times their middle, both kept in
    the hidden output `mask`; elu: slope * (e**data - 1);
    selu: 1.6732… * (e**data - 1), all times 1.0507…; gelu: data * the normal distribution function of data, everywhere.
    """

    kinds = "f"
    initial = {"gamma": '["Constant", {"value": 0.25}]'}
    act_type: str = param("leaky", doc="which function", choices=tuple(_NEEDED))
    slope: float = param(0.25, doc="factor below 0, for leaky and elu")
    lower_bound: float = param(0.125, doc="least random slope, for rrelu")
    upper_bound: float = param(0.334, doc="bound of the random slope, for rrelu")

    def setup(self):
        if self.act_type == "rrelu" and self.lower_bound > self.upper_bound:
            raise ParameterError(f"LeakyReLU: lower_bound {self.lower_bound} is above upper_bound {self.upper_bound}.")

    def inputs(self):
        return ("data", "gamma") if self.act_type == "prelu" else ("data",)

    def outputs(self):
        return ("out", "mask") if self.act_type == "rrelu" else ("out",)

    def visible_outputs(self):
        return 1

    def random(self):
        return self.act_type == "rrelu"

    def infer_shape(self, data=None, gamma=None, out=None):
        shape = agreed(data, out)
        known = {"data": shape, **dict.fromkeys(self.outputs(), shape)}
        if self.act_type == "prelu" and shape is not None:
            known["gamma"] = gamma if self._fits(gamma, shape) else (shape[1] if len(shape) > 1 else 1,)
        return known

    def _fits(self, gamma: Shape | None, data: Shape) -> bool:
        """Whether gamma has an entry, or 1, for each of data's axes up to the channels'."""
        return gamma is not None and len(gamma) <= 2 and all(
            n in (1, m) for n, m in zip(gamma[::-1], data[:2][::-1], strict=False)
        )  # fmt: skip

    def _stretched(self, gamma, data):
        """gamma so that it broadcasts against data, its last axis at the channels."""
        return gamma.reshape(gamma.shape + (1,) * (data.ndim - 2))

    def forward(self, xp, data, gamma=None, *, out, mask=None, is_train=False, rng=None):
        if self.act_type == "gelu":
            special(xp).erf(data * math.sqrt(0.5), out=out)
            xp.add(out, 1, out=out)
            xp.multiply(out, data, out=out)
            xp.multiply(out, 0.5, out=out)
        else:
            self._below(xp, data, gamma, out, mask, is_train, rng)
            xp.copyto(out, data, where=data > 0)
            if self.act_type == "selu":
                xp.multiply(out, _SELU_SCALE, out=out)

    def _below(self, xp, data, gamma, out, mask, is_train: bool, rng) -> None:
        """out = what stands for numbers below 0."""
        if self.act_type in ("elu", "selu"):
            xp.expm1(data, out=out)
            xp.multiply(out, self.slope if self.act_type == "elu" else _SELU_ALPHA, out=out)
        elif self.act_type == "prelu":
            xp.multiply(data, self._stretched(gamma, data), out=out)
        elif self.act_type == "rrelu":
            mask = out if mask is None else mask
            self._draw(xp, mask, is_train, rng)
            xp.multiply(data, mask, out=out)
        else:
            xp.multiply(data, self.slope, out=out)

    def _draw(self, xp, mask, is_train: bool, rng) -> None:
        if is_train:
            fill(xp, rng.random, mask)
            xp.multiply(mask, self.upper_bound - self.lower_bound, out=mask)
            xp.add(mask, self.lower_bound, out=mask)
        else:
            mask.fill((self.lower_bound + self.upper_bound) / 2)

    def backward_needs(self):
        return _NEEDED[self.act_type]

    def backward(self, xp, g, known, slopes=None, *, d_data=None, d_gamma=None):
        """`known` and `slopes` are what `_NEEDED` says."""
        if d_gamma is not None:
            sum_to(xp, xp.where(known > 0, 0, known) * g, self._stretched(d_gamma, known))
        if d_data is None:
            return
        if self.act_type == "gelu":
            self._bell_slope(xp, known, d_data)
            xp.multiply(d_data, g, out=d_data)
        elif self.act_type in ("elu", "selu"):
            selu = self.act_type == "selu"
            xp.add(known, _SELU_SCALE * _SELU_ALPHA if selu else self.slope, out=d_data)
            xp.copyto(d_data, _SELU_SCALE if selu else 1, where=known > 0)
            xp.multiply(d_data, g, out=d_data)
        else:
            xp.multiply(g, self._slopes(slopes, known), out=d_data)
            xp.copyto(d_data, g, where=known > 0)

    def _slopes(self, slopes, data):
        if self.act_type == "leaky":
            return self.slope
        return self._stretched(slopes, data) if self.act_type == "prelu" else slopes

    def _bell_slope(self, xp, data, slope) -> None:
        """slope = the normal distribution function of data, and data times its density."""
        special(xp).erf(data * math.sqrt(0.5), out=slope)
        xp.add(slope, 1, out=slope)
        xp.multiply(slope, 0.5, out=slope)
        xp.add(slope, data * xp.exp(data * data * -0.5) / math.sqrt(2 * math.pi), out=slope)


@operator("hard_sigmoid")
class HardSigmoid(Unary):
    """out = alpha * data + beta, held within 0 and 1."""

    kinds = "f"
    alpha: float = param(0.2, doc="slope in the middle")
    beta: float = param(0.5, doc="value at 0")

    def forward(self, xp, data, *, out):
        xp.multiply(data, self.alpha, out=out)
        xp.add(out, self.beta, out=out)
        xp.clip(out, 0, 1, out=out)

    def backward(self, xp, g, out, *, d_data=None):
        xp.logical_and(out > 0, out < 1, out=d_data)
        xp.multiply(d_data, self.alpha, out=d_data)
        xp.multiply(d_data, g, out=d_data)
