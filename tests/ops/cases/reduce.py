"""Rows: reductions."""

import numpy as np

from tests.ops.cases.reference import positive
from tests.ops.cases.table import INTS, case


# fmt: off
def _over(f, axis=None, keepdims=False):
    return lambda x: np.atleast_1d(f(x, axis=axis, keepdims=keepdims))


for _name in ("sum", "mean", "prod", "max", "min"):
    _ref = getattr(np, _name)
    case(_name, (2, 3, 4), between=positive, ref=_over(_ref))
    case(_name, (2, 3, 4), axis=1, between=positive, ref=_over(_ref, 1))
    case(_name, (2, 3, 4), axis=(-1, 0), keepdims=True, between=positive, ref=_over(_ref, (0, 2), True))
    case(_name, (2, 3, 4), axis=1, exclude=True, between=positive, ref=_over(_ref, (0, 2)))
case("sum", np.array([100, 100]), dtypes=("int8",), ref=lambda x: np.array([-56]))
case("mean", np.array([1, 2, 2]), dtypes=INTS, ref=lambda x: np.array([1]))
case("norm", (2, 3, 4), ref=lambda x: np.sqrt((x * x).sum(keepdims=True).reshape(1)))
case("norm", (2, 3, 4), axis=1, ord=1, ref=lambda x: np.abs(x).sum(axis=1))
case("norm", (2, 3, 4), axis=(1, 2), keepdims=True, ref=lambda x: np.sqrt((x * x).sum(axis=(1, 2), keepdims=True)))
for _name in ("argmax", "argmin"):
    _ref = getattr(np, _name)
    case(_name, (3, 4, 5), ref=_over(_ref))
    case(_name, (3, 4, 5), axis=1, ref=_over(_ref, 1))
    case(_name, (3, 4, 5), axis=-1, keepdims=True, ref=_over(_ref, 2, True))
    case(_name, (3,), axis=0, dtypes=("int32",), between=(0, 9), ref=_over(_ref))
case("sum_mid_internal", (2, 3, 4), ref=lambda x: x.sum(axis=1))
case("argmax_channel", (3, 4, 5), ref=lambda x: x.argmax(axis=1))
