"""A graph that computes the same values in fewer steps, made before it is differentiated.

- Pairs in one: Convolution and Activation, BatchNorm and ReLU, a sum of two and ReLU, where nobody else uses what
  passes between them and the device has a kernel for both at once.
- What changes nothing falls away (`x * 1`, a Cast to the same type, two transposes that undo each other), chains of
  scalars become one scalar, arithmetic on constants a constant, and what is written down twice is computed once.

Nodes that change are made anew, named after those that they stand for; the given graph stays as it is. A head never
falls away, as it may follow a loss and take a head gradient where that does not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from raymx.graph import attributes
from raymx.graph.node import Entry, Node, topological
from raymx.graph.traced import Spec
from raymx.ops.op import Op, make

_SEPARATE = ("ctx_group", "force_mirroring", "mirror_stage")  # nodes that differ in one of these stay apart
_LARGEST = 1e15  # scalars between this and its inverse are folded: nothing overflows or vanishes that did not before


def fuse(
    heads: Sequence[Entry], specs: Mapping[Entry, Spec], pairs: bool = True
) -> tuple[list[Entry], dict[Entry, Spec]]:
    """Heads with the same values, and `specs`, which knows every entry, with what is new. `pairs` tells whether kernels
    for pairs are there."""
    fusing = _Fusing(heads, specs, pairs)
    return fusing.run(), fusing.specs


class _Fusing:
    def __init__(self, heads: Sequence[Entry], specs: Mapping[Entry, Spec], pairs: bool):
        self.heads, self.specs = heads, dict(specs)
        self._rules = _SIMPLER | _PAIRS if pairs else _SIMPLER
        self._order = topological(list(heads))
        self._given_uses = Counter([*heads, *(e for node in self._order for e in node.inputs)])
        self._uses: Counter[Entry] = Counter()  # of new entries, by nodes not looked at yet; perhaps too many
        self._new: dict[Entry, Entry] = {}  # what stands for an entry of the given graph
        self._known: dict[tuple, Node] = {}  # what was computed already

    def run(self) -> list[Entry]:
        for node in self._order:
            if node.op is not None:
                self._put(node, node.op)
        return [self._new.get(head, head) for head in self.heads]

    def _put(self, node: Node, op: Op) -> None:
        """Find what stands for the outputs of `node`."""
        inputs = [self._new.get(e, e) for e in node.inputs]
        new = node if inputs == node.inputs else _like(node, op, node.name, inputs)
        if node.forward is None and Entry(node) in self.specs:
            spec = self.specs[Entry(node)]
            for rule in self._rules.get(op.name, ()):
                found = rule(self, new, op, spec)
                if found is not None and not (self._was_there(found) and self._is_head(node)):
                    self._uses[found] -= self._was_there(found)
                    self._stand(Entry(node), found)
                    return
            new = self._once(new)
        for index in range(len(node.output_names())):
            self._stand(Entry(node, index), Entry(new, index))

    def _stand(self, old: Entry, new: Entry) -> None:
        self._new[old] = new
        self._uses[new] += self._given_uses[old]
        if old in self.specs:
            self.specs.setdefault(new, self.specs[old])

    def _is_head(self, node: Node) -> bool:
        return any(head.node is node for head in self.heads)

    def _was_there(self, found: Entry) -> bool:
        """Whether `found` is a value that others use too, rather than one of a node that was made to stand for it."""
        return found in self._uses or found.node.op is None

    def _once(self, node: Node) -> Node:
        """The first node that computes what `node` does."""
        op = node.op
        if not _pure(op):
            return node
        return self._known.setdefault((op, tuple(node.inputs), *_apart(node)), node)

    # ---- what rules ask ----

    def before(self, node: Node, *names: str) -> tuple[Node, Op] | None:
        """The node that makes the first input of `node` and its operator, one of `names`, if nobody else uses what it
        makes and both nodes may be one."""
        entry = node.inputs[0]
        first, op = entry.node, entry.node.op
        if op is None or op.name not in names or self._uses[entry] != 1 or first.forward is not None:
            return None
        return (first, op) if _apart(first) == _apart(node) else None

    def constant(self, entry: Entry) -> float | None:
        """The number that all elements of `entry` are, as far as it is known before anything runs."""
        op = entry.node.op
        if op is None or op.name not in _CONSTANTS:
            return None
        return _CONSTANTS[op.name](op)


def _like(node: Node, op: Op | None, name: str, inputs: Sequence[Entry]) -> Node:
    return Node(op, name, node.attrs, inputs, node.forward, node.params)


def _apart(node: Node) -> tuple:
    return tuple(attributes.find(node.attrs, key) for key in _SEPARATE)


def _pure(op: Op | None) -> bool:
    """Whether two uses of `op` on the same inputs are one: no state, no chance, no gradient that it starts itself."""
    if op is None or op.aux() or op.random() or op.stateful or op.heavy or not op.inputs():
        return False
    return op.backward is None or op.needs_head_gradient()


# ---- pairs ----

Rule = Callable[[_Fusing, Node, Op, Spec], "Entry | None"]


def _convolution_activation(graph: _Fusing, node: Node, op: Op, spec: Spec) -> Entry | None:
    return _pair("_conv_act", graph.before(node, "Convolution"), node, spec, act_type=op.attrs["act_type"])


def _batchnorm_relu(graph: _Fusing, node: Node, op: Op, spec: Spec) -> Entry | None:
    first = graph.before(node, "BatchNorm") if _is_relu(op) else None
    return _pair("_batchnorm_relu", first, node, spec) if first and first[1].visible_outputs() == 1 else None


def _pair(name: str, first: tuple[Node, Op] | None, node: Node, spec: Spec, **params) -> Entry | None:
    """One node for `first` and `node`, whose only input `first` makes."""
    if first is None or spec.dtype != np.float32:
        return None
    before, op = first
    return Entry(_like(node, make(name, **op.attrs, **params), f"{before.name}+{node.name}", before.inputs))


def _add_relu(graph: _Fusing, node: Node, op: Op, spec: Spec) -> Entry | None:
    first = graph.before(node, *_SUMS) if _is_relu(op) else None
    if first is None or spec.dtype != np.float32:
        return None
    inputs = first[0].inputs
    if len(inputs) != 2 or any(graph.specs[e] != spec for e in inputs):
        return None
    return Entry(_like(node, make("_add_relu"), f"{first[0].name}+{node.name}", inputs))


def _is_relu(op: Op) -> bool:
    return op.name == "relu" or op.attrs.get("act_type") == "relu"


_SUMS = ("_plus", "ElementWiseSum")
_PAIRS_OF_RELU = (_batchnorm_relu, _add_relu)
_PAIRS: dict[str, tuple[Rule, ...]] = {
    "Activation": (_convolution_activation, *_PAIRS_OF_RELU),
    "relu": _PAIRS_OF_RELU,
}


# ---- fewer steps ----


def _unchanged(neutral: Callable[[Op], bool]) -> Rule:
    """Drop a node that hands its input on, of the same type and shape."""

    def rule(graph: _Fusing, node: Node, op: Op, spec: Spec) -> Entry | None:
        return node.inputs[0] if graph.specs.get(node.inputs[0]) == spec and neutral(op) else None

    return rule


def _folded(combine: Callable[[float, float], float | None]) -> Rule:
    """One scalar instead of two in a row."""

    def rule(graph: _Fusing, node: Node, op: Op, spec: Spec) -> Entry | None:
        first = graph.before(node, op.name)
        if first is None or spec.dtype.kind != "f":
            return None
        scalar = combine(first[1].attrs["scalar"], op.attrs["scalar"])
        return None if scalar is None else Entry(_like(node, make(op.name, scalar=scalar), node.name, first[0].inputs))

    return rule


def _product(a: float, b: float) -> float | None:
    return a * b if all(1 / _LARGEST <= abs(x) <= _LARGEST for x in (a, b, a * b)) else None


def _sum(a: float, b: float) -> float | None:
    return a + b if a * b >= 0 and abs(a + b) <= _LARGEST else None  # of one sign: nothing is lost between them


def _evaluated(graph: _Fusing, node: Node, op: Op, spec: Spec) -> Entry | None:
    """Arithmetic of a constant and a scalar is a constant."""
    value = graph.constant(node.inputs[0])
    if value is None or graph.specs.get(node.inputs[0]) != spec or spec.dtype.kind != "f":
        return None
    result = np.empty(1, spec.dtype)
    with np.errstate(all="ignore"):
        op.forward(np, np.full(1, value, spec.dtype), out=result)
    value = result.item()
    return Entry(_source(node, spec, value)) if math.isfinite(value) else None


def _like_input(value: int) -> Rule:
    """`zeros_like` and `ones_like` need no input."""
    return lambda graph, node, op, spec: Entry(_source(node, spec, value))


def _source(node: Node, spec: Spec, value: float) -> Node:
    return _like(node, make("_full", value=value, shape=spec.shape, dtype=spec.dtype), node.name, [])


def _neutral_constant(value: float, both_sides: bool) -> Rule:
    """`x + 0`, `x * 1` and their like, where the constant is an array."""

    def rule(graph: _Fusing, node: Node, op: Op, spec: Spec) -> Entry | None:
        left, right = node.inputs
        if graph.constant(right) == value and graph.specs.get(left) == spec:
            return left
        return right if both_sides and graph.constant(left) == value and graph.specs.get(right) == spec else None

    return rule


def _transposed_back(graph: _Fusing, node: Node, op: Op, spec: Spec) -> Entry | None:
    """Two transposes are one, or none."""
    first = graph.before(node, "transpose")
    if first is None:
        return None
    before, ndim = first[0], len(spec.shape)
    inner, outer = _axes(first[1], ndim), _axes(op, ndim)
    axes = tuple(inner[i] for i in outer)
    if axes == tuple(range(ndim)):
        return before.inputs[0]
    return Entry(_like(node, make("transpose", axes=axes), node.name, before.inputs))


def _axes(op: Op, ndim: int) -> tuple[int, ...]:
    return tuple(a % ndim for a in op.attrs["axes"]) or tuple(reversed(range(ndim)))


_CONSTANTS: dict[str, Callable[[Op], float]] = {
    "_zeros": lambda op: 0,
    "_ones": lambda op: 1,
    "_full": lambda op: op.attrs["value"],
}


def _scalar_is(*neutral: float) -> Rule:
    return _unchanged(lambda op: op.attrs["scalar"] in neutral)


_SIMPLER: dict[str, tuple[Rule, ...]] = {
    "_plus_scalar": (_scalar_is(0), _evaluated, _folded(_sum)),
    "_minus_scalar": (_scalar_is(0), _evaluated, _folded(_sum)),
    "_mul_scalar": (_scalar_is(1), _evaluated, _folded(_product)),
    "_div_scalar": (_scalar_is(1), _evaluated, _folded(_product)),
    "_power_scalar": (_scalar_is(1), _evaluated),
    "_rminus_scalar": (_evaluated,),
    "negative": (_evaluated,),
    "zeros_like": (_like_input(0),),
    "ones_like": (_like_input(1),),
    "_plus": (_neutral_constant(0, both_sides=True),),
    "_minus": (_neutral_constant(0, both_sides=False),),
    "_mul": (_neutral_constant(1, both_sides=True),),
    "_div": (_neutral_constant(1, both_sides=False),),
    "Cast": (_unchanged(lambda op: True),),
    "Dropout": (_unchanged(lambda op: op.attrs["p"] == 0),),
    "ElementWiseSum": (_unchanged(lambda op: op.attrs["num_args"] == 1),),
    "Concat": (_unchanged(lambda op: op.attrs["num_args"] == 1),),
    "transpose": (_transposed_back,),
}
