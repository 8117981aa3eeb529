"""A graph with its gradient graph and all shapes: what the passes hand on to each other."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from raymx.graph.node import Entry, Node
from raymx.ops.params import Shape


class Spec(NamedTuple):
    """What an array looks like."""

    shape: Shape
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass
class Traced:
    """A graph before anything has a place."""

    heads: list[Entry]
    forward: list[Node]  # operators, in the order in which they run
    backward: list[Node]
    gradients: dict[Node, Entry | None]  # of every variable that wants one; None = zero
    head_grads: list[Node | None]  # the variable for each head's incoming gradient, None where it is not used
    specs: dict[Entry, Spec]
    layouts: dict[Entry, str] = field(default_factory=dict)  # of the values that are not in C order
    extra: frozenset[Node] = frozenset()  # nodes that make again, or bring, what others have made

    @property
    def trains(self) -> bool:
        """Whether there is a backward phase."""
        return bool(self.gradients or self.backward)

    def shown(self, nodes: list[Node]) -> list[Node]:
        """`nodes` without the extra ones."""
        return [node for node in nodes if node not in self.extra]


def entries_of(node: Node) -> list[Entry]:
    """All outputs of a node, hidden ones included."""
    return [Entry(node, i) for i in range(len(node.output_names()))]


def read_by(node: Node) -> list[Entry]:
    """What a node reads; `zeros_like` wants its input's shape only."""
    return [] if node.op is not None and node.op.name == "zeros_like" else node.inputs
