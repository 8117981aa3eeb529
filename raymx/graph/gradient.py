"""The gradient graph: ordinary nodes, built backwards through what lies between the heads and the wanted variables.

A node is differentiated only if someone uses the result; a value is kept for it only if its operator's backward names
it. A loss starts a gradient wherever it stands and asks nothing of what comes after it.
"""

from __future__ import annotations

from collections.abc import Sequence

from raymx.graph.node import Entry, Node, topological
from raymx.ops.gradient import gradient_of
from raymx.ops.op import make

Parts = dict[Entry, list[Entry]]  # contributions to the gradient of an entry, one for each use, last use first


def gradient(heads: Sequence[Entry], wrt: Sequence[Node], head_grads: Sequence[Entry | None]) -> dict[Node, Entry | None]:
    """The gradient of `heads` with respect to each variable of `wrt`; None where it is zero.

    `head_grads` holds the gradient that comes in at each head, None for none. Those at losses are not used. The nodes
    made here are called `<node>_backward` and have `forward`; several uses are added by an ElementWiseSum.
    """
    order = topological(list(heads))
    useful = _useful(order, wrt)
    parts: Parts = {}
    for head, incoming in zip(heads, head_grads, strict=True):
        if incoming is not None and head.node in useful:
            parts.setdefault(head, []).append(incoming)
    for node in reversed(order):
        wants = _wants(node, useful)
        if wants:
            _differentiate(node, wants, parts)
    return {node: _total(Entry(node), parts) for node in wrt}


def _useful(order: list[Node], wrt: Sequence[Node]) -> set[Node]:
    """The nodes whose outputs' gradients matter: the wanted variables, and operators that hand theirs on to one."""
    useful = set(wrt)
    for node in order:
        if node.op and node.op.needs_head_gradient() and _wants(node, useful):
            useful.add(node)
    return useful


def _wants(node: Node, useful: set[Node]) -> tuple[int, ...]:
    """Positions of the inputs for which `node` must compute a gradient."""
    if node.op is None:
        return ()
    names = node.op.inputs()
    return tuple(i for i, name in enumerate(names) if node.inputs[i].node in useful and node.op.has_gradient(name))


def _differentiate(node: Node, wants: tuple[int, ...], parts: Parts) -> None:
    incoming: list[Entry] = []
    if node.op.needs_head_gradient():
        totals = [_total(Entry(node, i), parts) for i in range(node.op.visible_outputs())]
        if all(total is None for total in totals):
            return
        incoming = [total or _zeros_like(Entry(node, i)) for i, total in enumerate(totals)]
    values = _values(node)
    names = node.op.inputs()
    op = gradient_of(node.op, tuple(names[i] for i in wants))
    inputs = [*incoming, *(values[name] for name in node.op.backward_needs())]
    backward = Node(op, f"{node.name}_backward", node.attrs, inputs, forward=node)
    for output, i in enumerate(wants):
        parts.setdefault(node.inputs[i], []).append(Entry(backward, output))


def _values(node: Node) -> dict[str, Entry]:
    """Every input, aux state and output of a node by its name in the operator."""
    outputs = {name: Entry(node, i) for i, name in enumerate(node.output_names())}
    return {**dict(zip(node.input_names(), node.inputs, strict=True)), **outputs}


def _total(entry: Entry, parts: Parts) -> Entry | None:
    """The sum of all contributions to the gradient of `entry`, made once."""
    found = parts.get(entry, [])
    if len(found) > 1:
        node = entry.node
        name = f"{node.name}_{node.output_names()[entry.index]}_grad_sum"
        found[:] = [Entry(Node(make("ElementWiseSum", num_args=len(found)), name, node.attrs, list(found)))]
    return found[0] if found else None


def _zeros_like(entry: Entry) -> Entry:
    name = f"{entry.node.name}_{entry.node.output_names()[entry.index]}_grad_zeros"
    return Entry(Node(make("zeros_like"), name, entry.node.attrs, [entry]))
