"""Rows: functions of one array."""

import numpy as np

from tests.ops.cases.reference import halves, positive, sigmoid
from tests.ops.cases.table import INTS, case, classes

# fmt: off


def _half_away(x):
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


for _name, _ref in {
    "_copy": lambda x: x, "negative": np.negative, "abs": np.abs, "sign": np.sign, "ceil": np.ceil,
    "floor": np.floor, "trunc": np.trunc, "square": np.square, "exp": np.exp, "expm1": np.expm1, "cos": np.cos,
    "sin": np.sin, "tan": np.tan, "tanh": np.tanh, "sigmoid": sigmoid, "relu": lambda x: np.where(x > 0, x, 0),
    "round": _half_away, "zeros_like": np.zeros_like, "ones_like": np.ones_like,
}.items():
    case(_name, (2, 3, 4), ref=_ref)
for _name, _ref in {
    "sqrt": np.sqrt, "rsqrt": lambda x: x**-0.5, "reciprocal": lambda x: 1 / x, "log": np.log, "log1p": np.log1p,
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
