"""Rows of a matrix by number: reading them, and adding to them."""

from __future__ import annotations

import numpy


def take_rows(xp, rows, index, out) -> None:
    """out (n, …) = rows (m, …) at index (n,); numbers below 0 mean the first row, above m - 1 the last."""
    if rows.dtype == out.dtype and out.flags.c_contiguous:
        xp.take(rows, index, axis=0, out=out, mode="clip")
    else:
        xp.copyto(out, rows[xp.clip(index, 0, len(rows) - 1)], casting="unsafe")


def add_rows(xp, rows, index, out) -> None:
    """out (m, …) = 0, and to it rows (n, …) added, row i at index[i]; numbers outside count as in `take_rows`.

    On the CPU rows of one number are added in their order.
    """
    out.fill(0)
    index = xp.clip(index, 0, len(out) - 1)
    if xp is not numpy:
        xp.add.at(out, index, rows)
        return
    order = numpy.argsort(index, kind="stable")
    index = index[order]
    starts = numpy.flatnonzero(numpy.diff(index, prepend=-1))
    out[index[starts]] = numpy.add.reduceat(rows[order], starts, axis=0, dtype=_sum_type(out.dtype))


def _sum_type(dtype):
    return "float32" if dtype == "float16" else dtype
