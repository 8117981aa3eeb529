"""NumPy's protocols on NDArray: the obvious functions run on the device, everything else is refused in words."""

from __future__ import annotations

import functools
import operator

import numpy as np

from raymx.errors import ParameterError

_BINARY = {
    np.add: operator.add, np.subtract: operator.sub, np.multiply: operator.mul, np.true_divide: operator.truediv,
    np.power: operator.pow, np.remainder: operator.mod, np.equal: operator.eq, np.not_equal: operator.ne,
    np.greater: operator.gt, np.greater_equal: operator.ge, np.less: operator.lt, np.less_equal: operator.le,
    np.matmul: operator.matmul,
}  # fmt: skip
_NAMED = {
    np.negative: "negative", np.absolute: "abs", np.sign: "sign", np.ceil: "ceil", np.floor: "floor",
    np.trunc: "trunc", np.square: "square", np.sqrt: "sqrt", np.reciprocal: "reciprocal", np.exp: "exp",
    np.expm1: "expm1", np.log: "log", np.log1p: "log1p", np.cos: "cos", np.sin: "sin", np.tan: "tan",
    np.tanh: "tanh", np.maximum: "broadcast_maximum", np.minimum: "broadcast_minimum", np.hypot: "broadcast_hypot",
}  # fmt: skip


def array_ufunc(self, ufunc, method, *inputs, out=None, **options):
    """`np.add(x, y)` and the like on the device; into an NDArray if `out` is one."""
    if out is not None and not isinstance(out[0], type(self)):
        raise TypeError(f"np.{ufunc.__name__}: out is a NumPy array; write x.asnumpy() to compute with NumPy.")
    if method != "__call__" or options or (ufunc not in _BINARY and ufunc not in _NAMED):
        raise _refusal(f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}"))
    result = _apply(ufunc, inputs)
    if out is None:
        return result
    out[0][:] = result
    return out[0]


def _apply(ufunc, inputs):
    from raymx import ndarray as nd

    if ufunc in _NAMED:
        return getattr(nd, _NAMED[ufunc])(*_arrays(inputs))
    left, right = inputs
    if isinstance(left, (np.ndarray, np.generic)) and left.ndim == 0:
        left = left.item()
    elif not isinstance(left, (nd.NDArray, int, float)):
        left = nd.array(left, right.context, right.dtype)
    return _BINARY[ufunc](left, right)


def _arrays(values) -> list:
    """All of them as NDArrays, on the device and of the dtype of the first that is one."""
    from raymx import ndarray as nd

    first = next(x for x in values if isinstance(x, nd.NDArray))
    return [x if isinstance(x, nd.NDArray) else nd.array(x, first.context, first.dtype) for x in values]


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
        def run(x, *args, **options):
            if not isinstance(x, nd.NDArray):  # then the NDArray is somewhere among the options
                raise _refusal(f"np.{name}")
            try:
                return getattr(x, name)(*args, **options)
            except ParameterError as error:
                raise _refusal(f"np.{name}") from error

        return run

    return {
        np.sum: method("sum"), np.mean: method("mean"), np.max: method("max"), np.min: method("min"),
        np.amax: method("max"), np.amin: method("min"), np.copy: method("copy"), np.reshape: method("reshape"),
        np.clip: method("clip"), np.zeros_like: nd.zeros_like, np.ones_like: nd.ones_like,
        np.transpose: lambda x, axes=None: x.transpose(*(axes or ())),
        np.dot: lambda a, b: nd.dot(*_arrays((a, b))),
        np.concatenate: lambda arrays, axis=0: nd.concatenate(_arrays(arrays), axis),
        np.shape: lambda x: x.shape, np.ndim: lambda x: x.ndim, np.size: lambda x: x.size,
        np.array_equal: _on_host(np.array_equal), np.allclose: _on_host(np.allclose),
    }  # fmt: skip


def _on_host(function):
    """A question about two arrays that NumPy answers."""
    return lambda a, b, **options: function(np.asarray(a), np.asarray(b), **options)


def _refusal(name: str) -> TypeError:
    return TypeError(f"{name} does not run on an NDArray; use mx.nd's functions, or {name}(x.asnumpy(), …) with NumPy.")
