"""Products with one weight, whose data are there at the same time, become one product: a recurrent network's inputs to
all its steps, the branches of a network that share a weight.

Many products of few rows read the whole weight each; one of many rows reads it once. Their data are joined and the
result is cut, which costs nothing where the values can be made side by side. Runs before the graph is differentiated,
so that backward is one product, too. The given graph stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from raymx.graph import attributes
from raymx.graph.node import Entry, Node, topological
from raymx.graph.traced import Spec
from raymx.ops.infer import infer_call
from raymx.ops.op import make

FEWEST = 4  # products that are worth joining
MOST_ROWS = 256  # of one product; larger ones gain nothing


def batch(heads: Sequence[Entry], specs: Mapping[Entry, Spec]) -> tuple[list[Entry], dict[Entry, Spec]]:
    """Heads with the same values, and `specs`, which knows every entry, with what is new."""
    order = topological(list(heads))
    groups = [] if any(node.forward for node in order) else _groups(order, specs)
    if not groups:
        return list(heads), dict(specs)
    batching = _Batching(heads, specs, order)
    for members in groups:
        batching.join(members)
    return batching.heads, batching.specs


def _groups(order: Iterable[Node], specs: Mapping[Entry, Spec]) -> list[list[Node]]:
    """Products with the same weight and bias and data of one shape."""
    found: dict[tuple, list[Node]] = {}
    for node in order:
        if node.op is not None and node.op.name == "FullyConnected" and _is_small(node, specs):
            key = (node.op, *node.inputs[1:], specs[node.inputs[0]], attributes.find(node.attrs, "ctx_group"))
            found.setdefault(key, []).append(node)
    return [members for members in found.values() if len(members) >= FEWEST]


def _is_small(node: Node, specs: Mapping[Entry, Spec]) -> bool:
    known = Entry(node) in specs and node.inputs[0] in specs
    return known and math.prod(specs[Entry(node)].shape[:-1]) <= MOST_ROWS


class _Batching:
    """A copy of the graph, in which nodes are replaced."""

    def __init__(self, heads: Sequence[Entry], specs: Mapping[Entry, Spec], order: Sequence[Node]):
        self._copies: dict[Node, Node] = {}
        for node in order:
            inputs = [self._copied(e) for e in node.inputs]
            self._copies[node] = Node(node.op, node.name, node.attrs, inputs, None, node.params) if node.op else node
        self.heads = [self._copied(head) for head in heads]
        self.specs = dict(specs)
        self.specs.update((self._copied(e), spec) for e, spec in specs.items() if e.node in self._copies)

    def _copied(self, entry: Entry) -> Entry:
        return Entry(self._copies[entry.node], entry.index)

    def join(self, members: Sequence[Node]) -> None:
        """Join these products of the given graph, as far as none of them needs the result of another."""
        order = topological(self.heads)
        for nodes in _levels(order, {self._copies[node] for node in members}):
            if len(nodes) >= FEWEST:
                self._replace(nodes, self._product(nodes))

    def _product(self, nodes: Sequence[Node]) -> Node:
        """The node whose outputs are those of `nodes`."""
        first, name = nodes[0], f"{nodes[0].name}...{nodes[-1].name}"
        data = self._joined([node.inputs[0] for node in nodes], name, first)
        whole = self._node(first.op, name, [data, *first.inputs[1:]], first)
        cut = make("SliceChannel", num_outputs=len(nodes), axis=0)
        return self._node(cut, f"{name}_cut", [whole], first).node

    def _joined(self, entries: Sequence[Entry], name: str, like: Node) -> Entry:
        """The entries one after the other along their first axis."""

        def new(op_name: str, inputs: Sequence[Entry], **params) -> Entry:
            return self._node(make(op_name, **params), f"{name}_{op_name.lower()}", inputs, like)

        shape = self.specs[entries[0]].shape
        whole = self._cut_from(entries)
        if whole is None:
            return new("Concat", entries, num_args=len(entries), dim=0)
        cut, source = whole
        if cut.attrs["axis"] % len(self.specs[source].shape):
            source = new("SwapAxis", [source], dim1=0, dim2=1)
        return new("Reshape", [source], shape=(len(entries) * shape[0], *shape[1:]))

    def _cut_from(self, entries: Sequence[Entry]):
        """The operator that cut the entries, in this order, along one of the first two axes, and what it cut."""
        node = entries[0].node
        op = node.op
        if op is None or op.name != "SliceChannel" or entries != [Entry(node, i) for i in range(len(op.outputs()))]:
            return None
        axis = op.attrs["axis"] % len(self.specs[node.inputs[0]].shape)
        fits = axis == 0 or (axis == 1 and op.attrs["squeeze_axis"])
        return (op, node.inputs[0]) if fits else None

    def _node(self, op, name: str, inputs: Sequence[Entry], like: Node) -> Entry:
        node = Node(op, name, like.attrs, inputs)
        ins = [self.specs[e] for e in inputs]
        found = infer_call(op, tuple(s.shape for s in ins), tuple(s.dtype for s in ins))
        self.specs.update((Entry(node, i), Spec(*spec)) for i, spec in enumerate(found))
        return Entry(node)

    def _replace(self, nodes: Sequence[Node], parts: Node) -> None:
        new = {Entry(node): Entry(parts, i) for i, node in enumerate(nodes)}
        for node in topological(self.heads):
            node.inputs = [new.get(e, e) for e in node.inputs]
        self.heads = [new.get(head, head) for head in self.heads]


def _levels(order: Iterable[Node], members: set[Node]) -> list[list[Node]]:
    """The members by how many other members stand before them on the way from the variables: those of one level do
    not need each other."""
    level: dict[Node, int] = {}
    found: dict[int, list[Node]] = {}
    for node in order:
        level[node] = max((level[e.node] for e in node.inputs), default=0)
        if node in members:
            found.setdefault(level[node], []).append(node)
            level[node] += 1
    return list(found.values())
