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


def resolve(key, shape: Shape, strides: tuple[int, ...], dtype: np.dtype) -> Window | Positions:
    """What `array[key]` names. Raises IndexError with NumPy's meaning; an empty result is an error too, because raymx has
    no arrays without elements."""
    keys = key if isinstance(key, tuple) else (key,)
    if any(isinstance(k, (list, np.ndarray, bool, np.bool_)) for k in keys):
        return _positions(key, shape)
    proxy = np.lib.stride_tricks.as_strided(np.empty(1, dtype), shape, strides)  # never read, only indexed
    part = proxy[key]
    if not isinstance(part, np.ndarray):
        part = proxy[(*keys, ..., None)] if Ellipsis not in keys else proxy[(*keys, None)]
    _refuse_empty(part.shape, shape, key)
    offset = part.__array_interface__["data"][0] - proxy.__array_interface__["data"][0]
    return Window(part.shape or (1,), part.strides or (dtype.itemsize,), offset)


def reshape(shape: Shape, strides: tuple[int, ...], dtype: np.dtype, new_shape: Shape) -> Window | None:
    """The window that shows the same elements in another shape, or None if no strides can."""
    proxy = np.lib.stride_tricks.as_strided(np.empty(1, dtype), shape, strides)
    try:
        proxy.shape = new_shape
    except AttributeError:
        return None
    return Window(new_shape, proxy.strides, 0)


def _positions(key, shape: Shape) -> Positions:
    found = np.broadcast_to(np.bool_(False), shape)[key].shape
    _refuse_empty(found, shape, key)
    return Positions(found or (1,), key)


def _refuse_empty(found: Shape, shape: Shape, key) -> None:
    if 0 in found:
        raise IndexError(f"index {key!r} selects nothing from shape {shape}; arrays without elements do not exist here.")
