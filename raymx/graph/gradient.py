"""The gradient graph: ordinary nodes, built backwards through what lies between the heads and the wanted variables.

A node is differentiated only if someone uses the result; a value is kept for it only if its operator's backward names
it. A loss starts a gradient wherever it stands and asks nothing of what comes after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from raymx.errors import GraphError
from raymx.graph.node import Entry, Node, topological
from raymx.ops.gradient import Gradient, gradient_of
from raymx.ops.op import Op, make


class GradientGraph(NamedTuple):
    of: dict[Node, Entry | None]  # the gradient of each wanted variable, None where it is zero
    nodes: list[Node]  # everything that was made for it, in an order to run it in: what is freed early comes early


def gradient(
    heads: Sequence[Entry], wrt: Sequence[Node], head_grads: Sequence[Entry | None]
) -> dict[Node, Entry | None]:
    """The gradient of `heads` with respect to each variable of `wrt`; None where it is zero.

    `head_grads` holds the gradient that comes in at each head, None for none. Those at losses are not used. The nodes
    made here are called `<node>_backward` and have `forward`; several uses are added, the last one first.
    """
    return differentiate(heads, wrt, head_grads).of


def differentiate(
    heads: Sequence[Entry], wrt: Sequence[Node], head_grads: Sequence[Entry | None], short: bool = False
) -> GradientGraph:
    """As `gradient`, with the order in which to run the nodes. If it is to be `short`, gradients that are equal to each
    other are one, and no node hands on what it gets."""
    order = topological(list(heads))
    tape = _Tape(_useful(order, wrt), short)
    for head, incoming in zip(heads, head_grads, strict=True):
        if incoming is not None:
            tape.add(head, incoming)
    wanted = set(wrt)
    found: dict[Node, Entry | None] = dict.fromkeys(wrt)
    for node in reversed(order):
        if node in wanted:
            found[node] = tape.total(Entry(node))
        tape.differentiate(node)
    return GradientGraph(found, tape.nodes)


def head_gradients(heads: Iterable[Entry]) -> list[Entry]:
    """A new variable for the gradient that comes in at each head, called `<node>_<output>_grad`."""
    return [Entry(Node(None, f"{_label(head)}_grad", head.node.attrs)) for head in heads]


class _Tape:
    """The gradient graph while it grows."""

    def __init__(self, useful: set[Node], short: bool):
        self.nodes: list[Node] = []
        self._useful = useful
        self._short = short  # whether a gradient that is another one needs no node
        self._parts: dict[Entry, list[Entry]] = {}  # what the uses of an entry add to its gradient, last use first

    def add(self, entry: Entry, part: Entry) -> None:
        """One more contribution to the gradient of `entry`, forgotten if nobody will ask for it.

        It is added to the one before at once, so that no more than two of many have to be kept; unless their kernels
        can add to what is there, which is seen to later.
        """
        if entry.node not in self._useful:
            return
        parts = self._parts.setdefault(entry, [])
        if parts and not _addable(parts[-1]) and not _addable(part):
            parts[-1] = self._sum(entry, [parts[-1], part])
        else:
            parts.append(part)

    def total(self, entry: Entry) -> Entry | None:
        """The gradient of `entry`, once all its users were differentiated; None if it is zero."""
        parts = self._parts.get(entry, [])
        if len(parts) > 1:
            parts[:] = [self._sum(entry, parts)]
        return parts[0] if parts else None

    def _sum(self, entry: Entry, parts: list[Entry]) -> Entry:
        return self._node(make("ElementWiseSum", num_args=len(parts)), f"{_label(entry)}_grad_sum", entry, parts)

    def differentiate(self, node: Node) -> None:
        """Hand the gradient of the outputs of `node` on to its inputs, as far as they want it."""
        op, wants = node.op, _wants(node, self._useful)
        if _blocks(node, self._useful):
            self._refuse_gradient(node)
        incoming = self._incoming(node, op) if op and wants else None
        if op is None or incoming is None:
            return
        found: dict[int, Entry] = {}
        computed = list(wants)
        if self._short:
            found = {i: incoming[0] for i in wants if node.input_names()[i] in op.passes}
            computed = [i for i in wants if i not in found][: 1 if op.alike else None]
        if computed:
            backward = self._backward(node, op, incoming, computed)
            made = [Entry(backward, output) for output in range(len(computed))]
            found = dict.fromkeys(wants, made[0]) | dict(zip(computed, made, strict=True)) | found
        for i in wants:
            self.add(node.inputs[i], found[i])

    def _backward(self, node: Node, op: Op, incoming: list[Entry], wants: Sequence[int]) -> Node:
        """A node for the gradients of the inputs at `wants`."""
        values, names = _values(node), node.input_names()
        backward = Node(gradient_of(op, tuple(names[i] for i in wants)), f"{node.name}_backward", node.attrs)
        backward.inputs = [*incoming, *(values[name] for name in op.backward_needs())]
        backward.forward = node
        self.nodes.append(backward)
        return backward

    def _refuse_gradient(self, node: Node) -> None:
        """Raise if a gradient comes in at a node whose operator has none."""
        if node.op and any(self._parts.get(Entry(node, i)) for i in range(len(node.output_names()))):
            raise GraphError(
                f"{node.op.name} {node.name!r} is not differentiable, but a gradient would have to pass through it; "
                "use BlockGrad on its output, or give the arguments that it reads the grad_req 'null'."
            )

    def _incoming(self, node: Node, op: Op) -> list[Entry] | None:
        """The gradients that `op`, the operator of `node`, reads; None if they are all zero."""
        entries = [Entry(node, i) for i in range(len(op.head_names()))]
        if not entries:
            return []
        totals = [self.total(entry) for entry in entries]
        if not any(totals):
            return None
        return [total or self._zeros(entry) for entry, total in zip(entries, totals, strict=True)]

    def _zeros(self, entry: Entry) -> Entry:
        return self._node(make("zeros_like"), f"{_label(entry)}_grad_zeros", entry, [entry])

    def _node(self, op, name: str, entry: Entry, inputs: list[Entry]) -> Entry:
        node = Node(op, name, entry.node.attrs, inputs)
        self.nodes.append(node)
        return Entry(node)


def _useful(order: list[Node], wrt: Sequence[Node]) -> set[Node]:
    """The nodes whose outputs' gradients matter: the wanted variables, and operators that hand theirs on to one."""
    useful = set(wrt)
    for node in order:
        if (node.op and _wants(node, useful) and node.op.needs_head_gradient()) or _blocks(node, useful):
            useful.add(node)
    return useful


def _blocks(node: Node, useful: set[Node]) -> bool:
    """Whether `node` stands where a gradient ought to pass, and its operator says that it has none."""
    return node.op is not None and not node.op.differentiable and any(e.node in useful for e in node.inputs)


def _wants(node: Node, useful: set[Node]) -> tuple[int, ...]:
    """Positions of the inputs for which `node` must compute a gradient."""
    if node.op is None or node.forward is not None:
        return ()
    names = node.op.inputs()
    return tuple(i for i, name in enumerate(names) if node.inputs[i].node in useful and node.op.has_gradient(name))


def _values(node: Node) -> dict[str, Entry]:
    """Every input, aux state and output of a node by its name in the operator."""
    outputs = {name: Entry(node, i) for i, name in enumerate(node.output_names())}
    return {**dict(zip(node.input_names(), node.inputs, strict=True)), **outputs}


def _addable(part: Entry) -> bool:
    """Whether the kernel that makes `part` could add it to what is there."""
    op = part.node.op
    return isinstance(op, Gradient) and op.wants[part.index] in op.op.addable


def _label(entry: Entry) -> str:
    node = entry.node
    return f"{node.name}_{node.op.output_labels()[entry.index]}" if node.op else node.name
