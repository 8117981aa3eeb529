"""Functions of `mx.nd` and `mx.sym` that choose an operator's parameters, written once for both.

Each takes first `op`: a function from an operator's name to the function to call.
"""

from __future__ import annotations

import functools
import math

from raymx.errors import ParameterError


def split_v2(op, ary, indices_or_sections, axis=0, squeeze_axis=False):
    """Cut along `axis` into so many equal parts, or before each of the given indices; `squeeze_axis` drops the axis."""
    if isinstance(indices_or_sections, int):
        return op("_split_v2")(ary, indices=(), axis=axis, squeeze_axis=squeeze_axis, sections=indices_or_sections)
    return op("_split_v2")(ary, indices=(0, *indices_or_sections), axis=axis, squeeze_axis=squeeze_axis)


def histogram(op, a, bins=10, range=None, **kwargs):
    """How many elements lie in each bin, and the edges: of an array `bins`, or of `bins` equal bins in `range`."""
    if not isinstance(bins, int):
        return op("_histogram")(a, bins, **kwargs)
    if range is None:
        if not hasattr(a, "asnumpy"):
            raise ParameterError("histogram: a symbol has no values yet; give the range of the bins.")
        range = (a.min().asscalar(), a.max().asscalar())
    return op("_histogram")(a, bin_cnt=bins, range=range, **kwargs)


def eye(op, N, M=0, k=0, ctx=None, dtype=None, **kwargs):
    """Ones on the diagonal `k` of a matrix (N, M), zeros elsewhere; M 0 = N."""
    return op("_eye")(N=N, M=M, k=k, dtype=dtype or "float32", **_on(ctx), **kwargs)


def linspace(op, start, stop, num, endpoint=True, ctx=None, dtype=None, **kwargs):
    """`num` numbers at equal distances from start to stop, or to just before it without `endpoint`."""
    made = {"start": start, "stop": stop, "num": num, "endpoint": endpoint, "dtype": dtype or "float32"}
    return op("_linspace")(**made, **_on(ctx), **kwargs)


def _on(ctx) -> dict:
    return {} if ctx is None else {"ctx": ctx}


COMPOSED = {function.__name__: function for function in (split_v2, histogram, eye, linspace)}


def bound(name: str, op):
    """The function `name` of COMPOSED over `op`."""
    function = functools.wraps(COMPOSED[name])(functools.partial(COMPOSED[name], op))
    del function.__wrapped__  # its first parameter is not the caller's business
    return function


# ---- of numbers that are none ----


def isnan(data):
    """1 where data is not a number, else 0."""
    return data != data


def isinf(data):
    """1 where data is infinite, else 0."""
    return data.abs() == math.inf


def isfinite(data):
    """1 where data is a finite number, else 0."""
    return data.abs() < math.inf


TESTS = {function.__name__: function for function in (isnan, isinf, isfinite)}
