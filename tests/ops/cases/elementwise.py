"""Rows: functions of one array."""

import numpy as np

from tests.ops.cases.reference import halves, positive, sigmoid
from tests.ops.cases.table import FLOATS, INTS, case, classes

# fmt: off


def _half_away(x):
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


for _name, _ref in {
    "_copy": lambda x: x, "negative": np.negative, "abs": np.abs, "sign": np.sign, "ceil": np.ceil,
    "floor": np.floor, "trunc": np.trunc, "square": np.square, "exp": np.exp, "expm1": np.expm1,
    "tanh": np.tanh, "sigmoid": sigmoid, "relu": lambda x: np.where(x > 0, x, 0),
    "softsign": lambda x: x / (1 + np.abs(x)), "round": _half_away,
    "zeros_like": np.zeros_like, "ones_like": np.ones_like,
}.items():
    case(_name, (2, 3, 4), ref=_ref)
for _name, _ref in {
    "sqrt": np.sqrt, "rsqrt": lambda x: x**-0.5, "reciprocal": lambda x: 1 / x, "log": np.log, "log1p": np.log1p,
    "cbrt": np.cbrt, "rcbrt": lambda x: x ** (-1 / 3), "log2": np.log2, "log10": np.log10,
}.items():
    case(_name, (2, 3, 4), between=positive, ref=_ref)
case("BlockGrad", (2, 3), ref=lambda x: x, constant=("data",))
case("_identity_with_attr_like_rhs", (2, 3), (2, 3), ref=lambda x, y: x)
case("abs", halves, ref=np.abs, gradient={"data": lambda x, g: np.sign(x) * g})
case("relu", halves, ref=lambda x: np.where(x > 0, x, 0), gradient={"data": lambda x, g: (x > 0) * g})
case("round", halves, ref=_half_away)
case("rint", halves, ref=lambda x: np.ceil(x - 0.5))
case("square", classes((3, 4), 10), dtypes=INTS, ref=np.square)
case("sqrt", classes((3, 4), 10), dtypes=INTS, ref=lambda x: np.floor(np.sqrt(x)))
case("exp", classes((3,), 4), dtypes=INTS, ref=lambda x: np.floor(np.exp(x)))
case("rint", classes((3, 4), 10), dtypes=INTS, ref=lambda x: x)
case("round", classes((3, 4), 10), dtypes=INTS, ref=lambda x: x)
case("floor", classes((3, 4), 10), dtypes=INTS, ref=lambda x: x)
case("cbrt", (2, 3), between=(-2.0, -0.5), ref=lambda x: -((-x) ** (1 / 3)))
case("rcbrt", (2, 3), between=(-2.0, -0.5), ref=lambda x: -((-x) ** (-1 / 3)))
case("logical_not", np.array([0, 1, 2, 0]), dtypes=FLOATS + INTS, ref=lambda x: x == 0)
case("softsign", np.array([0, 2]), dtypes=("int32",), ref=lambda x: np.zeros(2))
case("clip", (3, 4), a_min=-0.5, a_max=0.25, ref=lambda x: np.minimum(np.maximum(x, -0.5), 0.25))
case("clip", np.array([-0.75, -0.5, 0, 0.25, 0.5]), a_min=-0.5, a_max=0.25,
     ref=lambda x: np.array([-0.5, -0.5, 0, 0.25, 0.25]),
     gradient={"data": lambda x, g: np.array([0, 1, 1, 1, 0]) * g})
case("clip", np.array([1, 5, 9]), a_min=2.5, a_max=7.5, dtypes=("int32",), ref=lambda x: np.array([2, 5, 7]))
case("_contrib_quadratic", (2, 3), a=1.5, b=-2, c=0.5, ref=lambda x: 1.5 * x * x - 2 * x + 0.5)
case("_contrib_div_sqrt_dim", (2, 3, 4), ref=lambda x: x / 2)
case("_contrib_gradientmultiplier", (2, 3), scalar=-0.5, ref=lambda x: x, gradient={"data": lambda x, g: -0.5 * g})
case("_contrib_round_ste", halves, ref=_half_away, gradient={"data": lambda x, g: g})
case("_contrib_sign_ste", halves, ref=np.sign, gradient={"data": lambda x, g: g})
