"""What a bound graph becomes: plain data that is shipped to its device once, prepared there, and run by one instruction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from raymx.ops.params import Shape


class Slot(NamedTuple):
    """One array of a program: either `array`, the id of an array that the device holds anyway (argument, gradient,
    state, output), or `nbytes` bytes from `offset` in the program's own arena."""

    shape: Shape
    dtype: str
    array: int | None = None
    offset: int = 0


class Step(NamedTuple):
    """Run operator `op`: positional inputs (inputs, then aux states), then outputs, as slot numbers; -1 = not wanted."""

    op: object
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
