"""Special functions: the error function and the gamma function with what belongs to them. SciPy and CuPy know them."""

from __future__ import annotations

import math

from raymx.ops.backend import special
from raymx.ops.elementwise import Unary
from raymx.ops.op import operator


@operator("erf")
class Erf(Unary):
    """out = 2 / sqrt(pi) times the integral of e ** -t**2 from 0 to data."""

    def forward(self, xp, data, *, out):
        special(xp).erf(data, out=out, casting="unsafe")

    def backward(self, xp, g, data, *, d_data=None):
        xp.multiply(data, data, out=d_data)
        xp.negative(d_data, out=d_data)
        xp.exp(d_data, out=d_data)
        xp.multiply(d_data, 2 / math.sqrt(math.pi), out=d_data)
        xp.multiply(d_data, g, out=d_data)


@operator("erfinv")
class Erfinv(Unary):
    """out = the number whose erf is data; not a number outside of [-1, 1]."""

    def forward(self, xp, data, *, out):
        special(xp).erfinv(data, out=out, casting="unsafe")

    def backward(self, xp, g, out, *, d_data=None):
        xp.multiply(out, out, out=d_data)
        xp.exp(d_data, out=d_data)
        xp.multiply(d_data, math.sqrt(math.pi) / 2, out=d_data)
        xp.multiply(d_data, g, out=d_data)


@operator("gamma")
class Gamma(Unary):
    """out = the gamma function of data: (n - 1)! of a whole number n."""

    def forward(self, xp, data, *, out):
        special(xp).gamma(data, out=out, casting="unsafe")

    def backward(self, xp, g, data, out, *, d_data=None):
        special(xp).psi(data, out=d_data, casting="unsafe")
        xp.multiply(d_data, out, out=d_data)
        xp.multiply(d_data, g, out=d_data)


@operator("gammaln")
class Gammaln(Unary):
    """out = the logarithm of the gamma function's magnitude."""

    def forward(self, xp, data, *, out):
        special(xp).gammaln(data, out=out, casting="unsafe")

    def backward(self, xp, g, data, *, d_data=None):
        special(xp).psi(data, out=d_data, casting="unsafe")
        xp.multiply(d_data, g, out=d_data)


@operator("digamma")
class Digamma(Unary):
    """out = the slope of gammaln at data."""

    def forward(self, xp, data, *, out):
        special(xp).psi(data, out=out, casting="unsafe")

    def backward(self, xp, g, data, *, d_data=None):
        slope = special(xp).polygamma(1, data)
        xp.multiply(slope, g, out=d_data, casting="unsafe")
