"""From a graph to a program: what runs, in which order, and where every value lies.

Two stages, both pure. `trace` adds the gradient graph and finds all shapes; the caller then makes the arrays that live
outside the program. `lower` turns nodes into steps and gives each value a place:

- A value that is an argument, state, output, gradient or head gradient lies in that array. An output or a gradient is
  written there by the step that makes it, unless that is impossible (a second output of one value, an argument that is
  an output, `add`): then a step copies or adds.
- Every other value lies in the arena. Values in one *home* share bytes by nature: the inputs and outputs of operators
  that only rename their input's bytes (`view`), a value and the pieces that it is joined from or cut into, a sum of
  gradients and what is added to it. The planner lets homes share bytes when their lifetimes allow it.

Forward may run several times before backward: what backward reads is never overwritten by forward.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from raymx.errors import ShapeError
from raymx.graph.accumulate import accumulate
from raymx.graph.gradient import differentiate, head_gradients
from raymx.graph.infer import infer_shapes, infer_types
from raymx.graph.marks import Cut, Receive, Send
from raymx.graph.node import Entry, Node, topological
from raymx.graph.plan import Plan, Value, aligned, plan
from raymx.graph.recompute import recompute
from raymx.graph.traced import Spec, Traced, entries_of, read_by
from raymx.ops.gradient import Gradient, gradient_of
from raymx.ops.infer import complete, infer_call
from raymx.ops.layout import PLAIN
from raymx.ops.op import Op, make
from raymx.ops.program import Program, Slot, Step
from raymx.ops.repeat import Again

Simplify = Callable[[Sequence[Entry], Mapping[Entry, Spec]], tuple[list[Entry], dict[Entry, Spec]]]
AFTER_PREDICTION = " after prediction"  # how the twin of a phase is called, for a backward whose forward did not train


def trace(
    heads: Sequence[Entry],
    variables: Mapping[Node, Spec],
    wrt: Sequence[Node] = (),
    mode: str = "none",
    simplify: Simplify | None = None,
) -> Traced:
    """Add the gradient graph for the variables `wrt`, infer every shape and dtype from those of `variables`, and let
    backward make values again as `mode` of `recompute` says. `simplify` may change the graph before.

    Raises ShapeError or DTypeError that names operator and node.
    """
    specs = _specs(topological(list(heads)), variables)
    if simplify is not None:
        heads, specs = simplify(heads, specs)
    return recompute(accumulate(_differentiated(heads, specs, wrt, simplify is not None)), mode)


def _differentiated(heads: Sequence[Entry], specs: dict[Entry, Spec], wrt: Sequence[Node], short: bool) -> Traced:
    heads = list(heads)
    incoming = head_gradients(heads)
    gradients = differentiate(heads, wrt, incoming, short)
    order = topological(heads)
    for node in order:
        _infer(node, specs)
    specs.update((g, specs[head]) for g, head in zip(incoming, heads, strict=True))
    for node in gradients.nodes:
        _infer(node, specs)
    used = {e for node in gradients.nodes for e in node.inputs} | {e for e in gradients.of.values() if e}
    head_grads = [g.node if g in used else None for g in incoming]
    forward = [node for node in order if node.op]
    return Traced(heads, forward, gradients.nodes, gradients.of, head_grads, specs)


def _specs(order: list[Node], variables: Mapping[Node, Spec]) -> dict[Entry, Spec]:
    """Shape and dtype of every output of the nodes in `order`."""
    differentiated = [Entry(node.forward) for node in order if node.forward]  # a gradient has the shape of its input
    order = topological([*differentiated, *map(Entry, order)])
    plain = [node for node in order if node.forward is None]
    shapes = infer_shapes(plain, {v: s.shape for v, s in variables.items()})
    types = infer_types(plain, {v: s.dtype for v, s in variables.items()})
    specs = {Entry(v): spec for v, spec in variables.items()}
    specs.update((e, Spec(s, types[e])) for e, s in shapes.items() if complete(s) and e in types)
    for node in order:
        _infer(node, specs)
    return specs


def _infer(node: Node, specs: dict[Entry, Spec]) -> None:
    """Complete `specs` by the outputs of one node whose inputs are there."""
    missing = [e for e in entries_of(node) if e not in specs]
    if not missing:
        return
    if node.forward is not None:
        inputs = dict(zip((f"d_{n}" for n in node.forward.input_names()), node.forward.inputs, strict=True))
        specs.update({e: specs[inputs[node.output_names()[e.index]]] for e in missing})
        return
    if node.op is None or any(e not in specs for e in node.inputs):
        who = f"{node.op.name if node.op else 'variable'} {node.name!r}"
        raise ShapeError(f"{who}: its shape or dtype cannot be told from those of the arguments.")
    ins = [specs[e] for e in node.inputs]
    found = infer_call(node.op, tuple(s.shape for s in ins), tuple(s.dtype for s in ins))
    specs.update({e: Spec(*found[e.index]) for e in missing})


@dataclass
class Arrays:
    """Ids of the arrays outside the program."""

    variables: Mapping[Node, int]  # arguments and aux states
    outputs: Sequence[int]  # one for each head, all different
    gradients: Mapping[Node, tuple[str, int]] = field(default_factory=dict)  # variable → ("write" or "add", id)
    head_grads: Sequence[int | None] = ()  # one for each head, None where it is not used
    strided: frozenset[int] = frozenset()  # gradient arrays that are no contiguous block: kernels don't write them
    kept: Mapping[Entry, int] = field(default_factory=dict)  # values that shall be left in an array of their own
    received: Mapping[int, int] = field(default_factory=dict)  # transfer from another device → where it arrives


@dataclass
class Compiled:
    program: Program
    unplanned_nbytes: int  # what the arena would take if no two values shared bytes
    repeatable: bool  # whether backward leaves what it reads of forward intact
    random: frozenset[str]  # phases that draw random numbers
    sent: Mapping[int, int]  # transfer to another device → the slot that its value has at the end of its phase


def lower(traced: Traced, arrays: Arrays) -> Compiled:
    """The program for a traced graph over these arrays; it has a phase "backward" if there are gradients, and more of
    them where the graph is cut."""
    lowering = _Lowering(traced, arrays)
    lowering.run_forward()
    if traced.trains:
        lowering.run_backward()
    lowering.place_outputs()
    return lowering.finish()


@dataclass
class _Home:
    """Values that are the same bytes. `array` is where they lie outside the arena; such bytes are never reused."""

    members: list[int]
    nbytes: int
    array: int | None = None
    in_pieces: bool = False  # whether a value is only a part of it


class _Lowering:
    """Values are numbered; a step's slots are the numbers of its values."""

    def __init__(self, traced: Traced, arrays: Arrays):
        self.traced, self.arrays = traced, arrays
        self.specs: list[Spec] = []  # by value
        self.layouts: list[str] = []  # by value
        self.homes: list[_Home] = []  # by value; several values may be in one
        self.shifts: list[int] = []  # by value: where it begins in its home, in bytes
        self.values: dict[Entry, int] = {}
        self.fresh: dict[Op, Op] = {}  # operators with a state → their instances in this program
        self.phases: dict[str, list[Step]] = {}
        self.sent: dict[int, int] = {}  # transfer → value
        self.lasting: list[tuple[int, str]] = []  # (value, the phase until whose end it lives)
        for variable, array in arrays.variables.items():
            self._define(Entry(variable), array)

    # ---- steps ----

    def run_forward(self) -> None:
        """The steps of the graph itself."""
        self._begin("forward")
        for node in self.traced.forward:
            self._run(node)
        self.forward_phases = tuple(self.phases)

    def run_backward(self) -> None:
        """The steps of the gradient graph; each gradient is delivered as soon as it is there."""
        self._begin("backward")
        for head_grad, array in zip(self.traced.head_grads, self.arrays.head_grads, strict=True):
            if head_grad is not None:
                self._define(Entry(head_grad), array)
        owners: dict[Node, list[tuple[Node, Entry]]] = {}
        for variable in self.arrays.gradients:
            entry = self.traced.gradients[variable]
            if entry is None:
                self._deliver_zero(variable)
            elif entry.node.op is None:
                self._deliver(variable, entry)
            else:
                owners.setdefault(entry.node, []).append((variable, entry))
        for node in self.traced.backward:
            self._run(node)
            for variable, entry in owners.get(node, ()):
                self._deliver(variable, entry)

    def _begin(self, phase: str) -> None:
        self._phase = phase
        self._steps = self.phases[phase] = []

    def _run(self, node: Node) -> None:
        op = node.op
        if isinstance(op, Cut):
            self._begin(op.phase)
        elif isinstance(op, Receive):
            self._define(Entry(node), self.arrays.received[op.number])
        elif isinstance(op, Send):
            value = self.sent[op.number] = self.values[node.inputs[0]]
            self.lasting.append((value, self._phase))
        else:
            self._steps += self._steps_of(node)

    def _steps_of(self, node: Node) -> list[Step]:
        """One step, or none if what it would make lies there already."""
        assert node.op is not None, "a variable is no step"
        op = self._own(node.op)
        ins = tuple(self.values[e] for e in read_by(node))
        outs = tuple(self._define(e, self.arrays.kept.get(e)) for e in entries_of(node))
        if op.name == "zeros_like":
            return [Step(_ZERO, (), outs, node.name)]
        if self._lie_together(op, ins, outs):
            return []
        if op.view:
            for out in outs:
                self._join(ins[0], out)
        for name in op.adds if isinstance(op, Gradient) else ():
            self._join(ins[op.inputs().index(f"sum_{name}")], outs[op.outputs().index(f"d_{name}")])
        return [Step(op, ins, outs, node.name, self._scratch(node, op))]

    def _lie_together(self, op: Op, ins: Sequence[int], outs: Sequence[int]) -> bool:
        """Let a value and its pieces be one memory, if all of them are free for that."""
        pieces = op.pieces()
        if pieces is None:
            return False
        values = dict(zip((*op.inputs(), *op.aux(), *op.outputs()), (*ins, *outs), strict=True))
        whole, parts = values[pieces[0]], [values[name] for name in pieces[1]]
        free = [*parts, whole] if whole in outs else parts  # a whole that is cut may lie in a larger one
        if self.homes[whole].array is not None or len({id(self.homes[p]) for p in parts}) < len(parts):
            return False
        if not all(self._fills(v) for v in free) or any(self.layouts[v] for v in (whole, *parts)):
            return False
        start = self.shifts[whole]
        for part in parts:
            self._move(part, self.homes[whole], start)
            start += self.specs[part].nbytes
        return True

    def _fills(self, value: int) -> bool:
        """Whether it is as large as its home, which is not bound to an array."""
        home = self.homes[value]
        return home.array is None and home.nbytes == self.specs[value].nbytes

    def _may_move(self, value: int) -> bool:
        """Whether the home of `value` may be bound to an array of its shape."""
        return self._fills(value) and not self.homes[value].in_pieces

    def _move(self, value: int, home: _Home, start: int) -> None:
        """Let all that lies in the home of `value` lie `start` bytes into another one."""
        home.in_pieces |= self.homes[value].in_pieces or self.homes[value].nbytes < home.nbytes
        for member in self.homes[value].members:
            self.homes[member] = home
            self.shifts[member] += start
            home.members.append(member)

    def _own(self, op: Op) -> Op:
        """`op`, or its instance for this program; of a gradient the one of the instance that forward has."""
        if isinstance(op, Gradient):
            return gradient_of(self._own(op.op), op.wants, op.adds) if op.op.stateful else op
        if not op.stateful:
            return op
        if op not in self.fresh:
            self.fresh[op] = op.fresh()
        return self.fresh[op]

    def _scratch(self, node: Node, op: Op) -> tuple[tuple[str, int], ...]:
        """Values for the temporary arrays that the operator's kernel asks for."""
        entries = [*node.inputs, *entries_of(node)]
        names = node.input_names() + node.output_names()
        shapes = {n: self.traced.specs[e].shape for n, e in zip(names, entries, strict=True)}
        wanted = op.scratch(shapes, self.traced.specs[entries[0]].dtype)
        layouts = {shapes[n]: self.traced.layouts.get(e, PLAIN) for n, e in zip(names, entries, strict=True)}
        return tuple(
            (n, self._value(Spec(shape, np.dtype(t)), None, layouts.get(shape, PLAIN) if op.elementwise else PLAIN))
            for n, (shape, t) in wanted.items()
        )

    def _deliver(self, variable: Node, entry: Entry) -> None:
        """Bring a gradient into its array."""
        req, array = self.arrays.gradients[variable]
        value = self.values[entry]
        home = self.homes[value]
        if req == "write" and (self._may_move(value) or home.array == array) and self._may_hold(array):
            home.array = array
            return
        target = self._value(self.specs[value], array)
        op, ins = (_ADD, (target, value)) if req == "add" else (_COPY, (value,))
        self._steps.append(Step(op, ins, (target,), f"{variable.name}_grad"))

    def _deliver_zero(self, variable: Node) -> None:
        req, array = self.arrays.gradients[variable]
        if req == "write":
            target = self._value(self.traced.specs[Entry(variable)], array)
            self._steps.append(Step(_ZERO, (), (target,), f"{variable.name}_grad"))

    def _may_hold(self, array: int) -> bool:
        """Whether a kernel may write its result into this gradient array, and others read it there."""
        uses = Counter(a for _, a in self.arrays.gradients.values())
        return uses[array] == 1 and array not in self.arrays.strided

    def place_outputs(self) -> None:
        """Let each head's value lie in its output array, or copy it there at the end of forward."""
        backward = [steps for phase, steps in self.phases.items() if phase not in self.forward_phases]
        read_later = {s for steps in backward for step in steps for s in step.ins}
        for head, array in zip(self.traced.heads, self.arrays.outputs, strict=True):
            value = self.values[head]
            home = self.homes[value]
            others_needed = any(m in read_later for m in home.members if m != value)  # the user may change outputs
            if self._may_move(value) and not others_needed:
                home.array = array
            else:
                target = self._value(self.specs[value], array)
                last = self.phases[self.forward_phases[-1]]
                last.append(Step(_COPY, (value,), (target,), f"{head.node.name}_output"))

    # ---- values ----

    def _define(self, entry: Entry, array: int | None = None) -> int:
        layout = self.traced.layouts.get(entry, PLAIN)
        value = self.values[entry] = self._value(self.traced.specs[entry], array, layout)
        return value

    def _value(self, spec: Spec, array: int | None = None, layout: str = PLAIN) -> int:
        self.specs.append(spec)
        self.layouts.append(layout)
        self.homes.append(_Home([len(self.homes)], spec.nbytes, array))
        self.shifts.append(0)
        return len(self.homes) - 1

    def _join(self, source: int, target: int) -> None:
        """`target` is the bytes of `source`, if nothing speaks against it."""
        a, b = self.specs[source], self.specs[target]
        if a.nbytes == b.nbytes and a.dtype == b.dtype and self.homes[target].array is None:
            self._move(target, self.homes[source], self.shifts[source])

    # ---- places ----

    def finish(self) -> Compiled:
        """Plan the arena and write everything down as a program."""
        steps = [step for each in self.phases.values() for step in each]
        times, ends = self._times()
        homes = list({id(home): home for home in self.homes}.values())
        number = {id(home): i for i, home in enumerate(homes)}
        of_value = [number[id(home)] for home in self.homes]
        lifetimes = self._lifetimes(zip(times, steps, strict=True), of_value, homes, ends)
        fills = [home.nbytes == spec.nbytes for home, spec in zip(self.homes, self.specs, strict=True)]
        planned = plan(lifetimes, _inplace_pairs(steps, of_value, fills))
        starts = [(planned.offsets[home] or 0) + shift for home, shift in zip(of_value, self.shifts, strict=True)]
        slots = [
            Slot(spec.shape, spec.dtype.name, home.array, start, layout)
            for spec, home, start, layout in zip(self.specs, self.homes, starts, self.layouts, strict=True)
        ]
        phases = dict(self.phases)
        for phase in self.phases:
            if phase not in self.forward_phases:
                phases |= _after_prediction(phase, self.phases[phase])
        inside = [spec for spec, home in zip(self.specs, self.homes, strict=True) if home.array is None]
        return Compiled(
            Program(slots, planned.nbytes, phases, resumes=len(self.phases) > 2),
            sum(aligned(spec.nbytes) for spec in inside),
            _repeatable(lifetimes, planned, ends[self.forward_phases[-1]] + 1),
            frozenset(name for name, steps in phases.items() if any(step.op.random() for step in steps)),
            self.sent,
        )

    def _times(self) -> tuple[list[int], dict[str, int]]:
        """When each step runs, and the end of each phase: a moment after its last step, when values leave."""
        clock = itertools.count()
        times: list[int] = []
        ends: dict[str, int] = {}
        for phase, steps in self.phases.items():
            times += itertools.islice(clock, len(steps))
            ends[phase] = next(clock)
        return times, ends

    def _lifetimes(
        self, steps: Iterable[tuple[int, Step]], of_value: Sequence[int], homes: Sequence[_Home],
        ends: Mapping[str, int],
    ) -> list[Value]:  # fmt: skip
        born = [max(ends.values())] * len(homes)
        dies = [0] * len(homes)
        for time, step in steps:
            for value in _touched(step):
                home = of_value[value]
                born[home] = min(born[home], time)
                dies[home] = max(dies[home], time)
        for value, phase in self.lasting:
            home = of_value[value]
            dies[home] = max(dies[home], ends[phase])
        return [Value(home.nbytes, born[i], dies[i], home.array is not None) for i, home in enumerate(homes)]


def _after_prediction(phase: str, steps: list[Step]) -> dict[str, list[Step]]:
    """The twin of a phase that repeats steps of a forward that did not train; none if that makes no difference."""
    twin = [s._replace(op=s.op.at(trained=False)) if isinstance(s.op, Again) else s for s in steps]
    return {phase + AFTER_PREDICTION: twin} if twin != steps else {}


def _touched(step: Step) -> Iterable[int]:
    return *step.ins, *step.outs, *(value for _, value in step.scratch)


def _inplace_pairs(steps: Sequence[Step], of_value: Sequence[int], fills: Sequence[bool]) -> list[tuple[int, int]]:
    """Homes (input, output) of each step that its operator lets lie on each other: the input stands there once, and
    both values are all that lies in their homes."""
    pairs = []
    for step in steps:
        ins = [of_value[v] for v in step.ins]
        names = step.op.inputs() + step.op.aux()
        outputs = step.op.outputs()
        for source, target in step.op.inplace:
            if source in names and target in outputs:
                read, made = step.ins[names.index(source)], step.outs[outputs.index(target)]
                a, b = of_value[read], of_value[made]
                if a != b and ins.count(a) == 1 and fills[read] and fills[made]:
                    pairs.append((a, b))
    return pairs


def _repeatable(lifetimes: Sequence[Value], planned: Plan, split: int) -> bool:
    """Whether nothing that backward makes overwrites what it reads of forward."""
    placed = [(v, o) for v, o in zip(lifetimes, planned.offsets, strict=True) if o is not None]
    kept = [(o, o + v.nbytes) for v, o in placed if v.born < split <= v.dies]
    made = [(o, o + v.nbytes) for v, o in placed if v.born >= split]
    return not any(a < d and c < b for a, b in kept for c, d in made)


_ZERO: Op = make("_set_value", src=0)
_COPY: Op = make("_copy")
_ADD: Op = make("_plus")
