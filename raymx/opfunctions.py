"""`mx.nd.<operator>`: a function for every operator of the registry, made from its declaration.

Beside them the functions of two operands (`mx.nd.add`, `maximum`, `equal`, …), of arrays and numbers in any mix.
"""

from __future__ import annotations

import functools
import operator

import numpy as np

import raymx.ops  # noqa: F401  (fills the registry)
from raymx import composed, opdoc
from raymx.errors import MXNetError, ShapeError, did_you_mean
from raymx.families import families
from raymx.ndarray import NDArray, _binary, array, invoke
from raymx.ops.op import REGISTRY, Op, make


def _either_way(equal: str, broadcast: str, scalar: str):
    """A function of two operands whose order does not matter."""
    compute = _binary(equal, broadcast, scalar)
    return lambda a, b: compute(a, b) if isinstance(a, NDArray) else compute(b, a)


_TWO_OPERANDS = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.truediv,
    "true_divide": operator.truediv, "modulo": operator.mod, "power": operator.pow, "equal": operator.eq,
    "not_equal": operator.ne, "greater": operator.gt, "greater_equal": operator.ge, "lesser": operator.lt,
    "lesser_equal": operator.le,
    "logical_and": _either_way("_logical_and", "broadcast_logical_and", "_logical_and_scalar"),
    "logical_or": _either_way("_logical_or", "broadcast_logical_or", "_logical_or_scalar"),
    "logical_xor": _either_way("_logical_xor", "broadcast_logical_xor", "_logical_xor_scalar"),
    "maximum": _either_way("_maximum", "broadcast_maximum", "_maximum_scalar"),
    "minimum": _either_way("_minimum", "broadcast_minimum", "_minimum_scalar"),
}  # fmt: skip


def names() -> list[str]:
    """The names of all functions, aliases included."""
    return sorted({*REGISTRY, *_TWO_OPERANDS, *composed.COMPOSED})


@functools.cache
def ndarray_function(name: str, shown: str = ""):
    """The imperative function of that name, called `shown`. Raises AttributeError with the nearest known name."""
    if name in _TWO_OPERANDS:
        return _of_two_operands(name)
    if name in composed.COMPOSED:
        return composed.bound(name, ndarray_function)
    if name.startswith("__") or name not in REGISTRY:
        raise AttributeError(f"module 'raymx.ndarray' has no attribute {name!r}{did_you_mean(name, names())}")
    cls = REGISTRY[name]
    plain, declared = not cls.variadic, set(cls.declared)

    def function(*args, out=None, ctx=None, name=None, **options):
        if plain and args and options.keys() <= declared and _all_arrays(args):
            op = make(cls, **options)  # nothing to sort
            if len(args) == len(op.inputs()) + len(op.aux()):
                return invoke(op, args, out)
        arrays, out, params = _sort(cls, args, out, options)
        op = make(cls, **params)
        return invoke(op, _inputs(op, arrays, params, options), out, ctx)

    function.__name__ = function.__qualname__ = shown or name
    function.__doc__ = opdoc.document(cls, "ndarray")
    function.__signature__ = opdoc.signature(cls, "ndarray")  # type: ignore[attr-defined]
    return function


def _all_arrays(args) -> bool:
    return all(a.__class__ is NDArray for a in args)


def _of_two_operands(name: str):
    compute = _TWO_OPERANDS[name]

    def function(lhs, rhs):
        if not isinstance(lhs, NDArray) and not isinstance(rhs, NDArray):
            raise TypeError(f"{name}: expected an NDArray, got {type(lhs).__name__} and {type(rhs).__name__}.")
        return compute(lhs, rhs)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`{name}` of two arrays, stretched as in NumPy, or of an array and a number, in either order."
    return function


def boolean_mask(data: NDArray, index: NDArray, axis: int = 0) -> NDArray:
    """The slices of data along `axis` at which index (K,) is not 0. Waits for index, since the shape depends on it.

    Raises ShapeError if nothing is left.
    """
    if index.shape != (data.shape[axis],):
        raise ShapeError(f"boolean_mask: index must have shape ({data.shape[axis]},), got {index.shape}.")
    kept = np.flatnonzero(index.asnumpy())
    if kept.size == 0:
        raise ShapeError("boolean_mask: index is 0 everywhere, and there are no arrays without elements.")
    return data.take(array(kept, data.context, "int64"), axis=axis)


FAMILIES = families("mx.nd", ndarray_function, contrib={"boolean_mask": boolean_mask, **composed.TESTS})


def _sort(cls: type[Op], args, out, options):
    """Positional arguments are arrays first, then parameters in their order; an array too many is `out`."""
    arrays = list(args[0]) if len(args) == 1 and isinstance(args[0], (list, tuple)) and cls.variadic else []
    rest = [] if arrays else list(args)
    while rest and (isinstance(rest[0], NDArray) or rest[0] is None):
        arrays.append(rest.pop(0))
    _refuse_numpy(cls, rest[:1])
    params = {k: v for k, v in options.items() if k in cls.declared or not isinstance(v, NDArray)}
    _refuse_numpy(cls, (v for k, v in params.items() if k not in cls.declared))
    declared = [p for p in cls.declared if p != cls.variadic]
    if len(rest) > len(declared):
        raise TypeError(f"{cls.name}: too many positional arguments; parameters are {', '.join(declared) or 'none'}.")
    params.update(zip(declared, rest, strict=False))
    if cls.variadic:
        params.setdefault(cls.variadic, len(arrays))
    elif out is None and arrays and not cls.stateful:
        op = make(cls, **params)
        if len(arrays) == len(op.inputs() + op.aux()) + 1:
            out = arrays.pop()
    return arrays, out, params


def _refuse_numpy(cls: type[Op], values) -> None:
    if any(isinstance(v, np.ndarray) for v in values):
        raise TypeError(f"{cls.name}: inputs must be NDArrays, got a NumPy array; make one with mx.nd.array.")


def _inputs(op: Op, arrays, params, options):
    wanted = op.inputs() + op.aux()
    named = {k: v for k, v in options.items() if k not in params}
    for name in named:
        if name not in wanted:
            known = f"{did_you_mean(name, wanted)} (inputs: {', '.join(wanted)})"
            raise MXNetError(f"{op.name}: unknown input {name!r}{known}.")
    found = dict(zip(wanted, arrays, strict=False)) | named
    missing = [n for n in wanted if found.get(n) is None]
    if missing or len(arrays) > len(wanted):
        raise MXNetError(
            f"{op.name} takes the arrays {', '.join(wanted) or 'none'}, got {len(arrays) + len(named)}"
            + (f"; missing: {', '.join(missing)}." if missing else ".")
        )
    for name in wanted:
        if not isinstance(found[name], NDArray):
            raise TypeError(f"{op.name}: {name} must be an NDArray, got {type(found[name]).__name__}; see mx.nd.array.")
    return tuple(found[n] for n in wanted)
