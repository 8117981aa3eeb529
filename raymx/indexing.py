"""What an index means: a window on the same memory where strides can express it, else a list of positions to copy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from raymx.ops.params import Shape


class Window(NamedTuple):
    """A view: its shape, strides and offset in bytes from the memory of the array that was indexed."""

    shape: Shape
    strides: tuple[int, ...]
    offset: int


class Positions(NamedTuple):
    """Integer-array or boolean indexing: the shape of the result and an index of NumPy arrays and slices."""

    shape: Shape
    index: Any


def contiguous_strides(shape: Shape, itemsize: int) -> tuple[int, ...]:
    """C-order strides in bytes."""
    strides, step = [], itemsize
    for length in reversed(shape):
        strides.append(step)
        step *= length
    return tuple(reversed(strides))


def rows(key, shape: Shape) -> tuple[int, Shape] | None:
    """First row and shape for an integer or a slice of step 1 on axis 0, the usual case; None for anything else, errors
    included, which `resolve` knows to tell."""
    length = shape[0]
    if key.__class__ is slice:
        if key.step is not None and key.step != 1:
            return None
        start, stop, _ = key.indices(length)
        return (start, (stop - start, *shape[1:])) if start < stop else None
    if key.__class__ is int and -length <= key < length:
        return key % length, shape[1:] or (1,)
    return None


def resolve(keys: tuple, shape: Shape, strides: tuple[int, ...], dtype: np.dtype) -> Window | Positions:
    """What `array[keys]` names. Raises IndexError with NumPy's meaning; an empty result is an error too, because raymx
    has no arrays without elements."""
    if any(isinstance(k, (list, np.ndarray, bool, np.bool_)) for k in keys):
        return _positions(keys, shape)
    whole = () if any(k is Ellipsis for k in keys) else (Ellipsis,)  # NumPy shall make a view of one element, too
    proxy = np.lib.stride_tricks.as_strided(np.empty(1, dtype), shape, strides)  # never read, only indexed
    part = proxy[keys + whole]
    _refuse_empty(part.shape, shape, keys)
    offset = part.__array_interface__["data"][0] - proxy.__array_interface__["data"][0]
    return Window(part.shape or (1,), part.strides or (dtype.itemsize,), offset)


def reshape(shape: Shape, strides: tuple[int, ...], dtype: np.dtype, new_shape: Shape) -> Window | None:
    """The window that shows the same elements in another shape, or None if no strides can."""
    proxy = np.lib.stride_tricks.as_strided(np.empty(1, dtype), shape, strides)
    try:
        return Window(new_shape, np.reshape(proxy, new_shape, copy=False).strides, 0)
    except ValueError:
        return None


def _positions(keys: tuple, shape: Shape) -> Positions:
    index = tuple(_frozen(k) for k in keys)
    found = np.broadcast_to(np.bool_(False), shape)[index].shape
    _refuse_empty(found, shape, keys)
    return Positions(found or (1,), index)


def _frozen(key):
    """A key that its owner cannot change before the device uses it."""
    if isinstance(key, list):
        return np.array(key) if key else np.empty(0, np.intp)
    return key.copy() if isinstance(key, np.ndarray) else key


def _refuse_empty(found: Shape, shape: Shape, keys: tuple) -> None:
    if 0 in found:
        key = ", ".join(map(_text, keys))
        raise IndexError(f"index [{key}] selects nothing from shape {shape}; there are no arrays without elements.")


def _text(key) -> str:
    if isinstance(key, slice):
        start, stop, step = ("" if x is None else str(x) for x in (key.start, key.stop, key.step))
        return f"{start}:{stop}" + (f":{step}" if step else "")
    return "..." if key is Ellipsis else repr(key)
