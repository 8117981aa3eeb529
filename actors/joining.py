"""Updates of arrays that lie side by side run as one: optimizers push a task for each parameter, and a task costs more
than the arithmetic on a small one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def joined(tasks: Sequence[tuple], arrays: Mapping[int, np.ndarray]) -> tuple[list, list] | None:
    """Inputs and outputs of one task that does the work of all: `tasks` are `(op, outs, ins)` with one operator that
    works element by element and writes its first input in place. None where the arrays do not lie so."""
    ins = [side_by_side([arrays[task[2][i]] for task in tasks]) for i in range(len(tasks[0][2]))]
    if any(each is None for each in ins) or any(task[1] != task[2][:1] for task in tasks):
        return None
    if any(np.may_share_memory(a, b) for k, a in enumerate(ins) for b in ins[:k]):
        return None
    return ins, ins[:1]


def side_by_side(arrays: Sequence[np.ndarray]) -> np.ndarray | None:
    """One flat array over the memory of several, if each begins where the one before ends."""
    first, root = arrays[0], _root(arrays[0])
    end = _address(first)
    for array in arrays:
        if array.dtype != first.dtype or not array.flags.c_contiguous or _root(array) is not root:
            return None
        if _address(array) != end:
            return None
        end += array.nbytes
    size = sum(array.size for array in arrays)
    return np.ndarray((size,), first.dtype, root, _address(first) - _address(root))


def _root(array):
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]
