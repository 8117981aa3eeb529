"""How the elements of an array (N, C, …) may lie in memory while a chain of layers works on it.

Two forms beside C order, and neither takes more bytes than it:

- channels last (`NHWC`): an ordinary array of shape (N, C, …) whose channels have stride 1. Every kernel can take it.
- channels in blocks of 16 (`BLOCKED`): a `Blocked` array. Only kernels that work element by element, and special
  kernels, can take it.

What the user sees is always in C order; the graph compiler puts `_reorder` steps where a chain begins and ends.
"""

from __future__ import annotations

import numpy as np

from raymx.ops.params import Shape

PLAIN, NHWC, BLOCKED = "", "nhwc", "blocked"
BLOCK = 16  # channels in a block: the floats of a 512-bit vector


class Blocked(np.ndarray):
    """An array (N, C / 16, …, 16) that stands for (N, C, …): element (n, c, …) lies at (n, c // 16, …, c % 16)."""

    @property
    def stands_for(self) -> Shape:
        """The shape (N, C, …)."""
        n, blocks, *rest = self.shape[:-1]
        return (n, blocks * self.shape[-1], *rest)


def fits(layout: str, shape: Shape) -> bool:
    """Whether an array of this shape can have the layout without padding."""
    return layout == PLAIN or (len(shape) >= 3 and (layout == NHWC or shape[1] % BLOCK == 0))


def laid_out(memory, shape: Shape, layout: str):
    """The array of `shape` and `layout` on flat, contiguous `memory` of as many elements."""
    if layout == PLAIN:
        return memory.reshape(shape)
    n, c, *rest = shape
    if layout == NHWC:
        return np.moveaxis(memory.reshape(n, *rest, c), -1, 1)
    return memory.reshape(n, c // BLOCK, *rest, BLOCK).view(Blocked)


def unblocked(array):
    """A view of `array` as (N, C / 16, 16, …) if it is blocked: what `copyto` needs to go from and to other layouts."""
    return np.moveaxis(array.view(np.ndarray), -1, 2) if isinstance(array, Blocked) else array


def layout_of(array) -> str:
    """The layout of an array; that of one with gaps is taken for C order."""
    if isinstance(array, Blocked):
        return BLOCKED
    last = array.ndim > 2 and not array.flags.c_contiguous and np.moveaxis(array, 1, -1).flags.c_contiguous
    return NHWC if last else PLAIN


def logical(array) -> Shape:
    """The shape (N, C, …) of an array of any layout."""
    return array.stands_for if isinstance(array, Blocked) else array.shape
