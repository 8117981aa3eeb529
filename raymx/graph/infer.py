"""Shapes and types of a whole graph: every node's rule is applied, forwards and backwards, until nothing new is learnt.

What is known is kept by Entry. A shape may hold 0 for unknown dimensions; an Entry that is not there is unknown.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from raymx.errors import DTypeError, ShapeError
from raymx.graph.node import Entry, Node
from raymx.ops import infer
from raymx.ops.params import DTYPE_IDS, Shape, as_dtype

Facts = dict[Entry, Any]


def infer_shapes(order: list[Node], given: Mapping[Node, Shape | None]) -> dict[Entry, Shape]:
    """Shapes of all outputs of the nodes in `order` (inputs before users), as far as they can be told.

    `given` holds shapes of variables; it overrides the `__shape__` that a variable declares. Raises ShapeError that
    names the operator, the node and what contradicts.
    """
    solver = _Solver(order, _start(order, given, declared_shape), infer.infer_shapes, _agree_on_shape)
    solver.run(solver.nodes)
    return solver.facts


def infer_types(
    order: list[Node], given: Mapping[Node, np.dtype | None], default: np.dtype | None = None
) -> dict[Entry, np.dtype]:
    """Element types of all outputs of the nodes in `order`, as far as they can be told.

    `given` overrides the `__dtype__` of a variable. With `default`, variables about which nothing is known get it,
    one after the other, so that whatever hangs on them follows. Raises DTypeError.
    """
    solver = _Solver(order, _start(order, given, declared_type), infer.infer_types, _agree_on_type)
    solver.run(solver.nodes)
    for node in order if default is not None else ():
        entry = Entry(node)
        if node.is_variable and entry not in solver.facts:
            solver.facts[entry] = default
            solver.run(solver.users[entry])
    return solver.facts


def declared_shape(variable: Node) -> Shape | None:
    """What `Variable(shape=)` said; raises ShapeError for text that is no shape."""
    text = variable.attrs.get("__shape__")
    if text is None:
        return None
    try:
        value = ast.literal_eval(text.replace("L", ""))
        shape = (int(value),) if isinstance(value, int) else tuple(int(d) for d in value)
    except (ValueError, TypeError, SyntaxError):
        raise ShapeError(f"variable {variable.name!r}: __shape__ must be a tuple of integers, got {text!r}.") from None
    return tuple(max(d, 0) for d in shape) or None


def declared_type(variable: Node) -> np.dtype | None:
    """What `Variable(dtype=)` said, as MXNet's number or by name; raises DTypeError for anything else."""
    text = variable.attrs.get("__dtype__")
    if text is None or text == "-1":
        return None
    try:
        return as_dtype(DTYPE_IDS[int(text)] if text.isdigit() else text)
    except (TypeError, KeyError):
        raise DTypeError(
            f"variable {variable.name!r}: __dtype__ must be an element type or its number (0 to {max(DTYPE_IDS)}), "
            f"got {text!r}."
        ) from None


def _start(order: list[Node], given: Mapping[Node, Any], declared: Callable[[Node], Any]) -> Facts:
    facts = {}
    for node in order:
        if node.is_variable:
            value = given[node] if given.get(node) is not None else declared(node)
            if value is not None:
                facts[Entry(node)] = value
    return facts


class _Solver:
    """Sweeps to and fro over the nodes about whose arrays something new is known."""

    def __init__(self, order: list[Node], facts: Facts, rule: Callable, agree: Callable):
        self.facts, self.rule, self.agree = facts, rule, agree
        self.nodes = [node for node in order if node.op]
        self.users: dict[Entry, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for entry in node.inputs:
                self.users[entry].append(node)
            for _, _, twin in _twins(node):
                self.users[twin].append(node)

    def run(self, nodes: Iterable[Node]) -> None:
        """Apply the rules of `nodes`, and of all nodes that what they teach concerns, until nothing changes."""
        waiting = set(nodes)
        sweep = list(self.nodes)
        while waiting:
            for node in sweep:
                if node in waiting:
                    waiting.discard(node)
                    for entry in self._apply(node):
                        waiting.update(self.users[entry])
                        if entry.node.op:
                            waiting.add(entry.node)
            sweep.reverse()

    def _apply(self, node: Node) -> list[Entry]:
        """Apply one rule once; the entries about which it taught something."""
        names = node.input_names() + node.output_names()
        entries = [*node.inputs, *(Entry(node, i) for i in range(len(node.output_names())))]
        known = {name: self.facts.get(entry) for name, entry in zip(names, entries, strict=True)}
        learnt = self.rule(node.op, known, node.name)
        news = list(zip(names, entries, (learnt[name] for name in names), strict=True))
        news += [(name, entry, self.facts.get(twin)) for name, entry, twin in _twins(node)]
        changed = []
        for name, entry, fact in news:
            before = self.facts.get(entry)
            after = self.agree(node, name, before, fact)
            if after is not None and (before is None or after != before):  # NumPy says float64 == None
                self.facts[entry] = after
                changed.append(entry)
        return changed


def _twins(node: Node) -> Iterator[tuple[str, Entry, Entry]]:
    """What a gradient node knows beside its rule: each gradient it takes or gives is like the array it belongs to."""
    forward = node.forward
    if forward is None:
        return
    values = dict(zip(forward.input_names(), forward.inputs, strict=True))
    for i, name in enumerate(node.output_names()):
        yield name, Entry(node, i), values[name.removeprefix("d_")]
    for i, (name, entry) in enumerate(zip(node.input_names(), node.inputs, strict=True)):
        if name in ("g", f"g{i}"):
            yield name, entry, Entry(forward, i)


def _agree_on_shape(node: Node, name: str, before: Shape | None, learnt: Shape | None) -> Shape | None:
    try:
        return infer.unify(before, learnt)
    except ValueError:  # the node reads one array under two names
        raise ShapeError(f"{_who(node)}: {name} must be {learnt}, but it is an array of shape {before}.") from None


def _agree_on_type(node: Node, name: str, before: np.dtype | None, learnt: np.dtype | None) -> np.dtype | None:
    if before is not None and learnt is not None and before != learnt:
        raise DTypeError(f"{_who(node)}: {name} must be {learnt}, but it is an array of {before}.")
    return learnt if before is None else before


def _who(node: Node) -> str:
    return f"{node.op.name if node.op else 'variable'} {node.name!r}"
