"""Small operators of MXNet's contrib family."""

from __future__ import annotations

import math

from raymx.ops.elementwise import Unary
from raymx.ops.op import operator
from raymx.ops.params import param


@operator("_contrib_div_sqrt_dim")
class DivSqrtDim(Unary):
    """out = data (…, D) / sqrt(D)."""

    kinds = "f"
    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        xp.multiply(data, 1 / math.sqrt(data.shape[-1]), out=out)

    def backward(self, xp, g, *, d_data=None):
        self.forward(xp, g, out=d_data)


@operator("_contrib_quadratic")
class Quadratic(Unary):
    """out = a * data**2 + b * data + c."""

    kinds = "fiu"
    a: float = param(0.0, doc="factor of the square")
    b: float = param(0.0, doc="factor of data")
    c: float = param(0.0, doc="summand")

    inplace = ()

    def forward(self, xp, data, *, out):
        xp.multiply(data, self.a, out=out, casting="unsafe")
        xp.add(out, self.b, out=out, casting="unsafe")
        xp.multiply(out, data, out=out)
        xp.add(out, self.c, out=out, casting="unsafe")

    def backward(self, xp, g, data, *, d_data=None):
        xp.multiply(data, 2 * self.a, out=d_data)
        xp.add(d_data, self.b, out=d_data)
        xp.multiply(d_data, g, out=d_data)
