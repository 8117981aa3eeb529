"""NumPy's protocols on NDArray: the obvious functions run on the device, everything else is refused in words."""

from __future__ import annotations

import functools
import operator

import numpy as np

_BINARY = {
    np.add: operator.add, np.subtract: operator.sub, np.multiply: operator.mul, np.true_divide: operator.truediv,
    np.power: operator.pow, np.remainder: operator.mod, np.equal: operator.eq, np.not_equal: operator.ne,
    np.greater: operator.gt, np.greater_equal: operator.ge, np.less: operator.lt, np.less_equal: operator.le,
    np.matmul: operator.matmul,
}  # fmt: skip
_REFLECTED = {
    np.add: "__radd__", np.subtract: "__rsub__", np.multiply: "__rmul__", np.true_divide: "__rtruediv__",
    np.power: "__rpow__", np.remainder: "__rmod__",
}  # fmt: skip
_SWAPPED = {np.greater: np.less, np.greater_equal: np.less_equal, np.less: np.greater, np.less_equal: np.greater_equal,
            np.equal: np.equal, np.not_equal: np.not_equal}  # fmt: skip
_NAMED = {
    np.negative: "negative", np.absolute: "abs", np.sign: "sign", np.ceil: "ceil", np.floor: "floor",
    np.square: "square", np.sqrt: "sqrt", np.exp: "exp", np.log: "log", np.cos: "cos", np.sin: "sin",
    np.rint: "rint", np.maximum: "broadcast_maximum", np.minimum: "broadcast_minimum",
}  # fmt: skip


def array_ufunc(self, ufunc, method, *inputs, out=None, **options):
    """`np.add(x, y)` and the like on the device; into an NDArray if `out` is one."""
    if out is not None and not isinstance(out[0], type(self)):
        raise TypeError(f"np.{ufunc.__name__}: out is a NumPy array; write x.asnumpy() to compute with NumPy.")
    if method != "__call__" or options or (ufunc not in _BINARY and ufunc not in _NAMED):
        raise _refusal(f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}"))
    result = _apply(type(self), ufunc, inputs)
    if out is None:
        return result
    out[0][:] = result
    return out[0]


def _apply(kind, ufunc, inputs):
    from raymx import ndarray as nd

    if ufunc in _NAMED:
        first = next(x for x in inputs if isinstance(x, kind))
        arrays = [x if isinstance(x, kind) else nd.array(x, first.context, first.dtype) for x in inputs]
        return getattr(nd, _NAMED[ufunc])(*arrays)
    left, right = inputs
    if isinstance(left, kind):
        return _BINARY[ufunc](left, right)
    if ufunc in _SWAPPED:
        return _BINARY[_SWAPPED[ufunc]](right, left)
    if ufunc in _REFLECTED:
        return getattr(right, _REFLECTED[ufunc])(left)
    return _BINARY[ufunc](nd.array(left, right.context, right.dtype), right)


def array_function(self, function, types, arguments, options):
    """`np.sum(x)` and the like on the device."""
    try:
        handler = _functions()[function]
    except KeyError:
        raise _refusal(f"np.{function.__name__}") from None
    return handler(*arguments, **options)


@functools.cache
def _functions():
    from raymx import ndarray as nd

    def method(name):
        return lambda x, *args, **options: getattr(x, name)(*args, **options)

    def transpose(x, axes=None):
        return x.transpose(*(axes or ()))

    return {
        np.sum: method("sum"), np.mean: method("mean"), np.max: method("max"), np.min: method("min"),
        np.amax: method("max"), np.amin: method("min"), np.dot: method("dot"), np.copy: method("copy"),
        np.reshape: method("reshape"), np.clip: method("clip"), np.transpose: transpose,
        np.concatenate: lambda arrays, axis=0: nd.concatenate(arrays, axis),
        np.zeros_like: nd.zeros_like, np.ones_like: nd.ones_like, np.shape: lambda x: x.shape,
        np.ndim: lambda x: x.ndim, np.size: lambda x: x.size, np.array_equal: _array_equal,
    }  # fmt: skip


def _array_equal(a, b) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b))


def _refusal(name: str) -> TypeError:
    return TypeError(f"{name} does not run on an NDArray; use mx.nd's functions, or {name}(x.asnumpy(), …) with NumPy.")
