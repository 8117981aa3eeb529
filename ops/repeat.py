"""Running an operator once more, in backward, to get values that were not kept since forward."""

from __future__ import annotations

import functools
from typing import NamedTuple

from raymx.ops.op import Op


class Repeat(NamedTuple):
    """`op` makes the outputs `makes` of another operator again from its inputs, states and outputs called `reads`."""

    op: Op
    reads: tuple[str, ...]
    makes: tuple[str, ...]


def repeat_of(op: Op) -> Repeat | None:
    """How the outputs of `op` can be made again with the same bits; None if they cannot, as of one that draws random
    numbers or has a state of its own and says nothing better."""
    own = op.remake()
    if own is not None:
        return Repeat(*own)
    if op.random() or op.stateful:
        return None
    return Repeat(again(op), op.inputs() + op.aux(), op.outputs())


_interned: dict[tuple[Op, bool], Again] = {}


class Again(Op):
    """Runs `op` as forward did: in that pass's mode, whatever mode backward runs in, and leaving its states alone.

    States that `op` moves on are inputs here; the kernel works on copies of them. `trained` says how forward ran.
    """

    def __init__(self, op: Op, trained: bool):
        self.op, self.trained, self.name = op, trained, op.name
        self.attrs, self.declared, self.heavy, self.kinds = op.attrs, op.declared, op.heavy, op.kinds
        self.view, self.elementwise, self.inplace, self.channelled = op.view, op.elementwise, op.inplace, op.channelled
        self.gains, self.forward_names, self.backward_names = op.gains, op.forward_names, None
        self.extras, self.short = op.extras, None

    def at(self, trained: bool) -> Again:
        """The same after a forward pass in the other mode."""
        return _again(self.op, trained)

    def subject(self):
        return self.op.subject()

    def inputs(self):
        return self.op.inputs() + self.op.aux()

    def outputs(self):
        return self.op.outputs()

    def visible_outputs(self):
        return self.op.visible_outputs()

    def scratch(self, shapes, dtype):
        return self.op.scratch(shapes, dtype)

    def prepare(self, xp, ins, outs, **extras):
        count = len(self.op.inputs())
        states = ins[count:]
        copies = [xp.empty_like(state) for state in states]
        run = self.op.prepare(xp, [*ins[:count], *copies], outs, **{**extras, "is_train": self.trained})
        return functools.partial(_run, run, states, copies) if copies else run

    def random(self):
        return False

    def __repr__(self):
        return f"again({self.op!r})"

    def __reduce__(self):
        return _again, (self.op, self.trained)


def _run(run, states, copies) -> None:
    for state, copy in zip(states, copies, strict=True):
        copy[...] = state
    run()


def again(op: Op) -> Op:
    """The operator that repeats `op`: itself, if it has no state and no mode."""
    return _again(op, True) if op.aux() or op.forward_names.takes("is_train") else op


def _again(op: Op, trained: bool) -> Again:
    key = op, trained
    if key not in _interned:
        _interned[key] = Again(op, trained)
    return _interned[key]
