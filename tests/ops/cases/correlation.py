"""Rows: patches compared."""

import itertools

import numpy as np

from tests.ops.cases.table import case


# fmt: off
def _compared(a, b, kernel_size=1, max_displacement=1, stride1=1, stride2=1, pad_size=0, is_multiply=True):
    """Patch by patch."""
    pads = ((0, 0), (0, 0), (pad_size, pad_size), (pad_size, pad_size))
    a, b, d, k = np.pad(a, pads), np.pad(b, pads), max_displacement, kernel_size
    starts = [range(d, n - d - k + 1, stride1) for n in a.shape[2:]]
    moves = [m * stride2 for m in range(-(d // stride2), d // stride2 + 1)]
    out = np.zeros((len(a), len(moves) ** 2, *(len(s) for s in starts)))
    for (q, (dy, dx)), (i, y), (j, x) in itertools.product(
        enumerate(itertools.product(moves, moves)), enumerate(starts[0]), enumerate(starts[1])
    ):
        one, other = a[:, :, y : y + k, x : x + k], b[:, :, y + dy : y + dy + k, x + dx : x + dx + k]
        out[:, q, i, j] = (one * other if is_multiply else np.abs(one - other)).mean(axis=(1, 2, 3))
    return out


for _params in (
    {}, {"max_displacement": 0}, {"kernel_size": 3, "pad_size": 2},
    {"max_displacement": 2, "stride2": 2, "pad_size": 1},
    {"stride1": 2, "pad_size": 3, "max_displacement": 3, "stride2": 2}, {"is_multiply": False},
    {"is_multiply": False, "kernel_size": 3, "stride1": 2, "pad_size": 2},
):
    case("Correlation", (2, 3, 6, 5), (2, 3, 6, 5), **_params, ref=lambda a, b, p=_params: _compared(a, b, **p))
