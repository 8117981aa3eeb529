"""Small graphs for tests: nodes made by hand, and a plain evaluation to compare with."""

from __future__ import annotations

import numpy as np

from raymx.graph.node import Entry, Node, topological
from raymx.ops.infer import infer_call
from raymx.ops.op import make

RNG_SEED = 3


def variable(name: str) -> Entry:
    return Entry(Node(None, name))


def apply(op_name: str, *inputs: Entry, name: str = "", **params) -> Entry:
    """Output 0 of a new node; `inputs` are its inputs and aux states."""
    return Entry(Node(make(op_name, **params), name or op_name.lower(), inputs=inputs))


def others(entry: Entry) -> list[Entry]:
    """All visible outputs of the node of `entry`."""
    return [Entry(entry.node, i) for i in range(entry.node.op.visible_outputs())]


def evaluate(entries: list[Entry], values: dict[Entry, np.ndarray], is_train: bool = False) -> list[np.ndarray]:
    """What `entries` are for these variables, every array of its own, computed with float64 like the values."""
    values = dict(values)
    order = topological(list(entries))
    for node in topological([*(Entry(n.forward) for n in order if n.forward), *entries]):
        if node.op:
            _run(node, values, is_train)
    return [values[e] for e in entries]


def _run(node: Node, values: dict[Entry, np.ndarray], is_train: bool) -> None:
    ins = [values[e] for e in node.inputs]
    if node.forward is None:
        specs = infer_call(node.op, tuple(x.shape for x in ins), tuple(x.dtype for x in ins))
        outs = [np.full(shape, np.nan) for shape, _ in specs]
    else:
        named = dict(zip(node.forward.input_names(), node.forward.inputs, strict=True))
        outs = [np.full(values[named[n[2:]]].shape, np.nan) for n in node.output_names()]
    extras = {"is_train": is_train, "rng": np.random.default_rng(RNG_SEED)}
    shapes = {n: x.shape for n, x in zip(node.input_names() + node.output_names(), ins + outs, strict=True)}
    extras |= {n: np.empty(shape, t) for n, (shape, t) in node.op.scratch(shapes, np.dtype("float64")).items()}
    destinations = dict(zip(node.output_names(), outs, strict=True))
    node.op.forward(np, *ins, **destinations, **{n: extras[n] for n in node.op.extras if n in extras})
    values.update((Entry(node, i), out) for i, out in enumerate(outs))
