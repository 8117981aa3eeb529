"""Compiled graphs on their devices, and the passes over them: one instruction on one device; on several, the segments
of each and the values that travel between them, all of them ordinary tasks of the engine."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from raymx.context import Context
from raymx.graph.compile import AFTER_PREDICTION, Compiled
from raymx.graph.placement import Parts, Route
from raymx.ndarray import NDArray
from raymx.ops.params import DTYPES


class Loaded:
    """A compiled graph, or one device's part of it, on its device; it goes from there when this object goes.

    `arrays` are all those that it may read and write, `arena` the one for its intermediate values.
    """

    def __init__(self, context: Context, compiled: Compiled, arena: NDArray | None, arrays: Iterable[NDArray]):
        self.context, self.compiled, self.arena = context, compiled, arena
        self._lane = context.lane
        program = compiled.program
        program.arena = None if arena is None else arena._id
        self.number = self._lane.new_program(program)
        weakref.finalize(self, self._lane.drop_program, self.number).atexit = False
        self._arrays = {array._id: array for array in (*arrays, *([] if arena is None else [arena]))}
        self._access = {phase: self._variables_of(phase) for phase, steps in program.phases.items() if steps}

    def run(self, phase: str, is_train: bool, trained: bool, urgent: bool = True) -> None:
        """Run a phase, if it has any steps. `trained` says whether the last forward did; what is not `urgent` is sent
        with what follows."""
        if not trained and phase + AFTER_PREDICTION in self._access:
            phase += AFTER_PREDICTION
        access = self._access.get(phase)
        if access is not None:
            self._lane.run_program(self.number, phase, is_train, *access, urgent)

    def cut(self) -> None:
        """What follows is ordered by itself."""
        self._lane.cut()

    def _variables_of(self, phase: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The engine's variables that a phase reads and writes."""
        program = self.compiled.program
        reads, writes = (
            {self._arrays[i]._var: None for i in ids} for ids in (program.reads(phase), program.writes(phase))
        )
        if phase in self.compiled.random:
            writes[self._lane.rng_var] = None
        return (*reads, self.number), tuple(writes)

    def leaving(self, transfer: int) -> NDArray:
        """The array that leaves as this transfer; perhaps a window on the arena."""
        slot = self.compiled.program.slots[self.compiled.sent[transfer]]
        if slot.array is not None:
            array = self._arrays[slot.array]
            return array if array._strides is not None else _shaped(array, slot.shape)  # else it would be a copy
        assert self.arena is not None
        dtype = DTYPES[slot.dtype]
        window = NDArray(self._lane, self.context, slot.shape, dtype, self.arena, None, slot.offset)
        self._lane.view(window._id, self.arena._id, slot.shape, None, slot.offset, dtype)
        return window


def _shaped(array: NDArray, shape) -> NDArray:
    return array if array.shape == shape else array.reshape(shape)


def in_stages(loaded: Loaded) -> Loaded | Staged:
    """What runs the passes of a program whose backward may be cut."""
    stages = [phase for phase in loaded.compiled.program.phases if not phase.endswith(AFTER_PREDICTION)][1:]
    return Staged(loaded, stages) if len(stages) > 1 else loaded


class Staged:
    """Passes of one device whose backward has several phases: what waits for the gradients of one may run, and leave,
    before the next."""

    def __init__(self, loaded: Loaded, stages: Sequence[str]):
        self._loaded, self._stages = loaded, stages

    def run(self, name: str, is_train: bool, trained: bool) -> None:
        """Push the pass of that name."""
        if name == "forward":
            self._loaded.run(name, is_train, trained)
            return
        for stage in self._stages:
            self._loaded.cut()
            self._loaded.run(stage, is_train, trained, urgent=stage == self._stages[-1])
        self._loaded.cut()


class _Departure(NamedTuple):
    """Arrays of one device that leave together, and the transfers that each of them is."""

    lane: Any
    ids: tuple[int, ...]
    variables: tuple[tuple[int], ...]
    transfers: tuple[tuple[int, ...], ...]


class Together:
    """Passes over several devices. `sources` and `targets` are, by transfer, the array that leaves and the one that the
    value arrives in."""

    def __init__(
        self, loaded: Mapping[Context, Loaded], parts: Parts, sources: Mapping[int, NDArray],
        targets: Mapping[int, NDArray],
    ):  # fmt: skip
        self._loaded, self._routes = loaded, parts.routes
        self._sources = sources  # held: windows go when nobody does
        self._targets = {n: _shaped(target, sources[n].shape) for n, target in targets.items()}
        self._departures = {
            transfers: _departures([(n, sources[n]) for n in transfers])
            for route in parts.routes.values()
            for transfers in (route.opening, *(s.sends for s in route.segments))
        }
        self._handles: dict[int, Any] = {}  # transfer → the value under way
        received = {name: {n for s in route.segments for n in s.receives} for name, route in parts.routes.items()}
        sent = {n for s in parts.routes["forward"].segments for n in s.sends}
        self._awaited = sent & received["backward"]  # what one pass sends and the other one receives

    def run(self, name: str, is_train: bool, trained: bool) -> None:
        """Push the pass of that name."""
        route: Route = self._routes[name]
        self._depart(route.opening)
        for segment in route.segments:
            for transfer in segment.receives:
                target = self._targets[transfer]
                target._lane.arrive(target._id, target._var, self._handles[transfer])
            self._loaded[segment.device].run(segment.phase, is_train, trained)
            self._depart(segment.sends)
        self._handles = {transfer: self._handles[transfer] for transfer in self._awaited}

    def _depart(self, transfers: tuple[int, ...]) -> None:
        for departure in self._departures[transfers]:
            handles = departure.lane.export(departure.ids, departure.variables)
            for handle, numbers in zip(handles, departure.transfers, strict=True):
                self._handles.update(dict.fromkeys(numbers, handle))


def _departures(leaving: Sequence[tuple[int, NDArray]]) -> list[_Departure]:
    """One departure per device; an array that goes to several devices leaves once."""
    numbers: dict[int, list[int]] = {}
    arrays: dict[Any, dict[int, NDArray]] = {}
    for transfer, array in leaving:
        numbers.setdefault(array._id, []).append(transfer)
        arrays.setdefault(array._lane, {})[array._id] = array
    return [
        _Departure(
            lane, tuple(each), tuple(x._vars for x in each.values()), tuple(tuple(numbers[i]) for i in each)
        )
        for lane, each in arrays.items()
    ]
