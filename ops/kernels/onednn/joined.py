"""Joining channels that lie in blocks: whole blocks are joined, by NumPy."""

from __future__ import annotations

import functools

import numpy as np

from raymx.ops.kernels import Run, register
from raymx.ops.layout import Blocked


@register("Concat", "forward", "onednn")
def concat(op, xp, ins, outs, extras) -> Run | None:
    if not isinstance(outs["out"], Blocked):
        return None
    return functools.partial(op.forward, np, *_plain(ins).values(), **_plain(outs))


@register("Concat", "backward", "onednn")
def concat_backward(op, xp, ins, outs, extras) -> Run | None:
    if not isinstance(ins["g"], Blocked):
        return None
    return functools.partial(op.backward, np, *_plain(ins).values(), **_plain(outs))


def _plain(arrays) -> dict[str, np.ndarray]:
    """Blocks as an axis of their own, in the place of the channels."""
    return {name: array.view(np.ndarray) for name, array in arrays.items()}
