"""Shape arithmetic that several families of operators share. A 0 in a shape stands for an unknown dimension."""

from __future__ import annotations

import math

from raymx.ops.infer import unify
from raymx.ops.params import Shape


def size(shape: Shape) -> int:
    """Elements of an array of this shape; 0 if a dimension is unknown."""
    return math.prod(shape)


def flat2d(shape: Shape) -> Shape:
    """`(n, all the rest)`."""
    return shape[0], math.prod(shape[1:])


def agreed(*shapes: Shape | None) -> Shape | None:
    """What all the shapes that are known say together; the first wins where a later one contradicts, which the
    inference pass then reports of the later one."""
    result = None
    for shape in shapes:
        try:
            result = unify(result, shape)
        except ValueError:
            pass
    return result


def positive_axis(axis: int, ndim: int) -> int:
    """`axis` counted from the front; raises ValueError if there is none such."""
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is out of range for {ndim} dimensions")
    return axis % ndim


def positive_axes(axes: Shape, ndim: int) -> Shape:
    """`axes` counted from the front, in order; raises ValueError if one is missing or stands twice."""
    counted = tuple(sorted(positive_axis(a, ndim) for a in axes))
    if len(set(counted)) < len(counted):
        raise ValueError(f"axis {axes} names an axis twice")
    return counted


def broadcast(lhs: Shape, rhs: Shape) -> Shape:
    """The shape to which both stretch, aligned at the last axis as in NumPy; raises ValueError if there is none."""
    ndim = max(len(lhs), len(rhs))
    a, b = (1,) * (ndim - len(lhs)) + lhs, (1,) * (ndim - len(rhs)) + rhs
    if any(x != y and 1 not in (x, y) for x, y in zip(a, b, strict=True)):
        raise ValueError("shapes cannot be broadcast to one; each pair of axes must be equal or hold a 1")
    return tuple(max(x, y) for x, y in zip(a, b, strict=True))


def reshaped(out, shape: Shape):
    """A destination under another shape, sharing its memory; raises ValueError if it is a strided view."""
    if out.shape == shape:
        return out
    if not out.flags.c_contiguous:
        raise ValueError(f"cannot write a result of shape {out.shape} into a strided view; give a contiguous `out`")
    return out.reshape(shape)


def sum_to(xp, value, out) -> None:
    """out = `value` summed over the axes along which `out` was broadcast; a copy where there are none."""
    if out.shape == value.shape:
        xp.copyto(out, value)
        return
    lead = value.ndim - out.ndim
    shape = (1,) * lead + out.shape
    axes = tuple(i for i, (have, want) in enumerate(zip(value.shape, shape, strict=True)) if i < lead or have != want)
    xp.sum(value, axis=axes, keepdims=True, out=out.reshape(shape))
