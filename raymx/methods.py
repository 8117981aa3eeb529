"""Operators as methods: `x.take(i)` is `mx.nd.take(x, i)`, `s.take(i)` is `mx.sym.take(s, i)`. One list for both."""

from __future__ import annotations

from collections.abc import Callable

METHODS = {
    name: name
    for name in (
        "abs", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "argmax", "argmax_channel", "argmin",
        "argsort", "batch_take", "broadcast_axes", "broadcast_like", "broadcast_to", "cbrt", "ceil", "clip", "cos",
        "cosh", "cumsum", "degrees", "depth_to_space", "diag", "dot", "erf", "exp", "expand_dims", "expm1", "fix",
        "flatten", "flip", "floor", "gather_nd", "log", "log10", "log1p", "log2", "log_softmax", "max", "mean", "min",
        "nanprod", "nansum", "norm", "one_hot", "ones_like", "pad", "pick", "prod", "radians", "rcbrt", "reciprocal",
        "relu", "repeat", "reshape", "reshape_like", "rint", "round", "rsqrt", "shape_array", "sigmoid", "sign", "sin",
        "sinh", "size_array", "slice", "slice_axis", "slice_like", "softmax", "softmin", "sort", "space_to_depth",
        "split", "split_v2", "sqrt", "square", "squeeze", "sum", "swapaxes", "take", "tan", "tanh", "tile", "topk",
        "transpose", "trunc", "zeros_like",
    )
} | {"slice_assign": "_slice_assign", "slice_assign_scalar": "_slice_assign_scalar"}  # fmt: skip


def add_methods(cls: type, function: Callable[[str], Callable]) -> None:
    """Give `cls` each of METHODS that it does not define; `function(name)` is what a method calls, with self first."""
    for name, called in METHODS.items():
        if name not in cls.__dict__:
            setattr(cls, name, _method(name, called, function))


def _method(name: str, called: str, function: Callable[[str], Callable]):
    def method(self, *args, **kwargs):
        return function(called)(self, *args, **kwargs)

    method.__name__ = name
    method.__doc__ = f"The operator `{called}` of this and what is given, see there."
    return method
