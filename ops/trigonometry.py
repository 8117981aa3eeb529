"""Sines and their like: of angles in radians, hyperbolic, and their inverses."""

from __future__ import annotations

from raymx.ops.elementwise import Unary
from raymx.ops.op import operator


@operator("cos")
class Cos(Unary):
    """out = cos(data), data in radians."""

    def forward(self, xp, data, *, out):
        xp.cos(data, out=out, casting="unsafe")

    def backward(self, xp, g, data, *, d_data=None):
        xp.sin(data, out=d_data)
        xp.multiply(d_data, g, out=d_data)
        xp.negative(d_data, out=d_data)


@operator("sin")
class Sin(Unary):
    """out = sin(data), data in radians."""

    def forward(self, xp, data, *, out):
        xp.sin(data, out=out, casting="unsafe")

    def backward(self, xp, g, data, *, d_data=None):
        xp.cos(data, out=d_data)
        xp.multiply(d_data, g, out=d_data)


@operator("tan")
class Tan(Unary):
    """out = tan(data), data in radians."""

    def forward(self, xp, data, *, out):
        xp.tan(data, out=out, casting="unsafe")

    def backward(self, xp, g, out, *, d_data=None):
        xp.multiply(out, out, out=d_data)
        xp.add(d_data, 1, out=d_data)
        xp.multiply(d_data, g, out=d_data)


@operator("arcsin")
class Arcsin(Unary):
    """out = the angle in radians whose sine is data."""

    def forward(self, xp, data, *, out):
        xp.arcsin(data, out=out, casting="unsafe")

    def backward(self, xp, g, data, *, d_data=None):
        xp.multiply(data, data, out=d_data)
        xp.subtract(1, d_data, out=d_data)
        xp.sqrt(d_data, out=d_data)
        xp.divide(g, d_data, out=d_data)


@operator("arccos")
class Arccos(Unary):
    """out = the angle in radians whose cosine is data."""

    def forward(self, xp, data, *, out):
        xp.arccos(data, out=out, casting="unsafe")

    def backward(self, xp, g, data, *, d_data=None):
        xp.multiply(data, data, out=d_data)
        xp.subtract(1, d_data, out=d_data)
        xp.sqrt(d_data, out=d_data)
        xp.divide(g, d_data, out=d_data)
        xp.negative(d_data, out=d_data)


@operator("arctan")
class Arctan(Unary):
    """out = the angle in radians whose tangent is data."""

    def forward(self, xp, data, *, out):
        xp.arctan(data, out=out, casting="unsafe")

    def backward(self, xp, g, data, *, d_data=None):
        xp.multiply(data, data, out=d_data)
        xp.add(d_data, 1, out=d_data)
        xp.divide(g, d_data, out=d_data)


@operator("sinh")
class Sinh(Unary):
    """out = the hyperbolic sine of data."""

    def forward(self, xp, data, *, out):
        xp.sinh(data, out=out, casting="unsafe")

    def backward(self, xp, g, data, *, d_data=None):
        xp.cosh(data, out=d_data)
        xp.multiply(d_data, g, out=d_data)


@operator("cosh")
class Cosh(Unary):
    """out = the hyperbolic cosine of data."""

    def forward(self, xp, data, *, out):
        xp.cosh(data, out=out, casting="unsafe")

    def backward(self, xp, g, data, *, d_data=None):
        xp.sinh(data, out=d_data)
        xp.multiply(d_data, g, out=d_data)


@operator("arcsinh")
class Arcsinh(Unary):
    """out = the number whose hyperbolic sine is data."""

    def forward(self, xp, data, *, out):
        xp.arcsinh(data, out=out, casting="unsafe")

    def backward(self, xp, g, data, *, d_data=None):
        xp.multiply(data, data, out=d_data)
        xp.add(d_data, 1, out=d_data)
        xp.sqrt(d_data, out=d_data)
        xp.divide(g, d_data, out=d_data)


@operator("arccosh")
class Arccosh(Unary):
    """out = the number of at least 0 whose hyperbolic cosine is data."""

    def forward(self, xp, data, *, out):
        xp.arccosh(data, out=out, casting="unsafe")

    def backward(self, xp, g, data, *, d_data=None):
        xp.multiply(data, data, out=d_data)
        xp.subtract(d_data, 1, out=d_data)
        xp.sqrt(d_data, out=d_data)
        xp.divide(g, d_data, out=d_data)


@operator("arctanh")
class Arctanh(Unary):
    """out = the number whose hyperbolic tangent is data."""

    def forward(self, xp, data, *, out):
        xp.arctanh(data, out=out, casting="unsafe")

    def backward(self, xp, g, data, *, d_data=None):
        xp.multiply(data, data, out=d_data)
        xp.subtract(1, d_data, out=d_data)
        xp.divide(g, d_data, out=d_data)


@operator("degrees")
class Degrees(Unary):
    """out = data, in radians, as degrees."""

    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        xp.degrees(data, out=out, casting="unsafe")

    def backward(self, xp, g, *, d_data=None):
        xp.degrees(g, out=d_data)


@operator("radians")
class Radians(Unary):
    """out = data, in degrees, as radians."""

    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        xp.radians(data, out=out, casting="unsafe")

    def backward(self, xp, g, *, d_data=None):
        xp.radians(g, out=d_data)
