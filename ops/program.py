"""What a bound graph becomes: plain data, shipped to its device once, prepared there, and run by one instruction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from raymx.ops.layout import PLAIN
from raymx.ops.op import Op
from raymx.ops.params import Shape


class Slot(NamedTuple):
    """One array of a program: either `array`, the id of an array that the device holds anyway (argument, gradient,
    state, output), perhaps under another shape, or what lies `offset` bytes into the arena."""

    shape: Shape
    dtype: str
    array: int | None = None
    offset: int = 0
    layout: str = PLAIN


class Step(NamedTuple):
    """Run operator `op`: its inputs (and then aux states) and its outputs are slot numbers; -1 = not wanted."""

    op: Op
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    name: str  # the node, for errors, traces and monitors
    scratch: tuple[tuple[str, int], ...] = ()  # (keyword, slot)


@dataclass
class Program:
    """Phases (`forward`, `backward`) of steps over shared slots. Whether it trains is said at each run."""

    slots: list[Slot] = field(default_factory=list)
    arena_nbytes: int = 0
    phases: dict[str, list[Step]] = field(default_factory=dict)
    arena: int | None = None  # the array of bytes, at least `arena_nbytes`, to use; None = memory of the program's own
    resumes: bool = False  # whether each phase but the first goes on from those before: if one failed, so do these

    def reads(self, phase: str) -> tuple[int, ...]:
        """Ids of the arrays whose contents `phase` uses before it overwrites them."""
        return tuple(self._access(phase)[0])

    def writes(self, phase: str) -> tuple[int, ...]:
        """Ids of the arrays that `phase` changes."""
        return tuple(self._access(phase)[1])

    def _access(self, phase: str) -> tuple[dict[int, None], dict[int, None]]:
        reads: dict[int, None] = {}
        writes: dict[int, None] = {}
        written: set[int] = set()  # slots
        for step in self.phases[phase]:
            self._note(reads, (s for s in step.ins if s not in written))
            self._note(writes, step.ins[len(step.op.inputs()) :])
            fresh = [*(s for s in step.outs if s >= 0), *(s for _, s in step.scratch)]
            written.update(fresh)
            self._note(writes, (s for s in fresh if not self.is_view(step, s)))
        if self.resumes and self.arena is not None:
            first = phase == next(iter(self.phases))
            (writes if first else reads)[self.arena] = None
        return reads, writes

    def is_view(self, step: Step, out: int) -> bool:
        """Whether output slot `out` is the very memory of the input that `step` would copy to it."""
        if not step.op.view:
            return False
        source, target = self.slots[step.ins[0]], self.slots[out]
        return (source.array, source.offset) == (target.array, target.offset)

    def _note(self, ids: dict[int, None], slots) -> None:
        for slot in slots:
            array = self.slots[slot].array
            array = self.arena if array is None else array
            if array is not None:
                ids[array] = None
