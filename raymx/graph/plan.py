"""Where the values of a program lie in one arena: values whose lifetimes do not meet share bytes.

Pure: lifetimes in, offsets out. Time is counted in steps. A value is live from the step that writes it first to the
last step that reads it, both included.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

ALIGNMENT = 64  # bytes: a cache line, and the widest vector load


class Value(NamedTuple):
    """`nbytes` bytes, live from step `born` to step `dies`. A pinned one has memory of its own: it gets no place."""

    nbytes: int
    born: int
    dies: int
    pinned: bool = False


class Plan(NamedTuple):
    offsets: tuple[int | None, ...]  # of each value in the arena, a multiple of 64; None for pinned ones
    nbytes: int  # size of the arena
    unplanned_nbytes: int  # what the values would take side by side
    shared: tuple[tuple[int, int], ...]  # the in-place pairs that were used


@dataclass
class _Block:
    """Values that lie on each other, one written in place of the one before."""

    nbytes: int
    born: int
    dies: int
    members: list[int]


def plan(values: Sequence[Value], inplace: Iterable[tuple[int, int]] = ()) -> Plan:
    """Offsets for `values` such that no two live ones overlap, but for in-place pairs.

    `inplace` lists pairs (input, output) that may lie on each other; one is used where the input dies in the step that
    writes the output, both have the same size and neither is taken already. Earlier pairs win.
    """
    blocks, shared = _join(values, inplace)
    least = _peak(blocks)
    best: tuple[int, list[int]] | None = None
    for key in _ORDERS:
        keys = [key(block) for block in blocks]
        found = _place(blocks, sorted(range(len(blocks)), key=keys.__getitem__))
        if best is None or found[0] < best[0]:
            best = found
        if best[0] == least:
            break
    nbytes, places = best or (0, [])
    offsets: list[int | None] = [None] * len(values)
    for block, place in zip(blocks, places, strict=True):
        for member in block.members:
            offsets[member] = place
    return Plan(tuple(offsets), nbytes, sum(aligned(v.nbytes) for v in values if not v.pinned), shared)


def _join(values: Sequence[Value], inplace) -> tuple[list[_Block], tuple[tuple[int, int], ...]]:
    blocks = {i: _Block(aligned(v.nbytes), v.born, v.dies, [i]) for i, v in enumerate(values) if not v.pinned}
    shared = []
    for source, target in sorted(inplace, key=lambda pair: values[pair[1]].born):
        if source not in blocks or target not in blocks:
            continue
        block, end = blocks[source], blocks[target]
        if block is end or block.members[-1] != source or end.members[0] != target:
            continue
        if block.dies == end.born and block.nbytes == end.nbytes:
            block.dies = end.dies
            block.members += end.members
            blocks.update(dict.fromkeys(end.members, block))
            shared.append((source, target))
    unique = {id(b): b for b in blocks.values()}
    return list(unique.values()), tuple(shared)


def _place(blocks: Sequence[_Block], order: Sequence[int]) -> tuple[int, list[int]]:
    """Give each block, in this order, the tightest gap that is free for its whole life: (arena size, offsets)."""
    places = [0] * len(blocks)
    placed: list[tuple[int, int]] = []  # (offset, block), by offset
    total = 0
    for index in order:
        block = blocks[index]
        busy = (
            (offset, offset + blocks[i].nbytes)
            for offset, i in placed
            if blocks[i].born <= block.dies and block.born <= blocks[i].dies
        )
        places[index] = offset = _tightest_gap(busy, block.nbytes)
        insort(placed, (offset, index))
        total = max(total, offset + block.nbytes)
    return total, places


def _tightest_gap(busy: Iterable[tuple[int, int]], nbytes: int) -> int:
    """Start of the smallest gap of at least `nbytes` between `busy` ranges (by start), else the end of the last."""
    best, best_room, end = -1, 0, 0
    for start, stop in busy:
        room = start - end
        if room >= nbytes and (best < 0 or room < best_room):
            best, best_room = end, room
        end = max(end, stop)
    return end if best < 0 else best


def _peak(blocks: Sequence[_Block]) -> int:
    """Bytes live at the worst step: no arena can be smaller."""
    changes: dict[int, int] = {}
    for block in blocks:
        changes[block.born] = changes.get(block.born, 0) + block.nbytes
        changes[block.dies + 1] = changes.get(block.dies + 1, 0) - block.nbytes
    live = most = 0
    for step in sorted(changes):
        live += changes[step]
        most = max(most, live)
    return most


def aligned(nbytes: int) -> int:
    """`nbytes` rounded up to the next place where a value may start."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


# The orders in which blocks are placed; the first that reaches the peak wins, else the smallest arena.
_ORDERS: tuple[Callable[[_Block], tuple], ...] = (
    lambda b: (-b.nbytes, b.born),
    lambda b: (b.born, -b.nbytes),
    lambda b: (b.born - b.dies, -b.nbytes),
    lambda b: (-b.nbytes * (b.dies - b.born + 1), b.born),
)
