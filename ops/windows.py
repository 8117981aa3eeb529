"""Windows that slide over the last axes of an array: what convolution and pooling share.

A `large` side (…, *X) is seen through windows, one for each position of a `small` side (…, *Y). Window `y` begins at
`y * stride - pad` and has one element each `dilate`; what lies outside of the large side is not there: no copy with
padding is ever made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from raymx.errors import ParameterError
from raymx.ops.op import Op
from raymx.ops.params import Shape

COLUMNS_LIMIT = 1 << 20  # elements of the matrix of windows that is made at a time
FIRST = {1: "NCW", 2: "NCHW", 3: "NCDHW"}
LAST = {1: "NWC", 2: "NHWC", 3: "NDHWC"}
LAYOUTS = (*FIRST.values(), *LAST.values())
MAY_BE_ZERO = ("pad", "adj", "target_shape")


class Windows(NamedTuple):
    """The form of the windows, one number for each axis."""

    kernel: Shape
    stride: Shape
    dilate: Shape
    pad: Shape

    @property
    def extent(self) -> Shape:
        """From a window's first element to behind its last one."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilate, strict=True))

    def offsets(self) -> Iterator[Shape]:
        """Every position inside a window, the last axis fastest."""
        return np.ndindex(*self.kernel)

    def meet(self, offset: Shape, large: Shape, small: Shape, start: int = 0) -> tuple[Any, Any]:
        """Indices of the last axes: those elements of the large side (*X) that stand at `offset` of some window, and
        those windows of the small side (*Y). With `start`, the first axis of `small` begins at that window."""
        sides: tuple[list, list] = [], []
        for axis, (k, n, m) in enumerate(zip(offset, large, small, strict=True)):
            stride, begin = self.stride[axis], k * self.dilate[axis] - self.pad[axis]
            first = start if axis == 0 else 0
            low = max(first, -(begin // stride))
            high = max(low, min(first + m, (n - 1 - begin) // stride + 1))
            sides[0].append(slice(low * stride + begin, (high - 1) * stride + begin + 1 if high > low else 0, stride))
            sides[1].append(slice(low - first, high - first))
        return (..., *sides[0]), (..., *sides[1])


class Sliding(Op):
    """Base of the operators with windows over data (N, C, *X), or (N, *X, C) by their parameter `layout`."""

    heavy = True
    kinds = "f"

    kernel: Shape
    stride: Shape
    pad: Shape
    layout: str | None

    def check_windows(self, *names: str) -> None:
        """Raise ParameterError unless the parameters `names` have one number for each of the kernel's axes."""
        n = len(self.kernel)
        if n not in FIRST:
            raise ParameterError(f"{self.name}: kernel must have 1, 2 or 3 numbers, got {self.kernel}.")
        for name in ("kernel", *names):
            value, low = getattr(self, name), 0 if name in MAY_BE_ZERO else 1
            if len(value) != n or min(value) < low:
                least = f"of at least {low}" if low else "that are not negative"
                raise ParameterError(
                    f"{self.name}: {name} must be {n} numbers {least}, as kernel is {self.kernel}, got {value}."
                )

    def check_layout(self, n: int) -> None:
        """Raise ParameterError if `layout` is not one for `n` axes beside batch and channels."""
        if self.layout is not None and self.layout not in (FIRST[n], LAST[n]):
            raise ParameterError(
                f"{self.name}: layout must be {FIRST[n]!r} or {LAST[n]!r} for {n} axes, got {self.layout!r}."
            )

    @property
    def channels_last(self) -> bool:
        return self.layout in LAST.values()

    def first(self, array):
        """The array, or its shape, as (N, C, *X)."""
        if not self.channels_last or array is None:
            return array
        return (array[0], array[-1], *array[1:-1]) if isinstance(array, tuple) else np.moveaxis(array, -1, 1)

    def last(self, shape: Shape) -> Shape:
        """The shape (N, C, *X) as the user sees it."""
        return (shape[0], *shape[2:], shape[1]) if self.channels_last else shape


def per_axis(value: Shape, default: int, n: int) -> Shape:
    """`value`, or `default` for each of `n` axes if it is empty."""
    return value or (default,) * n


# ---- products with windows: convolution in every direction ----


def columns_shape(large: Shape, small: Shape, kernel: Shape) -> Shape:
    """Shape of the scratch for the three products below, of sides (N, C, *X) and (N, F, *Y)."""
    depth, rest = large[1] * math.prod(kernel), math.prod(small[3:])
    rows = min(small[2], max(1, COLUMNS_LIMIT // max(1, depth * rest)))
    return depth, rows * rest


def gather(xp, windows: Windows, large, weight, small, groups: int, columns) -> None:
    """small (N, F, *Y) = windows of large (N, C, *X) times weight (F, C / groups, *kernel): a convolution."""
    matrix = _by_group(weight, groups)
    for n, start, stop, part in _blocks(small, columns, large.shape[1] * math.prod(windows.kernel)):
        _fill_columns(xp, windows, large[n], part, small.shape[2:], start, stop)
        target = small[n, :, start:stop]
        flat = target.reshape(groups, matrix.shape[1], -1)
        xp.matmul(matrix, part.reshape(groups, matrix.shape[2], -1), out=flat)
        _bring_back(xp, flat, target)


def scatter(xp, windows: Windows, small, weight, large, groups: int, columns) -> None:
    """large (N, C, *X) = what each element of small (N, F, *Y), times weight, adds to its window: the transpose."""
    matrix = _by_group(weight, groups).transpose(0, 2, 1)
    large[...] = 0
    for n, start, stop, part in _blocks(small, columns, large.shape[1] * math.prod(windows.kernel)):
        flat = small[n, :, start:stop].reshape(groups, matrix.shape[2], -1)
        xp.matmul(matrix, flat, out=part.reshape(groups, matrix.shape[1], -1))
        cells = part.reshape(large.shape[1], *windows.kernel, stop - start, *small.shape[3:])
        for offset in windows.offsets():
            there, here = windows.meet(offset, large.shape[2:], cells.shape[1 + len(offset) :], start)
            large[n][there] += cells[(slice(None), *offset)][here]


def outer(xp, windows: Windows, large, small, d_weight, groups: int, columns, product) -> None:
    """d_weight (F, C / groups, *kernel) = the sum over all windows of small times large; product is like d_weight."""
    d_weight[...] = 0
    for n, start, stop, part in _blocks(small, columns, large.shape[1] * math.prod(windows.kernel)):
        _fill_columns(xp, windows, large[n], part, small.shape[2:], start, stop)
        flat = small[n, :, start:stop].reshape(groups, small.shape[1] // groups, -1)
        cells = part.reshape(groups, -1, part.shape[1]).transpose(0, 2, 1)
        xp.matmul(flat, cells, out=product.reshape(groups, flat.shape[1], -1))
        xp.add(d_weight, product.reshape(d_weight.shape), out=d_weight)


def _by_group(weight, groups: int):
    """weight (F, C / groups, *kernel) as (groups, F / groups, all the rest)."""
    return weight.reshape(groups, weight.shape[0] // groups, -1)


def _blocks(small, columns, depth: int):
    """Sample by sample, and as many rows of windows at a time as `columns` can hold: (sample, first row, row behind the
    last, that part of `columns`)."""
    rest, memory = math.prod(small.shape[3:]), columns.reshape(-1)
    rows = columns.shape[1] // rest
    for n in range(small.shape[0]):
        for start in range(0, small.shape[2], rows):
            stop = min(start + rows, small.shape[2])
            width = (stop - start) * rest
            yield n, start, stop, memory[: depth * width].reshape(depth, width)


def _fill_columns(xp, windows: Windows, image, columns, small: Shape, start: int, stop: int) -> None:
    """columns (C * all of kernel, rows * …) = the elements of image (C, *X) in the windows of those rows."""
    cells = columns.reshape(image.shape[0], *windows.kernel, stop - start, *small[1:])
    cells[...] = 0
    for offset in windows.offsets():
        there, here = windows.meet(offset, image.shape[1:], (stop - start, *small[1:]), start)
        cells[(slice(None), *offset)][here] = image[there]


def _bring_back(xp, flat, target) -> None:
    """Copy `flat` to the array it was to be another shape of, if that could not be had without a copy."""
    if not xp.may_share_memory(flat, target):
        xp.copyto(target, flat.reshape(target.shape))
