"""Chains of layers work in the layout that their kernels like best; copies stand only where a chain begins and ends.

A *port* is an input or output of a node that may have any layout of `ops/layout.py`: the channelled ones of layers,
all of an operator that works element by element. The ports of one node have one layout. A *chain* is a connected set
of nodes, forward and backward alike, in which values pass from port to port; it gets a layout if a layer in it gains
from one:

- blocks of 16 channels where most multiplications are by weights of a single point (1x1 convolutions) and the channels
  of every port allow it. The data of a network's first convolution, of few channels, may then stay in C order.
- channels last otherwise.

Values that enter or leave a chain pass through a `_reorder` node, which costs nothing where both layouts are the same
bytes. Variables, outputs, gradients and all other ports are in C order. Pure: a traced graph in, another one out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from raymx.graph.node import Entry, Node
from raymx.graph.traced import Spec, Traced, entries_of
from raymx.ops.layout import BLOCKED, NHWC, PLAIN, fits
from raymx.ops.op import Op, make
from raymx.ops.params import Shape

FEW_CHANNELS = 4  # up to so many, a convolution's kernel reads C order and writes blocks


def lay_out(traced: Traced, known: Sequence[str] = (BLOCKED, NHWC)) -> Traced:
    """The graph with a layout for each chain that gains from one of those that the device's kernels know well."""
    layouts = chosen_layouts(traced, known) if known else {}
    return _Rewriting(traced, layouts).run() if layouts else traced


def chosen_layouts(traced: Traced, known: Sequence[str]) -> dict[Node, str]:
    """The layout of the ports of each node that is in a chain."""
    nodes = [node for node in traced.forward + traced.backward if node.op]
    found: dict[Node, str] = {}
    for layout, gains in ((BLOCKED, _gains_from_blocks), (NHWC, _gains)):
        rest = {node: ports for node in nodes if node not in found and (ports := _ports(node, traced.specs, layout))}
        for chain in _chains(rest) if layout in known else ():
            if gains(chain, traced.specs):
                found.update(dict.fromkeys(chain, layout))
    return found


def _gains(chain: Sequence[Node], specs: Mapping[Entry, Spec]) -> bool:
    return any(node.op.gains for node in chain if node.op)


def _gains_from_blocks(chain: Sequence[Node], specs: Mapping[Entry, Spec]) -> bool:
    """Whether most multiplications are by weights of one point."""
    work = {True: 0, False: 0}
    for node in chain:
        if node.op and node.op.gains and node.forward is None:
            one_point = math.prod(node.op.attrs.get("kernel", ())) == 1
            weight = specs[node.inputs[1]].shape
            work[one_point] += math.prod(specs[Entry(node)].shape) * math.prod(weight[1:])
    return work[True] > work[False]


# ---- ports ----


def _ports(node: Node, specs: Mapping[Entry, Spec], layout: str) -> list[Entry]:
    """The values at the ports of `node`, if all of them can have the layout; none otherwise."""
    op = node.op
    assert op is not None, "a variable has no ports"
    names, ports = (*node.input_names(), *node.output_names()), [*node.inputs, *entries_of(node)]
    if op.elementwise:
        if op.random() or len({specs[e].shape for e in ports}) != 1:
            return []
    else:
        named = [(n, e) for n, e in zip(names, ports, strict=True) if n in op.channelled]
        ports = [e for n, e in named if not _stays(op, n, specs[e].shape, layout)]
    return ports if all(specs[e].dtype == _FLOAT32 and fits(layout, specs[e].shape) for e in ports) else []


def _stays(op: Op, name: str, shape: Shape, layout: str) -> bool:
    """Whether this port stays in C order beside others in blocks."""
    return layout == BLOCKED and op.gains and name.removeprefix("d_") == "data" and shape[1] <= FEW_CHANNELS


def _chains(ports: Mapping[Node, Sequence[Entry]]) -> Iterable[list[Node]]:
    """Sets of nodes that are connected by values which are ports both of the node that makes them and of one that uses
    them."""
    root = {node: node for node in ports}

    def find(node: Node) -> Node:
        while root[node] is not node:
            root[node] = node = root[root[node]]
        return node

    for node, entries in ports.items():
        for entry in entries:
            if entry.node in root and entry in ports[entry.node]:
                root[find(node)] = find(entry.node)
    chains: dict[Node, list[Node]] = {}
    for node in ports:
        chains.setdefault(find(node), []).append(node)
    return chains.values()


# ---- rewriting ----


class _Rewriting:
    """The graph anew, with every use of a value in the layout that the user wants."""

    def __init__(self, traced: Traced, layouts: Mapping[Node, str]):
        self._traced, self._layout_of = traced, layouts
        self._specs = dict(traced.specs)
        self._layouts: dict[Entry, str] = {}  # of the new entries that are not in C order
        self._new: dict[Entry, Entry] = {}
        self._copies: dict[tuple[Entry, str], Entry] = {}

    def run(self) -> Traced:
        traced = self._traced
        forward: list[Node] = []
        for node in traced.forward:
            self._rewrite(node, forward)
        heads = [self._as(head, PLAIN, forward) for head in traced.heads]
        backward: list[Node] = []
        for node in traced.backward:
            self._rewrite(node, backward)
        gradients = {v: e and self._as(e, PLAIN, backward) for v, e in traced.gradients.items()}
        extra = frozenset(self._new[e].node for node in traced.extra for e in entries_of(node) if e in self._new)
        return replace(traced, heads=heads, forward=forward, backward=backward, gradients=gradients,
                       specs=self._specs, layouts=self._layouts, extra=extra)  # fmt: skip

    def _rewrite(self, node: Node, made: list[Node]) -> None:
        layout = self._layout_of.get(node, PLAIN)
        ports = set(_ports(node, self._traced.specs, layout)) if layout else set()
        new = Node(node.op, node.name, node.attrs, forward=node.forward, params=node.params)
        new.inputs = [self._as(e, layout if e in ports else PLAIN, made) for e in node.inputs]
        made.append(new)
        for old, entry in zip(entries_of(node), entries_of(new), strict=True):
            self._new[old] = entry
            self._specs[entry] = self._specs[old]
            if old in ports:
                self._layouts[entry] = layout

    def _as(self, old: Entry, layout: str, made: list[Node]) -> Entry:
        """The value in this layout; a copy is made once."""
        entry = self._new.get(old, old)
        if self._layouts.get(entry, PLAIN) == layout:
            return entry
        copy = self._copies.get((entry, layout))
        if copy is None:
            op = make("_reorder", rename=same_bytes(self._specs[entry].shape))
            made.append(Node(op, old.node.name, old.node.attrs, [entry]))
            copy = self._copies[entry, layout] = Entry(made[-1])
            self._specs[copy] = self._specs[entry]
            if layout:
                self._layouts[copy] = layout
        return copy


def same_bytes(shape: Shape) -> bool:
    """Whether an array of this shape lies in memory in the same way in all layouts that fit."""
    return shape[1] == 1 or math.prod(shape[2:]) == 1


_FLOAT32 = np.dtype("float32")
