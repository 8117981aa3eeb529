"""Shape and type inference of one operator: unify what is known with what its rule deduces.

A shape is None (nothing known) or a tuple in which 0 stands for an unknown dimension.
"""

from __future__ import annotations

import inspect
from functools import cache, lru_cache

from raymx.errors import DTypeError, ShapeError
from raymx.ops.op import Op
from raymx.ops.params import Shape


def complete(shape: Shape | None) -> bool:
    return shape is not None and 0 not in shape


def unify(a: Shape | None, b: Shape | None) -> Shape | None:
    """The shape that agrees with both; raises ValueError when there is none."""
    if a is None or b is None:
        return b if a is None else a
    if len(a) != len(b):
        raise ValueError
    merged = []
    for x, y in zip(a, b, strict=True):
        if x and y and x != y:
            raise ValueError
        merged.append(x or y)
    return tuple(merged)


@cache
def _rule(cls) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    params = list(inspect.signature(cls.infer_shape).parameters.values())[1:]
    needed = tuple(p.name for p in params if p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD)
    optional = tuple(p.name for p in params if p.default is not p.empty)
    return needed, optional, any(p.kind == p.VAR_KEYWORD for p in params)


def infer_shapes(op: Op, known: dict[str, Shape | None], node: str = "") -> dict[str, Shape | None]:
    """One pass of `op`'s rule over `known` (every input, aux state and output by name): the unified shapes.

    Raises ShapeError that names operator, node, what came and what was expected.
    """
    needed, optional, everything = _rule(type(op))  # type: ignore[arg-type]
    if any(not complete(known.get(n)) for n in needed):
        return known
    try:
        arguments = dict(known) if everything else {n: known.get(n) for n in needed + optional}
        deduced = op.infer_shape(**arguments)
    except ShapeError:
        raise
    except (ValueError, IndexError) as error:
        raise ShapeError(f"{_who(op, node)}: {error} (got {_shapes(op, known)}).") from None
    merged = dict(known)
    for name, shape in deduced.items():
        try:
            merged[name] = unify(merged.get(name), shape)
        except ValueError:
            asked = op.inputs() if everything else (*needed, *optional)
            given = ", ".join(f"{n} {known[n]}" for n in asked if known.get(n) and n != name)
            set_to = {k: v for k, v in op.attrs.items() if v is not None and not _is_default(op, k, v)}
            settings = ", ".join(f"{k}={v}" for k, v in set_to.items())
            why = " and ".join(x for x in (given, settings) if x)
            raise ShapeError(f"{_who(op, node)}: {name} must be {shape} for {why}, got {known[name]}.") from None
    return merged


def infer_types(op: Op, known, node: str = ""):
    """One pass of `op`'s dtype rule; raises DTypeError on a contradiction."""
    merged = dict(known)
    for name, dtype in op.infer_type(known).items():
        if dtype is None:
            continue
        if merged.get(name) is not None and merged[name] != dtype:
            came = ", ".join(f"{n} {t}" for n, t in known.items() if t is not None)
            raise DTypeError(
                f"{_who(op, node)}: {name} must be {dtype}, got {merged[name]} ({came}); "
                "convert one with astype or Cast."
            )
        merged[name] = dtype
    for name in (n for n in op.inputs() if not op.one_type or n in op.one_type):
        if merged.get(name) is not None and merged[name].kind not in op.kinds:
            raise DTypeError(
                f"{_who(op, node)}: {name} must be {_KINDS[op.kinds]}, got {merged[name]}; "
                "convert it with astype or Cast."
            )
    return merged


_KINDS = {"f": "of a floating type", "fiu": "of a floating or integer type"}


@lru_cache(maxsize=4096)
def infer_call(op: Op, shapes: tuple[Shape, ...], dtypes: tuple, given: tuple = ()):
    """Output (shape, dtype) pairs of an imperative call on complete inputs and aux states; cached. `given` are those of
    the first outputs, where they are known."""
    names = op.inputs() + op.aux()
    outs = op.outputs()
    known = dict(zip(outs, given, strict=False))
    shapes_out, types_out = ({n: known[n][i] if n in known else None for n in outs} for i in (0, 1))
    merged = infer_shapes(op, {**dict(zip(names, shapes, strict=True)), **shapes_out})
    types = infer_types(op, {**dict(zip(names, dtypes, strict=True)), **types_out})
    missing = [n for n in outs if not complete(merged[n])]
    if missing:
        raise ShapeError(f"{_who(op, '')}: cannot tell the shape of {', '.join(missing)} from {_shapes(op, merged)}.")
    return tuple((merged[n], types[n] or dtypes[0]) for n in outs)


def _is_default(op: Op, name: str, value) -> bool:
    return name in op.declared and bool(value == op.declared[name].default)


def _who(op: Op, node: str) -> str:
    return f"{op.name} {node!r}" if node else op.name


def _shapes(op: Op, known) -> str:
    return ", ".join(f"{n} {known[n]}" for n in op.inputs() if known.get(n) is not None) or "no shapes"
