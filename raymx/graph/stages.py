"""Backward cut into stages, so that gradients leave while others are still computed.

Pure. A stage ends where all gradients of a group of variables are there, if enough is done before and left after it to
be worth a task of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from raymx.graph.marks import Cut
from raymx.graph.node import Node
from raymx.graph.schedule import MESSAGE_US, cost_us
from raymx.graph.traced import Traced


def staged(traced: Traced, groups: Sequence[Collection[Node]]) -> Traced:
    """The graph with marks where a stage of backward begins: `backward 1`, `backward 2`, …; the first is `backward`."""
    position = {node: i for i, node in enumerate(traced.backward)}
    costs = [cost_us(node, traced.specs) for node in traced.backward]
    begins: dict[int, str] = {}
    start = 0
    for stop in sorted({_complete(traced, group, position) for group in groups}):
        if sum(costs[start:stop]) >= MESSAGE_US and sum(costs[stop:]) >= MESSAGE_US:
            begins[stop] = f"backward {len(begins) + 1}"
            start = stop
    nodes: list[Node] = []
    for i, node in enumerate(traced.backward):
        if i in begins:
            nodes.append(Node(Cut(begins[i]), begins[i]))
        nodes.append(node)
    return replace(traced, backward=nodes)


def _complete(traced: Traced, group: Collection[Node], position: dict[Node, int]) -> int:
    """After how many nodes of backward the gradients of all these variables are there."""
    entries = [entry for variable in group if (entry := traced.gradients.get(variable)) is not None]
    return max((position.get(entry.node, -1) + 1 for entry in entries), default=0)
