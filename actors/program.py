"""A program on its device: places resolved to arrays and steps to functions, once, so that a run only calls them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from raymx.errors import TaskError
from raymx.ops.layout import PLAIN, laid_out
from raymx.ops.program import Program, Slot, Step

Run = Callable[[], None]


class PreparedProgram:
    """Runs the phases of `program` with the array module `xp`.

    `lookup(id)` gives the device's arrays, `rng` is its random stream, `alloc(shape, dtype)` gives memory for an arena
    of the program's own. A phase is prepared when it first runs: arrays need only be there when a phase uses them.
    """

    def __init__(self, program: Program, xp, lookup: Callable[[int], Any], rng, alloc: Callable):
        self.program = program
        self._xp, self._lookup, self._rng, self._alloc = xp, lookup, rng, alloc
        self._arena: Any = None  # bytes; None before the first phase that uses it is prepared
        self._arrays: dict[int, Any] = {}  # slot → array, filled in as phases need them
        self._phases: dict[tuple[str, bool], tuple[list[Run], list[Step]]] = {}  # functions, and the steps they are of
        self._access = {phase: (program.reads(phase), program.writes(phase)) for phase in program.phases}

    def reads(self, phase: str) -> tuple[int, ...]:
        """Ids of the arrays whose contents `phase` uses."""
        return self._access[phase][0]

    def writes(self, phase: str) -> tuple[int, ...]:
        """Ids of the arrays that `phase` changes."""
        return self._access[phase][1]

    def run(self, phase: str, is_train: bool, events: list[tuple[str, int, int]] | None = None) -> None:
        """Run every step of a phase; allocates nothing after the first time. With `events`, appends (node, start, end)
        in nanoseconds for each step. Raises TaskError that names the node that failed; its cause is kept."""
        runs, steps = self._phases.get((phase, is_train)) or self._prepare(phase, is_train)
        if events is not None:
            self._run_traced(runs, steps, events)
            return
        run = None
        try:
            for run in runs:
                run()
        except Exception as error:
            raise self._failure(steps[_position(runs, run)], error) from error

    def _run_traced(self, runs: list[Run], steps: list[Step], events: list[tuple[str, int, int]]) -> None:
        for run, step in zip(runs, steps, strict=True):
            start = time.time_ns()
            try:
                run()
            except Exception as error:
                raise self._failure(step, error) from error
            finally:
                events.append((step.name, start, time.time_ns()))

    # ---- preparing ----

    def _prepare(self, phase: str, is_train: bool) -> tuple[list[Run], list[Step]]:
        runs, steps = [], []
        for step in self.program.phases[phase]:
            try:
                run = self._function(step, is_train)
            except Exception as error:
                raise self._failure(step, error) from error
            if run is not None:
                runs.append(run)
                steps.append(step)
        prepared = self._phases[phase, is_train] = runs, steps
        return prepared

    def _function(self, step: Step, is_train: bool) -> Run | None:
        """What to call for a step; None if there is nothing to do, because its outputs are its input's memory."""
        ins = [self._array(s) for s in step.ins]
        outs = [self._array(s) if s >= 0 else None for s in step.outs]
        if self._nothing_to_do(step, ins, outs):
            return None
        scratch = {name: self._array(s) for name, s in step.scratch}
        return step.op.prepare(self._xp, ins, outs, is_train=is_train, rng=self._rng, **scratch)

    def _nothing_to_do(self, step: Step, ins, outs) -> bool:
        wanted = [(s, out) for s, out in zip(step.outs, outs, strict=True) if s >= 0]
        return all(self.program.is_view(step, s) and self._xp.may_share_memory(ins[0], out) for s, out in wanted)

    def _array(self, number: int):
        if number not in self._arrays:
            slot = self.program.slots[number]
            self._arrays[number] = self._in_arena(slot) if slot.array is None else self._outside(slot)
        return self._arrays[number]

    def _outside(self, slot: Slot):
        """A device array in another shape. Of a strided array it may be a copy: the step that gives it this shape then
        sees that the memories differ, and copies at each run."""
        array = self._lookup(slot.array)  # type: ignore[arg-type]
        if array.shape == slot.shape and slot.layout == PLAIN:
            return array
        return laid_out(array.reshape(-1), slot.shape, slot.layout)

    def _in_arena(self, slot: Slot):
        if self._arena is None:
            self._arena = self._whole_arena()
        dtype = np.dtype(slot.dtype)
        nbytes = dtype.itemsize * math.prod(slot.shape)
        return laid_out(self._arena[slot.offset : slot.offset + nbytes].view(dtype), slot.shape, slot.layout)

    def _whole_arena(self):
        if self.program.arena is not None:
            return self._lookup(self.program.arena)
        return self._alloc((self.program.arena_nbytes,), np.dtype("uint8"))

    def _failure(self, step: Step, error: Exception) -> TaskError:
        shapes = ", ".join(str(self.program.slots[s].shape) for s in step.ins)
        words = f"{step.op.name} {step.name!r}" + (f" with inputs {shapes}" if shapes else "")
        return TaskError(f"{words}: {type(error).__name__}: {error}")


def _position(runs: list[Run], run: Run | None) -> int:
    return next(i for i, each in enumerate(runs) if each is run)
