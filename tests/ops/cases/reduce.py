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

_gaps = np.array([[1.0, np.nan, 2], [np.nan, np.nan, 0.5]])
for _name, _nothing in (("nansum", 0), ("nanprod", 1)):
    _ref = getattr(np, _name)
    case(_name, (2, 3, 4), between=positive, axis=1, ref=_over(_ref, 1))
    case(_name, (2, 3), between=positive, ref=_over(_ref))
    case(_name, np.array([1, 2, 3]), dtypes=INTS, ref=_over(_ref))
case("nansum", _gaps, axis=0, keepdims=True, ref=lambda x: np.array([[1, 0, 2.5]]),
     gradient={"data": lambda x, g: ~np.isnan(x) * g})
case("nanprod", _gaps, axis=0, ref=lambda x: np.array([1, 1, 1.0]),
     gradient={"data": lambda x, g: np.where(np.isnan(x), 0, g / x)})
case("_square_sum", (2, 3), axis=1, ref=lambda x: (x * x).sum(axis=1))
case("moments", (2, 3, 4), axes=(0, 2), ref=lambda x: (x.mean(axis=(0, 2)), x.var(axis=(0, 2))))
case("moments", (2, 3), axes=(-1,), keepdims=True,
     ref=lambda x: (x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)))
case("moments", (2, 3), ref=lambda x: (x.mean(keepdims=True)[0], x.var(keepdims=True)[0]))
case("cumsum", (2, 3, 4), axis=1, ref=lambda x: x.cumsum(axis=1))
case("cumsum", (2, 3), axis=-1, dtype="float64", ref=lambda x: x.cumsum(axis=1))
case("cumsum", (2, 3), ref=lambda x: x.cumsum())
case("cumsum", np.array([100, 100]), dtypes=("int8",), ref=lambda x: np.array([100, -56]))
for _last, _finite in ((2, 1), (np.inf, 0), (np.nan, 0)):
    case("all_finite", np.array([1, _last]), constant=("data",), ref=lambda x, f=_finite: np.array([f]))
    case("multi_all_finite", (2, 3), np.array([1, _last]), num_arrays=2, constant=("arg0", "arg1"),
         ref=lambda x, y, f=_finite: np.array([f]))
case("multi_sum_sq", (2, 3), (4,), num_arrays=2, constant=("arg0", "arg1"), dtypes=("float32", "float16"),
     ref=lambda x, y: np.array([(x * x).sum(), (y * y).sum()]))
for _difference, _close in ((0, 1), (1e-3, 0)):
    case("_contrib_allclose", np.array([1, np.nan]), np.array([1 + _difference, np.nan]), mxnet="the result is 0-d",
         dtypes=("float32", "float64"), ref=lambda a, b, c=_close: np.array([c]))
case("_contrib_allclose", np.array([1.0]), np.array([1.25]), atol=0.5, mxnet="the result is 0-d",
     ref=lambda a, b: np.array([1]))
case("_histogram", np.array([1.0, 2, 2.5, 4, 9, -1]), bin_cnt=4, range=(0, 4),
     ref=lambda x: (np.array([0, 1, 2, 1]), np.arange(5)))
case("_histogram", np.array([1.0, 2, 2.5, 7, 9, -1]), np.array([0, 2, 4, 7]),
     ref=lambda x, bins: (np.array([1, 2, 1]), bins))
