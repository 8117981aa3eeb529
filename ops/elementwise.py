"""Functions of one array, element by element. Of integers they are computed exactly and cut off, as in C."""

from __future__ import annotations

import math

from raymx.ops.constant import Constant
from raymx.ops.op import Op, Pairs, operator
from raymx.ops.params import param
from raymx.ops.shapes import agreed

ZERO, INFINITY = Constant(0), Constant(float("inf"))


class Unary(Op):
    """out (any) = f(data (any)); shapes are inferred in both directions."""

    inplace: Pairs = (("data", "out"),)
    elementwise = True

    def infer_shape(self, data=None, out=None):
        shape = agreed(data, out)
        return {"data": shape, "out": shape}


@operator("_copy", "identity", "_identity", "_copyto", "_CrossDeviceCopy")
class Copy(Unary):
    """out = data."""

    view = True
    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        xp.copyto(out, data)

    def backward(self, xp, g, *, d_data=None):
        xp.copyto(d_data, g)


@operator("BlockGrad", "stop_gradient")
class BlockGrad(Unary):
    """out = data; no gradient passes."""

    view = True

    def forward(self, xp, data, *, out):
        xp.copyto(out, data)


@operator("_identity_with_attr_like_rhs")
class LikeRight(Op):
    """out = lhs (any), which has the shape of rhs; no gradient for rhs."""

    inplace: Pairs = (("lhs", "out"),)
    inplace_backward = (("g", "d_lhs"),)

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, lhs=None, rhs=None, out=None):
        return dict.fromkeys(("lhs", "rhs", "out"), agreed(lhs, rhs, out))

    def forward(self, xp, lhs, rhs, *, out):
        xp.copyto(out, lhs)

    def backward(self, xp, g, *, d_lhs=None):
        xp.copyto(d_lhs, g)


@operator("zeros_like")
class ZerosLike(Unary):
    """out = zeros of data's shape and dtype."""

    def forward(self, xp, data, *, out):
        out.fill(0)


@operator("ones_like")
class OnesLike(Unary):
    """out = ones of data's shape and dtype."""

    def forward(self, xp, data, *, out):
        out.fill(1)


@operator("logical_not")
class LogicalNot(Unary):
    """out = 1 where data is 0, else 0; no gradient."""

    def forward(self, xp, data, *, out):
        xp.logical_not(data, out=out, casting="unsafe")


@operator("negative", "_neg")
class Negative(Unary):
    """out = -data."""

    kinds = "fiu"
    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        xp.negative(data, out=out)

    def backward(self, xp, g, *, d_data=None):
        xp.negative(g, out=d_data)


@operator("abs")
class Abs(Unary):
    """out = |data|; the gradient at 0 is 0."""

    def forward(self, xp, data, *, out):
        xp.absolute(data, out=out)

    def backward(self, xp, g, data, *, d_data=None):
        xp.sign(data, out=d_data)
        xp.multiply(d_data, g, out=d_data)


@operator("sign")
class Sign(Unary):
    """out = -1, 0 or 1; the gradient is zero."""

    kinds = "fiu"

    def forward(self, xp, data, *, out):
        xp.sign(data, out=out)


@operator("round")
class Round(Unary):
    """out = the nearest whole number, halves away from zero; no gradient."""

    kinds = "fiu"

    def forward(self, xp, data, *, out):
        whole = xp.trunc(data)
        xp.add(whole, xp.trunc((data - whole) * 2), out=out)


@operator("rint")
class Rint(Unary):
    """out = the nearest whole number, halves to the one below; no gradient."""

    kinds = "fiu"

    def forward(self, xp, data, *, out):
        below = xp.floor(data)
        xp.add(below, data - below > 0.5, out=out, casting="unsafe")


@operator("ceil")
class Ceil(Unary):
    """out = the next whole number above; no gradient."""

    def forward(self, xp, data, *, out):
        xp.ceil(data, out=out, casting="unsafe")


@operator("floor")
class Floor(Unary):
    """out = the next whole number below; no gradient."""

    def forward(self, xp, data, *, out):
        xp.floor(data, out=out, casting="unsafe")


@operator("trunc", "fix")
class Trunc(Unary):
    """out = the next whole number towards zero; no gradient."""

    def forward(self, xp, data, *, out):
        xp.trunc(data, out=out, casting="unsafe")


@operator("square")
class Square(Unary):
    """out = data ** 2."""

    def forward(self, xp, data, *, out):
        xp.multiply(data, data, out=out)

    def backward(self, xp, g, data, *, d_data=None):
        xp.multiply(data, g, out=d_data)
        xp.add(d_data, d_data, out=d_data)


@operator("sqrt")
class Sqrt(Unary):
    """out = data ** 0.5."""

    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        xp.sqrt(data, out=out, casting="unsafe")

    def backward(self, xp, g, out, *, d_data=None):
        xp.divide(g, out, out=d_data)
        xp.multiply(d_data, 0.5, out=d_data)


@operator("rsqrt")
class Rsqrt(Unary):
    """out = data ** -0.5."""

    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        xp.divide(1, xp.sqrt(data), out=out, casting="unsafe")

    def backward(self, xp, g, data, out, *, d_data=None):
        xp.multiply(g, out, out=d_data)
        xp.divide(d_data, data, out=d_data)
        xp.multiply(d_data, -0.5, out=d_data)


@operator("reciprocal")
class Reciprocal(Unary):
    """out = 1 / data."""

    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        xp.divide(1, data, out=out, casting="unsafe")

    def backward(self, xp, g, out, *, d_data=None):
        xp.multiply(g, out, out=d_data)
        xp.multiply(d_data, out, out=d_data)
        xp.negative(d_data, out=d_data)


@operator("cbrt")
class Cbrt(Unary):
    """out = the cube root of data."""

    def forward(self, xp, data, *, out):
        xp.cbrt(data, out=out, casting="unsafe")

    def backward(self, xp, g, out, *, d_data=None):
        xp.multiply(out, out, out=d_data)
        xp.multiply(d_data, 3, out=d_data)
        xp.divide(g, d_data, out=d_data)


@operator("rcbrt")
class Rcbrt(Unary):
    """out = 1 / the cube root of data."""

    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        xp.divide(1, xp.cbrt(data), out=out, casting="unsafe")

    def backward(self, xp, g, data, out, *, d_data=None):
        xp.multiply(g, out, out=d_data)
        xp.divide(d_data, data, out=d_data)
        xp.divide(d_data, -3, out=d_data)


@operator("exp")
class Exp(Unary):
    """out = e ** data."""

    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        xp.exp(data, out=out, casting="unsafe")

    def backward(self, xp, g, out, *, d_data=None):
        xp.multiply(g, out, out=d_data)


@operator("expm1")
class Expm1(Unary):
    """out = e ** data - 1, exact near 0."""

    def forward(self, xp, data, *, out):
        xp.expm1(data, out=out, casting="unsafe")

    def backward(self, xp, g, out, *, d_data=None):
        xp.add(out, 1, out=d_data)
        xp.multiply(d_data, g, out=d_data)


@operator("log")
class Log(Unary):
    """out = the natural logarithm of data."""

    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        xp.log(data, out=out, casting="unsafe")

    def backward(self, xp, g, data, *, d_data=None):
        xp.divide(g, data, out=d_data)


class LogOfBase(Unary):
    """A logarithm of another base, whose natural logarithm is `scale`."""

    scale: float
    inplace_backward = (("g", "d_data"),)

    def backward(self, xp, g, data, *, d_data=None):
        xp.divide(g, data, out=d_data)
        xp.divide(d_data, self.scale, out=d_data)


@operator("log2")
class Log2(LogOfBase):
    """out = the logarithm of data to the base 2."""

    scale = math.log(2)

    def forward(self, xp, data, *, out):
        xp.log2(data, out=out, casting="unsafe")


@operator("log10")
class Log10(LogOfBase):
    """out = the logarithm of data to the base 10."""

    scale = math.log(10)

    def forward(self, xp, data, *, out):
        xp.log10(data, out=out, casting="unsafe")


@operator("log1p")
class Log1p(Unary):
    """out = log(1 + data), exact near 0."""

    def forward(self, xp, data, *, out):
        xp.log1p(data, out=out, casting="unsafe")

    def backward(self, xp, g, data, *, d_data=None):
        xp.add(data, 1, out=d_data)
        xp.divide(g, d_data, out=d_data)


@operator("tanh")
class Tanh(Unary):
    """out = the hyperbolic tangent of data."""

    def forward(self, xp, data, *, out):
        xp.tanh(data, out=out, casting="unsafe")

    def backward(self, xp, g, out, *, d_data=None):
        tanh_slope(xp, out, d_data)
        xp.multiply(d_data, g, out=d_data)


@operator("sigmoid")
class Sigmoid(Unary):
    """out = 1 / (1 + e ** -data)."""

    kinds = "fiu"

    def forward(self, xp, data, *, out):
        sigmoid(xp, data, out)

    def backward(self, xp, g, out, *, d_data=None):
        sigmoid_slope(xp, out, d_data)
        xp.multiply(d_data, g, out=d_data)


@operator("softsign")
class Softsign(Unary):
    """out = data / (1 + |data|)."""

    kinds = "fiu"

    def forward(self, xp, data, *, out):
        xp.divide(data, 1 + xp.absolute(data), out=out, casting="unsafe")

    def backward(self, xp, g, data, *, d_data=None):
        xp.absolute(data, out=d_data)
        xp.add(d_data, 1, out=d_data)
        xp.multiply(d_data, d_data, out=d_data)
        xp.divide(g, d_data, out=d_data)


@operator("relu")
class Relu(Unary):
    """out = max(data, 0)."""

    kinds = "fiu"

    def forward(self, xp, data, *, out):
        rectify(xp, data, out)

    def backward(self, xp, g, out, *, d_data=None):
        xp.greater(out, 0, out=d_data)
        xp.multiply(d_data, g, out=d_data)


@operator("_contrib_quadratic")
class Quadratic(Unary):
    """out = `a` * data ** 2 + `b` * data + `c`."""

    a: float = param(0.0, doc="factor of data's square")
    b: float = param(0.0, doc="factor of data")
    c: float = param(0.0, doc="what is added")

    inplace = ()

    def setup(self):
        self.numbers = [Constant(n) for n in (self.a, self.b, self.c)]

    def forward(self, xp, data, *, out):
        a, b, c = (n.like(xp, data) for n in self.numbers)
        xp.multiply(data, a, out=out)
        xp.add(out, b, out=out)
        xp.multiply(out, data, out=out)
        xp.add(out, c, out=out)

    def backward(self, xp, g, data, *, d_data=None):
        a, b, _ = (n.like(xp, data) for n in self.numbers)
        xp.multiply(data, a + a, out=d_data)
        xp.add(d_data, b, out=d_data)
        xp.multiply(d_data, g, out=d_data)


@operator("_contrib_div_sqrt_dim")
class DivSqrtDim(Unary):
    """out (…, K) = data divided by the square root of K."""

    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        xp.divide(data, math.sqrt(data.shape[-1]), out=out, casting="unsafe")

    def backward(self, xp, g, *, d_data=None):
        xp.divide(g, math.sqrt(g.shape[-1]), out=d_data)


@operator("_contrib_gradientmultiplier")
class GradientMultiplier(Unary):
    """out = data; the gradient is multiplied by `scalar`."""

    inplace_backward = (("g", "d_data"),)
    view = True

    scalar: int | float = param(1, doc="factor of the gradient")

    def setup(self):
        self.number = Constant(self.scalar)

    def forward(self, xp, data, *, out):
        xp.copyto(out, data)

    def backward(self, xp, g, *, d_data=None):
        xp.multiply(g, self.number.like(xp, g), out=d_data)


class StraightThrough(Unary):
    """A step function whose gradient counts as that of data itself."""

    kinds = "fiu"
    inplace_backward = (("g", "d_data"),)

    def backward(self, xp, g, *, d_data=None):
        xp.copyto(d_data, g)


@operator("_contrib_round_ste")
class RoundSte(StraightThrough):
    """out = the nearest whole number, halves away from zero; the gradient passes as it is."""

    forward = Round.forward


@operator("_contrib_sign_ste")
class SignSte(StraightThrough):
    """out = -1, 0 or 1; the gradient passes as it is."""

    forward = Sign.forward


@operator("clip")
class Clip(Unary):
    """out = data held within [a_min, a_max]; the gradient passes where data lies within, bounds included."""

    a_min: float = param(doc="lower bound")
    a_max: float = param(doc="upper bound")

    def setup(self):
        self.low, self.high = Constant(self.a_min), Constant(self.a_max)

    def forward(self, xp, data, *, out):
        data.clip(self.low.like(xp, data), self.high.like(xp, data), out=out)

    def backward(self, xp, g, data, *, d_data=None):
        inside = (data >= self.low.like(xp, data)) & (data <= self.high.like(xp, data))
        xp.multiply(g, inside, out=d_data)


def rectify(xp, data, out) -> None:
    """out = max(data, 0). NumPy's clip takes a third of the time of its maximum with a number."""
    if data.dtype.kind == "f":
        data.clip(ZERO.like(xp, data), INFINITY.like(xp, data), out=out)
    else:
        xp.maximum(data, 0, out=out)


def sigmoid(xp, data, out) -> None:
    """out = 1 / (1 + e ** -data)."""
    xp.negative(data, out=out)
    xp.exp(out, out=out, casting="unsafe")
    xp.add(out, 1, out=out)
    xp.divide(1, out, out=out, casting="unsafe")


def sigmoid_slope(xp, out, slope) -> None:
    """slope = out * (1 - out)."""
    xp.subtract(1, out, out=slope)
    xp.multiply(slope, out, out=slope)


def tanh_slope(xp, out, slope) -> None:
    """slope = 1 - out ** 2."""
    xp.multiply(out, out, out=slope)
    xp.subtract(1, slope, out=slope)
