"""Arithmetic and comparison of two arrays, of broadcast arrays, and of an array and a number; sums of many arrays.

Results have the dtype of the operands: integers stay integers (a quotient is cut off, a number is converted first), and
a comparison gives 0 or 1.
"""

from __future__ import annotations

from raymx.ops.constant import Constant
from raymx.ops.op import Op, Pairs, make, operator
from raymx.ops.params import param
from raymx.ops.shapes import agreed, broadcast, sum_to


class Binary(Op):
    """out (any) = f(lhs (any), rhs (any)), all of one shape, inferred in every direction.

    Backward is written for the broadcasting form too: a gradient goes into `room(...)`, which is the destination itself
    or, where that was stretched, the scratch array `wide`; `fold` then sums it into the destination.
    """

    inplace: Pairs = (("lhs", "out"), ("rhs", "out"))
    elementwise = True

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, lhs=None, rhs=None, out=None):
        shape = agreed(lhs, rhs, out)
        return {"lhs": shape, "rhs": shape, "out": shape}


class Broadcasting(Op):
    """The broadcasting form of a Binary: size-1 axes stretch, a lower rank gets axes of size 1 in front."""

    inplace = ()
    inplace_backward = ()
    elementwise = False
    passes = ()

    def infer_shape(self, lhs, rhs):
        return {"out": broadcast(lhs, rhs)}

    def scratch_backward(self, shapes, dtype):
        stretched = any(shapes.get(d, shapes["g"]) != shapes["g"] for d in ("d_lhs", "d_rhs"))
        return {"wide": (shapes["g"], dtype)} if stretched and self.backward_names.takes("wide") else {}


def room(destination, g, wide):
    """Where to compute a gradient of `g`'s shape that is meant for `destination`."""
    return destination if destination.shape == g.shape else wide


def fold(xp, value, destination) -> None:
    """Bring what was computed in `room` to its destination."""
    if value is not destination:
        sum_to(xp, value, destination)


# ---- sums, products, quotients, powers ----


@operator("_plus", "_Plus", "elemwise_add", "_add")
class Plus(Binary):
    """out = lhs + rhs."""

    inplace_backward = (("g", "d_lhs"),)
    passes: tuple[str, ...] = ("lhs", "rhs")

    def forward(self, xp, lhs, rhs, *, out):
        xp.add(lhs, rhs, out=out)

    def backward(self, xp, g, *, d_lhs=None, d_rhs=None):
        if d_rhs is not None:
            sum_to(xp, g, d_rhs)
        if d_lhs is not None:
            sum_to(xp, g, d_lhs)


@operator("_minus", "_Minus", "elemwise_sub", "_sub")
class Minus(Binary):
    """out = lhs - rhs."""

    kinds = "fiu"
    inplace_backward = (("g", "d_lhs"),)
    passes: tuple[str, ...] = ("lhs",)

    def forward(self, xp, lhs, rhs, *, out):
        xp.subtract(lhs, rhs, out=out)

    def backward(self, xp, g, *, d_lhs=None, d_rhs=None):
        if d_rhs is not None:
            sum_to(xp, g, d_rhs)
            xp.negative(d_rhs, out=d_rhs)
        if d_lhs is not None:
            sum_to(xp, g, d_lhs)


@operator("_mul", "_Mul", "elemwise_mul")
class Mul(Binary):
    """out = lhs * rhs."""

    inplace_backward = (("g", "d_lhs"),)

    def forward(self, xp, lhs, rhs, *, out):
        xp.multiply(lhs, rhs, out=out)

    def backward(self, xp, g, lhs, rhs, *, d_lhs=None, d_rhs=None, wide=None):
        if d_rhs is not None:
            into = room(d_rhs, g, wide)
            xp.multiply(g, lhs, out=into)
            fold(xp, into, d_rhs)
        if d_lhs is not None:
            into = room(d_lhs, g, wide)
            xp.multiply(g, rhs, out=into)
            fold(xp, into, d_lhs)


@operator("_div", "_Div", "elemwise_div")
class Div(Binary):
    """out = lhs / rhs; of integers cut off towards zero."""

    inplace_backward = (("g", "d_lhs"),)

    def forward(self, xp, lhs, rhs, *, out):
        divide(xp, lhs, rhs, out)

    def backward(self, xp, g, lhs, rhs, *, d_lhs=None, d_rhs=None, wide=None):
        if d_rhs is not None:
            into = room(d_rhs, g, wide)
            xp.multiply(g, lhs, out=into)
            xp.divide(into, rhs, out=into)
            xp.divide(into, rhs, out=into)
            xp.negative(into, out=into)
            fold(xp, into, d_rhs)
        if d_lhs is not None:
            into = room(d_lhs, g, wide)
            xp.divide(g, rhs, out=into)
            fold(xp, into, d_lhs)


@operator("_mod", "_Mod")
class Mod(Binary):
    """out = lhs - floor(lhs / rhs) * rhs, of rhs's sign; 0 where rhs is 0."""

    kinds = "fiu"
    inplace = (("lhs", "out"),)
    inplace_backward = (("g", "d_lhs"),)

    def forward(self, xp, lhs, rhs, *, out):
        modulo(xp, lhs, rhs, out)

    def backward(self, xp, g, lhs, rhs, *, d_lhs=None, d_rhs=None, wide=None):
        if d_rhs is not None:
            into = room(d_rhs, g, wide)
            xp.floor_divide(lhs, rhs, out=into)
            xp.multiply(into, g, out=into)
            xp.negative(into, out=into)
            fold(xp, into, d_rhs)
        if d_lhs is not None:
            sum_to(xp, g, d_lhs)


@operator("_power", "_Power")
class Power(Binary):
    """out = lhs ** rhs."""

    def forward(self, xp, lhs, rhs, *, out):
        power(xp, lhs, rhs, out)

    def backward(self, xp, g, lhs, rhs, out, *, d_lhs=None, d_rhs=None, wide=None):
        if d_rhs is not None:  # out * log(lhs)
            into = room(d_rhs, g, wide)
            xp.copyto(into, lhs)
            xp.log(into, out=into)
            xp.multiply(into, out, out=into)
            xp.multiply(into, g, out=into)
            fold(xp, into, d_rhs)
        if d_lhs is not None:  # rhs * lhs ** (rhs - 1)
            into = room(d_lhs, g, wide)
            xp.copyto(into, rhs)
            xp.subtract(into, 1, out=into)
            xp.power(lhs, into, out=into)
            xp.multiply(into, rhs, out=into)
            xp.multiply(into, g, out=into)
            fold(xp, into, d_lhs)


@operator("_hypot", "_Hypot")
class Hypot(Binary):
    """out = (lhs ** 2 + rhs ** 2) ** 0.5."""

    def forward(self, xp, lhs, rhs, *, out):
        xp.hypot(lhs, rhs, out=out, casting="unsafe")

    def backward(self, xp, g, lhs, rhs, out, *, d_lhs=None, d_rhs=None, wide=None):
        for destination, side in ((d_lhs, lhs), (d_rhs, rhs)):
            if destination is not None:
                into = room(destination, g, wide)
                xp.divide(side, out, out=into)
                xp.multiply(into, g, out=into)
                fold(xp, into, destination)


@operator("_maximum", "_Maximum")
class Maximum(Binary):
    """out = the larger one; where both are equal the gradient is lhs's."""

    def forward(self, xp, lhs, rhs, *, out):
        xp.maximum(lhs, rhs, out=out)

    def backward(self, xp, g, lhs, rhs, *, d_lhs=None, d_rhs=None, wide=None):
        share(xp, g, xp.greater_equal, lhs, rhs, d_lhs, wide)
        share(xp, g, xp.less, lhs, rhs, d_rhs, wide)


@operator("_minimum", "_Minimum")
class Minimum(Binary):
    """out = the smaller one; where both are equal the gradient is lhs's."""

    def forward(self, xp, lhs, rhs, *, out):
        xp.minimum(lhs, rhs, out=out)

    def backward(self, xp, g, lhs, rhs, *, d_lhs=None, d_rhs=None, wide=None):
        share(xp, g, xp.less_equal, lhs, rhs, d_lhs, wide)
        share(xp, g, xp.greater, lhs, rhs, d_rhs, wide)


def share(xp, g, chosen, lhs, rhs, destination, wide) -> None:
    """destination = g where `chosen(lhs, rhs)`, 0 elsewhere; nothing if destination is None."""
    if destination is not None:
        into = room(destination, g, wide)
        chosen(lhs, rhs, out=into)
        xp.multiply(into, g, out=into)
        fold(xp, into, destination)


def divide(xp, lhs, rhs, out) -> None:
    """out = lhs / rhs; integers in C's way, cut off towards zero."""
    if out.dtype.kind == "f":
        xp.divide(lhs, rhs, out=out)
        return
    below = xp.floor_divide(lhs, rhs)
    inexact_negative = (below < 0) & (below * rhs != lhs)
    xp.add(below, inexact_negative, out=out, casting="unsafe")


def modulo(xp, lhs, rhs, out) -> None:
    """out = the remainder of rhs's sign; 0 where rhs is 0."""
    nothing = rhs == 0
    xp.remainder(lhs, rhs, out=out)
    xp.copyto(out, 0, where=nothing, casting="unsafe")


def power(xp, lhs, rhs, out) -> None:
    """out = lhs ** rhs; integers by way of float64, so that negative exponents give 0, not an error."""
    if out.dtype.kind == "f":
        xp.power(lhs, rhs, out=out)
    else:
        xp.copyto(out, xp.power(lhs, rhs, dtype="float64"), casting="unsafe")


# ---- comparisons and logic: no gradient ----


@operator("_equal", "_Equal")
class Equal(Binary):
    """out = 1 where lhs == rhs, else 0."""

    def forward(self, xp, lhs, rhs, *, out):
        xp.equal(lhs, rhs, out=out)


@operator("_not_equal", "_Not_Equal")
class NotEqual(Binary):
    """out = 1 where lhs != rhs, else 0."""

    def forward(self, xp, lhs, rhs, *, out):
        xp.not_equal(lhs, rhs, out=out)


@operator("_greater", "_Greater")
class Greater(Binary):
    """out = 1 where lhs > rhs, else 0."""

    def forward(self, xp, lhs, rhs, *, out):
        xp.greater(lhs, rhs, out=out)


@operator("_greater_equal", "_Greater_Equal")
class GreaterEqual(Binary):
    """out = 1 where lhs >= rhs, else 0."""

    def forward(self, xp, lhs, rhs, *, out):
        xp.greater_equal(lhs, rhs, out=out)


@operator("_lesser", "_Lesser")
class Lesser(Binary):
    """out = 1 where lhs < rhs, else 0."""

    def forward(self, xp, lhs, rhs, *, out):
        xp.less(lhs, rhs, out=out)


@operator("_lesser_equal", "_Lesser_Equal")
class LesserEqual(Binary):
    """out = 1 where lhs <= rhs, else 0."""

    def forward(self, xp, lhs, rhs, *, out):
        xp.less_equal(lhs, rhs, out=out)


@operator("_logical_and", "_Logical_And")
class LogicalAnd(Binary):
    """out = 1 where both differ from 0, else 0."""

    def forward(self, xp, lhs, rhs, *, out):
        xp.logical_and(lhs, rhs, out=out, casting="unsafe")


@operator("_logical_or", "_Logical_Or")
class LogicalOr(Binary):
    """out = 1 where one or both differ from 0, else 0."""

    def forward(self, xp, lhs, rhs, *, out):
        xp.logical_or(lhs, rhs, out=out, casting="unsafe")


@operator("_logical_xor", "_Logical_Xor")
class LogicalXor(Binary):
    """out = 1 where exactly one differs from 0, else 0."""

    def forward(self, xp, lhs, rhs, *, out):
        xp.logical_xor(lhs, rhs, out=out, casting="unsafe")


# ---- broadcasting forms ----


@operator("broadcast_plus", "broadcast_add")
class BroadcastPlus(Broadcasting, Plus):
    """out = lhs + rhs, stretched."""


@operator("broadcast_minus", "broadcast_sub")
class BroadcastMinus(Broadcasting, Minus):
    """out = lhs - rhs, stretched."""


@operator("broadcast_mul")
class BroadcastMul(Broadcasting, Mul):
    """out = lhs * rhs, stretched."""


@operator("broadcast_div")
class BroadcastDiv(Broadcasting, Div):
    """out = lhs / rhs, stretched; of integers cut off towards zero."""


@operator("broadcast_mod")
class BroadcastMod(Broadcasting, Mod):
    """out = lhs modulo rhs, stretched, of rhs's sign; 0 where rhs is 0."""


@operator("broadcast_power")
class BroadcastPower(Broadcasting, Power):
    """out = lhs ** rhs, stretched."""


@operator("broadcast_hypot")
class BroadcastHypot(Broadcasting, Hypot):
    """out = (lhs ** 2 + rhs ** 2) ** 0.5, stretched."""


@operator("broadcast_maximum")
class BroadcastMaximum(Broadcasting, Maximum):
    """out = the larger one, stretched; where both are equal the gradient is lhs's."""


@operator("broadcast_minimum")
class BroadcastMinimum(Broadcasting, Minimum):
    """out = the smaller one, stretched; where both are equal the gradient is lhs's."""


@operator("broadcast_equal")
class BroadcastEqual(Broadcasting, Equal):
    """out = 1 where lhs == rhs, else 0, stretched."""


@operator("broadcast_not_equal")
class BroadcastNotEqual(Broadcasting, NotEqual):
    """out = 1 where lhs != rhs, else 0, stretched."""


@operator("broadcast_greater")
class BroadcastGreater(Broadcasting, Greater):
    """out = 1 where lhs > rhs, else 0, stretched."""


@operator("broadcast_greater_equal")
class BroadcastGreaterEqual(Broadcasting, GreaterEqual):
    """out = 1 where lhs >= rhs, else 0, stretched."""


@operator("broadcast_lesser")
class BroadcastLesser(Broadcasting, Lesser):
    """out = 1 where lhs < rhs, else 0, stretched."""


@operator("broadcast_lesser_equal")
class BroadcastLesserEqual(Broadcasting, LesserEqual):
    """out = 1 where lhs <= rhs, else 0, stretched."""


@operator("broadcast_logical_and")
class BroadcastLogicalAnd(Broadcasting, LogicalAnd):
    """out = 1 where both differ from 0, else 0, stretched."""


@operator("broadcast_logical_or")
class BroadcastLogicalOr(Broadcasting, LogicalOr):
    """out = 1 where one or both differ from 0, else 0, stretched."""


@operator("broadcast_logical_xor")
class BroadcastLogicalXor(Broadcasting, LogicalXor):
    """out = 1 where exactly one differs from 0, else 0, stretched."""


# ---- an array and a number ----


class WithScalar(Op):
    """out (any) = f(data (any), scalar). The number is converted to data's element type, as in C."""

    inplace = (("data", "out"),)
    elementwise = True

    scalar: int | float = param(1, doc="the number")

    def setup(self):
        self.number = Constant(self.scalar)

    def infer_shape(self, data=None, out=None):
        shape = agreed(data, out)
        return {"data": shape, "out": shape}


@operator("_plus_scalar")
class PlusScalar(WithScalar):
    """out = data + scalar."""

    passes = ("data",)
    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        xp.add(data, self.number.like(xp, data), out=out)

    def backward(self, xp, g, *, d_data=None):
        xp.copyto(d_data, g)


@operator("_minus_scalar")
class MinusScalar(WithScalar):
    """out = data - scalar."""

    passes = ("data",)
    kinds = "fiu"
    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        xp.subtract(data, self.number.like(xp, data), out=out)

    def backward(self, xp, g, *, d_data=None):
        xp.copyto(d_data, g)


@operator("_rminus_scalar", "_RMinusScalar")
class RMinusScalar(WithScalar):
    """out = scalar - data."""

    kinds = "fiu"
    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        xp.subtract(self.number.like(xp, data), data, out=out)

    def backward(self, xp, g, *, d_data=None):
        xp.negative(g, out=d_data)


@operator("_mul_scalar")
class MulScalar(WithScalar):
    """out = data * scalar."""

    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        xp.multiply(data, self.number.like(xp, data), out=out)

    def backward(self, xp, g, *, d_data=None):
        xp.multiply(g, self.number.like(xp, g), out=d_data)


@operator("_div_scalar")
class DivScalar(WithScalar):
    """out = data / scalar; of integers cut off towards zero."""

    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        divide(xp, data, self.number.like(xp, data), out)

    def backward(self, xp, g, *, d_data=None):
        xp.divide(g, self.number.like(xp, g), out=d_data)


@operator("_rdiv_scalar", "_RDivScalar")
class RDivScalar(WithScalar):
    """out = scalar / data; of integers cut off towards zero."""

    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        divide(xp, self.number.like(xp, data), data, out)

    def backward(self, xp, g, data, out, *, d_data=None):
        xp.multiply(g, out, out=d_data)
        xp.divide(d_data, data, out=d_data)
        xp.negative(d_data, out=d_data)


@operator("_mod_scalar", "_ModScalar")
class ModScalar(WithScalar):
    """out = data modulo scalar, of scalar's sign; 0 where scalar is 0."""

    kinds = "fiu"
    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        modulo(xp, data, self.number.like(xp, data), out)

    def backward(self, xp, g, *, d_data=None):
        xp.copyto(d_data, g)


@operator("_rmod_scalar", "_RModScalar")
class RModScalar(WithScalar):
    """out = scalar modulo data, of data's sign; 0 where data is 0."""

    kinds = "fiu"
    def forward(self, xp, data, *, out):
        modulo(xp, self.number.like(xp, data), data, out)

    def backward(self, xp, g, data, *, d_data=None):
        xp.floor_divide(self.number.like(xp, data), data, out=d_data)
        xp.multiply(d_data, g, out=d_data)
        xp.negative(d_data, out=d_data)


@operator("_power_scalar")
class PowerScalar(WithScalar):
    """out = data ** scalar."""

    def setup(self):
        super().setup()
        self.less_one = Constant(self.scalar - 1)

    def forward(self, xp, data, *, out):
        power(xp, data, self.number.like(xp, data), out)

    def backward(self, xp, g, data, *, d_data=None):
        xp.power(data, self.less_one.like(xp, data), out=d_data)
        xp.multiply(d_data, self.number.like(xp, data), out=d_data)
        xp.multiply(d_data, g, out=d_data)


@operator("_rpower_scalar", "_RPowerScalar")
class RPowerScalar(WithScalar):
    """out = scalar ** data."""

    inplace_backward = (("g", "d_data"),)

    def forward(self, xp, data, *, out):
        power(xp, self.number.like(xp, data), data, out)

    def backward(self, xp, g, out, *, d_data=None):
        xp.multiply(g, out, out=d_data)
        xp.multiply(d_data, xp.log(self.number.like(xp, g)), out=d_data)


@operator("_hypot_scalar", "_HypotScalar")
class HypotScalar(WithScalar):
    """out = (data ** 2 + scalar ** 2) ** 0.5."""

    def forward(self, xp, data, *, out):
        xp.hypot(data, self.number.like(xp, data), out=out, casting="unsafe")

    def backward(self, xp, g, data, out, *, d_data=None):
        xp.divide(data, out, out=d_data)
        xp.multiply(d_data, g, out=d_data)


@operator("_maximum_scalar")
class MaximumScalar(WithScalar):
    """out = max(data, scalar)."""

    def forward(self, xp, data, *, out):
        xp.maximum(data, self.number.like(xp, data), out=out)

    def backward(self, xp, g, data, *, d_data=None):
        share(xp, g, xp.greater_equal, data, self.number.like(xp, data), d_data, None)


@operator("_minimum_scalar")
class MinimumScalar(WithScalar):
    """out = min(data, scalar)."""

    def forward(self, xp, data, *, out):
        xp.minimum(data, self.number.like(xp, data), out=out)

    def backward(self, xp, g, data, *, d_data=None):
        share(xp, g, xp.less_equal, data, self.number.like(xp, data), d_data, None)


@operator("_equal_scalar", "_EqualScalar")
class EqualScalar(WithScalar):
    """out = 1 where data == scalar, else 0."""

    def forward(self, xp, data, *, out):
        xp.equal(data, self.number.like(xp, data), out=out)


@operator("_not_equal_scalar", "_NotEqualScalar")
class NotEqualScalar(WithScalar):
    """out = 1 where data != scalar, else 0."""

    def forward(self, xp, data, *, out):
        xp.not_equal(data, self.number.like(xp, data), out=out)


@operator("_greater_scalar", "_GreaterScalar")
class GreaterScalar(WithScalar):
    """out = 1 where data > scalar, else 0."""

    def forward(self, xp, data, *, out):
        xp.greater(data, self.number.like(xp, data), out=out)


@operator("_greater_equal_scalar", "_GreaterEqualScalar")
class GreaterEqualScalar(WithScalar):
    """out = 1 where data >= scalar, else 0."""

    def forward(self, xp, data, *, out):
        xp.greater_equal(data, self.number.like(xp, data), out=out)


@operator("_lesser_scalar", "_LesserScalar")
class LesserScalar(WithScalar):
    """out = 1 where data < scalar, else 0."""

    def forward(self, xp, data, *, out):
        xp.less(data, self.number.like(xp, data), out=out)


@operator("_lesser_equal_scalar", "_LesserEqualScalar")
class LesserEqualScalar(WithScalar):
    """out = 1 where data <= scalar, else 0."""

    def forward(self, xp, data, *, out):
        xp.less_equal(data, self.number.like(xp, data), out=out)


@operator("_logical_and_scalar", "_LogicalAndScalar")
class LogicalAndScalar(WithScalar):
    """out = 1 where both differ from 0, of data and scalar, else 0."""

    def forward(self, xp, data, *, out):
        xp.logical_and(data, self.number.like(xp, data), out=out, casting="unsafe")


@operator("_logical_or_scalar", "_LogicalOrScalar")
class LogicalOrScalar(WithScalar):
    """out = 1 where one or both differ from 0, of data and scalar, else 0."""

    def forward(self, xp, data, *, out):
        xp.logical_or(data, self.number.like(xp, data), out=out, casting="unsafe")


@operator("_logical_xor_scalar", "_LogicalXorScalar")
class LogicalXorScalar(WithScalar):
    """out = 1 where exactly one differs from 0, of data and scalar, else 0."""

    def forward(self, xp, data, *, out):
        xp.logical_xor(data, self.number.like(xp, data), out=out, casting="unsafe")


class SeedScalar(WithScalar):
    """2015's form of a scalar operator: `scalar_on_left` turns the operands round. `make` gives today's operator."""

    today: tuple[str, str]  # with the number on the right, on the left
    scalar_on_left: bool = param(False, doc="the number is the left operand")

    def canonical(self):
        return make(self.today[self.scalar_on_left], scalar=self.scalar)


@operator("_PlusScalar")
class SeedPlusScalar(SeedScalar):
    today = ("_plus_scalar", "_plus_scalar")


@operator("_MinusScalar")
class SeedMinusScalar(SeedScalar):
    today = ("_minus_scalar", "_rminus_scalar")


@operator("_MulScalar")
class SeedMulScalar(SeedScalar):
    today = ("_mul_scalar", "_mul_scalar")


@operator("_DivScalar")
class SeedDivScalar(SeedScalar):
    today = ("_div_scalar", "_rdiv_scalar")


@operator("_PowerScalar")
class SeedPowerScalar(SeedScalar):
    today = ("_power_scalar", "_rpower_scalar")


@operator("_MaximumScalar")
class SeedMaximumScalar(SeedScalar):
    today = ("_maximum_scalar", "_maximum_scalar")


@operator("_MinimumScalar")
class SeedMinimumScalar(SeedScalar):
    today = ("_minimum_scalar", "_minimum_scalar")


# ---- sums of many arrays ----


@operator("ElementWiseSum", "add_n", "_grad_add")
class ElementWiseSum(Op):
    """out (any) = arg0 + arg1 + …, summed in the order given."""

    variadic = "num_args"
    elementwise = True
    inplace = (("arg0", "out"),)
    inplace_backward = (("g", "d_arg0"),)

    num_args: int = param(2, doc="number of inputs", low=1)

    def setup(self):
        self.passes = self.inputs()

    def inputs(self):
        return tuple(f"arg{i}" for i in range(self.num_args))

    def infer_shape(self, **known):
        return dict.fromkeys(known, agreed(*known.values()))

    def forward(self, xp, *args, out):
        if len(args) == 1:
            xp.copyto(out, args[0])
        else:
            xp.add(args[0], args[1], out=out)
        for later in args[2:]:
            xp.add(out, later, out=out)

    def backward(self, xp, g, **d):
        for destination in d.values():
            xp.copyto(destination, g)
