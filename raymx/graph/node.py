"""The graph behind a Symbol: nodes, the entries that name one output of a node, and walks over them."""

from __future__ import annotations

from typing import NamedTuple

from raymx.ops.op import Op


class Entry(NamedTuple):
    """Output `index` of `node`."""

    node: Node
    index: int = 0  # type: ignore[assignment]  # in the place of tuple.index


class Node:
    """A variable (`op` is None) or one use of an operator.

    `inputs` follow `op.inputs()` and then `op.aux()`; an aux state is a variable that stands at an aux position.
    `attrs` are the user's attributes (`ctx_group`, `lr_mult`, `__shape__`, …), not the operator's parameters.
    `params` are the parameters that were given, as the user or the file wrote them; None stands for all of them.
    A node of the gradient graph has `forward`, the node whose gradient it computes.
    """

    __slots__ = ("op", "name", "attrs", "inputs", "forward", "params")

    def __init__(self, op: Op | None, name: str, attrs=None, inputs=(), forward: Node | None = None, params=None):
        self.op, self.name, self.forward = op, name, forward
        self.params: dict[str, str] | None = params
        self.attrs: dict[str, str] = dict(attrs or {})
        self.inputs: list[Entry] = list(inputs)

    @property
    def is_variable(self) -> bool:
        return self.op is None

    def input_names(self) -> tuple[str, ...]:
        """Names of `inputs` in order: the operator's inputs, then its aux states."""
        return self.op.inputs() + self.op.aux() if self.op else ()

    def output_names(self) -> tuple[str, ...]:
        return self.op.outputs() if self.op else ("out",)

    def text_params(self) -> dict[str, str]:
        """Parameters as JSON and `attr_dict` show them."""
        if self.params is not None:
            return self.params
        return self.op.text_attrs() if self.op else {}

    def __repr__(self):
        return f"<{self.op.name if self.op else 'variable'} {self.name!r}>"


def topological(heads: list[Entry]) -> list[Node]:
    """Every node that `heads` need, inputs before users, depth first in input order: MXNet's order everywhere."""
    order: list[Node] = []
    seen: set[int] = set()
    for head in heads:
        stack = [(head.node, 0)]
        while stack:
            node, position = stack.pop()
            if position == 0:
                if id(node) in seen:
                    continue
                seen.add(id(node))
            if position < len(node.inputs):
                stack.append((node, position + 1))
                child = node.inputs[position].node
                if id(child) not in seen:
                    stack.append((child, 0))
            else:
                order.append(node)
    return order


def aux_nodes(order: list[Node]) -> list[Node]:
    """The variables of `order` that stand at an aux position of some node, in order of first use."""
    found: dict[int, Node] = {}
    for node in order:
        if node.op:
            for entry in node.inputs[len(node.op.inputs()):]:
                found.setdefault(id(entry.node), entry.node)
    return list(found.values())


def argument_nodes(order: list[Node]) -> list[Node]:
    """The variables of `order` that are not aux states, depth first."""
    aux = {id(n) for n in aux_nodes(order)}
    return [n for n in order if n.is_variable and id(n) not in aux]
