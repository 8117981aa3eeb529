"""`mx.nd.<operator>`: a function for every operator of the registry, made from its declaration."""

from __future__ import annotations

import functools

import raymx.ops  # noqa: F401  (fills the registry)
from raymx import opdoc
from raymx.errors import MXNetError, did_you_mean
from raymx.ndarray import NDArray, invoke
from raymx.ops.op import REGISTRY, Op, make


def names() -> list[str]:
    """Every operator's name and alias."""
    return sorted(REGISTRY)


@functools.cache
def ndarray_function(name: str):
    """The imperative function of an operator. Raises AttributeError with the nearest known name."""
    if name.startswith("__") or name not in REGISTRY:
        raise AttributeError(f"module 'raymx.ndarray' has no attribute {name!r}{did_you_mean(name, REGISTRY)}")
    cls = REGISTRY[name]

    def function(*args, out=None, ctx=None, name=None, **options):
        arrays, out, params = _sort(cls, args, out, options)
        op = make(cls, **params)
        return invoke(op, _inputs(op, arrays, params, options), out, ctx)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = opdoc.document(cls, "ndarray")
    function.__signature__ = opdoc.signature(cls, "ndarray")  # type: ignore[attr-defined]
    return function


def _sort(cls: type[Op], args, out, options):
    """Positional arguments are arrays first, then parameters in their order; an array too many is `out`."""
    arrays = list(args[0]) if len(args) == 1 and isinstance(args[0], (list, tuple)) and cls.variadic else []
    rest = [] if arrays else list(args)
    while rest and (isinstance(rest[0], NDArray) or rest[0] is None):
        arrays.append(rest.pop(0))
    params = {k: v for k, v in options.items() if k in cls.declared or not isinstance(v, NDArray)}
    declared = [p for p in cls.declared if p != cls.variadic]
    if len(rest) > len(declared):
        raise TypeError(f"{cls.name}: too many positional arguments; parameters are {', '.join(declared) or 'none'}.")
    params.update(zip(declared, rest, strict=False))
    if cls.variadic:
        params.setdefault(cls.variadic, len(arrays))
    elif out is None and arrays:
        op = make(cls, **params)
        if len(arrays) == len(op.inputs() + op.aux()) + 1:
            out = arrays.pop()
    return arrays, out, params


def _inputs(op: Op, arrays, params, options):
    wanted = op.inputs() + op.aux()
    named = {k: v for k, v in options.items() if k not in params}
    for name in named:
        if name not in wanted:
            raise MXNetError(f"{op.name}: unknown input {name!r}{did_you_mean(name, wanted)} (inputs: {', '.join(wanted)}).")
    found = dict(zip(wanted, arrays, strict=False)) | named
    missing = [n for n in wanted if found.get(n) is None]
    if missing or len(arrays) > len(wanted):
        raise MXNetError(
            f"{op.name} takes the arrays {', '.join(wanted) or 'none'}, got {len(arrays) + len(named)}"
            + (f"; missing: {', '.join(missing)}." if missing else ".")
        )
    return tuple(found[n] for n in wanted)
