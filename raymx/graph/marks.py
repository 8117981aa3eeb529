"""Nodes that run nothing: marks in a list of nodes that say where values come from, leave, and where a phase begins."""

from __future__ import annotations

from raymx.graph.node import Entry
from raymx.ops.op import Op, Signature


class _Mark(Op):
    forward_names, backward_names = Signature(Op.forward), None

    def __init__(self):
        self.attrs, self.extras, self.simple = {}, (), False

    def inputs(self):
        return ()

    def outputs(self):
        return ()


class Receive(_Mark):
    """Its output is its input, a value of another device, which arrives as transfer `number`."""

    name = "_CrossDeviceCopy"

    def __init__(self, number: int):
        super().__init__()
        self.number = number

    def inputs(self):
        return ("data",)

    def outputs(self):
        return ("out",)


class Send(_Mark):
    """Its input leaves as transfer `number` when this phase has run."""

    name = "_Send"

    def __init__(self, number: int):
        super().__init__()
        self.number = number

    def inputs(self):
        return ("data",)


class Cut(_Mark):
    """What follows is the phase of that name."""

    name = "_Cut"

    def __init__(self, phase: str):
        super().__init__()
        self.phase = phase


def origin(entry: Entry) -> Entry:
    """The value that an entry is, on the device where it was made."""
    while isinstance(entry.node.op, Receive):
        entry = entry.node.inputs[0]
    return entry
