"""Gradients of what is used several times are added up where they lie, as they come, rather than kept for a sum.

A network that uses one weight in each of many steps would otherwise hold as many gradients of it at once as there are
steps. Pure: a traced graph in, another one out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from raymx.graph import attributes
from raymx.graph.node import Entry, Node
from raymx.graph.traced import Traced
from raymx.ops.gradient import Gradient, gradient_of

Additions = Mapping[Node, Mapping[str, Entry]]  # what each gradient node adds to, by name of its operator's input


def accumulate(traced: Traced) -> Traced:
    """The graph in which the terms of a sum of gradients, if their operators can, add to the term that came before."""
    uses = Counter(e for node in traced.backward for e in node.inputs)
    uses.update(e for e in traced.gradients.values() if e is not None)
    place = {node: i for i, node in enumerate(traced.backward)}
    additions: dict[Node, dict[str, Entry]] = {}
    last: dict[Entry, Entry] = {}  # a sum → its last term
    for node in traced.backward:
        if _can_accumulate(node, uses):
            terms = sorted(node.inputs, key=lambda e: place[e.node])
            for before, term in zip(terms, terms[1:], strict=False):
                additions.setdefault(term.node, {})[_input(term)] = before
            last[Entry(node)] = terms[-1]
    return _rewritten(traced, additions, last) if last else traced


def _can_accumulate(node: Node, uses: Mapping[Entry, int]) -> bool:
    if node.op is None or node.op.name != "ElementWiseSum":
        return False
    makers = [e.node for e in node.inputs]
    return (
        len(set(makers)) == len(makers)
        and len({attributes.find(maker.attrs, "ctx_group") for maker in makers}) == 1  # on one device
        and all(uses[e] == 1 for e in node.inputs)
        and all(isinstance(e.node.op, Gradient) and _input(e) in e.node.op.op.addable for e in node.inputs)
    )


def _input(entry: Entry) -> str:
    """Of which input of its operator `entry`, an output of a gradient node, is the gradient."""
    op = entry.node.op
    assert isinstance(op, Gradient)
    return op.wants[entry.index]


def _rewritten(traced: Traced, additions: Additions, last: Mapping[Entry, Entry]) -> Traced:
    new: dict[Entry, Entry] = {}  # what stands for an entry
    specs = dict(traced.specs)
    backward = []

    def moved(entry: Entry) -> Entry:
        entry = last.get(entry, entry)
        return new.get(entry, entry)

    for node in traced.backward:
        if Entry(node) in last:
            continue
        inputs, op = [moved(e) for e in node.inputs], node.op
        if node in additions:
            assert isinstance(op, Gradient)
            states = len(op.aux())
            sums = [moved(e) for e in additions[node].values()]
            op = gradient_of(op.op, op.wants, tuple(additions[node]))
            inputs[len(inputs) - states : len(inputs) - states] = sums
        if op is not node.op or inputs != node.inputs:
            changed = Node(op, node.name, node.attrs, inputs, node.forward, node.params)
            for i in range(len(node.output_names())):
                new[Entry(node, i)] = Entry(changed, i)
                specs[Entry(changed, i)] = specs[Entry(node, i)]
            node = changed
        backward.append(node)
    gradients = {variable: e if e is None else moved(e) for variable, e in traced.gradients.items()}
    return replace(traced, backward=backward, gradients=gradients, specs=specs)
