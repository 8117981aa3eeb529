"""Which of the pushes, pulls and questions that wait for the way to the shards goes next. Pure: values in, values out.

Those of one key keep their order, and a question (a barrier, an order) that of everything. Of the others the highest
priority goes first, and takes along what is of its kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

TOGETHER_NBYTES = 1 << 22  # of values in one call, unless a single item has more


class Item(Protocol):
    """What waits: `ready` is whether its values are here, `started` whether it has been sent and waits for answers."""

    kind: str  # "push", "pull", or "ask"
    keys: frozenset
    priority: int
    nbytes: int
    step: int  # of training, for a push: those of different steps keep their order, too
    ready: bool
    started: bool


I = TypeVar("I", bound=Item)  # noqa: E741


def free(waiting: Sequence[I]) -> list[I]:
    """Of what waits, in the order of the calls, that which may be sent now."""
    found: list[I] = []
    taken: set = set()
    step = next((item.step for item in waiting if item.kind == "push"), 0)
    for position, item in enumerate(waiting):
        if item.kind == "ask":
            return [item] if position == 0 and item.ready else found
        due = item.ready and not item.started and (item.kind != "push" or item.step == step)
        if due and taken.isdisjoint(item.keys):
            found.append(item)
        taken |= item.keys
    return found


def chosen(waiting: Sequence[I]) -> list[I]:
    """What goes next, together: by falling priority, then in the order of the calls."""
    candidates = free(waiting)
    if not candidates:
        return []
    first = max(candidates, key=lambda item: item.priority)
    group, nbytes = [first], first.nbytes
    for item in sorted(candidates, key=lambda item: -item.priority):
        if item is not first and item.kind == first.kind and nbytes + item.nbytes <= TOGETHER_NBYTES:
            group.append(item)
            nbytes += item.nbytes
    return group
