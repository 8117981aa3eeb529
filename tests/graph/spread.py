"""Graphs over several devices on plain NumPy arrays, for tests: each device has arrays of its own."""

from __future__ import annotations

import itertools

import numpy as np

from raymx.actors.program import PreparedProgram
from raymx.graph.compile import Arrays, Spec, lower, trace
from raymx.graph.layout import lay_out
from raymx.graph.node import Entry
from raymx.graph.placement import Parts, Placed, parts, place
from raymx.graph.traced import entries_of
from tests.graph.run import arena_of_nan


class Spread:
    """A graph compiled over copies of `values`, which lie where `where` says; `groups` places the nodes. Segments run
    in the order of the route; a value leaves when its segment has run and arrives when it is waited for."""

    def __init__(self, heads, values, reqs, where, groups, default=0, strided=(), mode="none", layouts=False, keep=False):  # noqa: E501
        self._ids, self.device = itertools.count(1), {}
        specs = {v.node: Spec(x.shape, x.dtype) for v, x in values.items()}
        traced = trace(heads, specs, [v.node for v in reqs], mode)
        self.placed: Placed = place(traced, {v.node: where[v] for v in values}, groups, default)
        self.traced = self.placed.traced
        self.of = {v: self._put(x.copy()) for v, x in values.items()}
        self.outputs = [self._like(h) for h in self.traced.heads]
        self.grads = {v: self._like(v, v in strided) for v in reqs}
        self.head_grads = [g and self._like(Entry(g)) for g in self.traced.head_grads]
        direct = [v.node for v, req in reqs.items() if req == "write" and v not in strided]
        self.cut: Parts = parts(self.placed, direct)
        self.kept = {}
        if keep:
            made = self.traced.shown(self.traced.forward + self.traced.backward)
            self.kept = {e: self._like(e) for node in made for e in entries_of(node)}
        self._reqs, self._strided = reqs, strided
        boxes = {d: [self._put(np.full(s.shape, np.nan)) for s in specs] for d, specs in self.cut.boxes.items()}
        self._targets = {n: self._target(n, boxes) for n in self.cut.arrivals}
        self.compiled = {}
        self._prepared = {}
        for part in self.cut.parts:
            self._load(part, layouts)
        self._handles: dict[int, np.ndarray] = {}

    def _put(self, array) -> int:
        number = next(self._ids)
        self.device[number] = array
        return number

    def _like(self, entry, strided=False) -> int:
        shape, dtype = self.traced.specs[entry]
        return self._put(np.full((*shape, 2), 7, dtype)[..., 0] if strided else np.full(shape, 7, dtype))

    def _target(self, number, boxes) -> int:
        arrival = self.cut.arrivals[number]
        if arrival.gradient is not None:
            return self.grads[Entry(arrival.gradient)]
        return boxes[self.placed.device[self.placed.copies[number]]][arrival.box]

    def _load(self, part, layouts) -> None:
        where, mine = self.placed.device, part.device
        arrays = Arrays(
            {v.node: i for v, i in self.of.items() if where[v.node] == mine},
            [self.outputs[i] for i in part.heads],
            {v.node: (req, self.grads[v]) for v, req in self._reqs.items() if where[v.node] == mine},
            [self.head_grads[i] for i in part.heads],
            frozenset(self.grads[v] for v in self._strided),
            {e: i for e, i in self.kept.items() if where[e.node] == mine},
            {n: i for n, i in self._targets.items() if where[self.placed.copies[n]] == mine},
        )
        self.compiled[mine] = compiled = lower(lay_out(part.traced) if layouts else part.traced, arrays)
        lookup = _OnlyMine(self, mine, arrays).__getitem__
        self._prepared[mine] = PreparedProgram(compiled.program, np, lookup, np.random.default_rng(3), arena_of_nan)

    def run(self, name, is_train=True) -> None:
        route = self.cut.routes[name]
        for number in route.opening:
            self._leave(number, name)
        for segment in route.segments:
            for number in segment.receives:
                self.device[self._targets[number]][...] = self._handles[number]
            if self.compiled[segment.device].program.phases.get(segment.phase):
                self._prepared[segment.device].run(segment.phase, is_train)
            for number in segment.sends:
                self._leave(number, name)

    def _leave(self, number, name) -> None:
        source = self.placed.copies[number].inputs[0]
        self._handles[number] = self._value(source, number).copy()

    def _value(self, source, number):
        if source in self.of:
            return self.device[self.of[source]]
        if source.node in self.traced.head_grads:
            return self.device[self.head_grads[self.traced.head_grads.index(source.node)]]
        device = self.placed.device[source.node]
        return self._prepared[device]._array(self.compiled[device].sent[number])

    def forward(self, is_train=True):
        self.run("forward", is_train)
        return [self.device[i] for i in self.outputs]

    def backward(self, head_grads=()):
        for number, value in zip(self.head_grads, head_grads, strict=False):
            if number is not None:
                self.device[number][...] = value
        self.run("backward")
        return {v: self.device[i] for v, i in self.grads.items()}


class _OnlyMine:
    """The arrays that a device may touch."""

    def __init__(self, spread: Spread, mine, arrays: Arrays):
        self._spread = spread
        self._known = {
            *arrays.variables.values(), *arrays.outputs, *(i for _, i in arrays.gradients.values()),
            *(i for i in arrays.head_grads if i), *arrays.kept.values(), *arrays.received.values(),
        }  # fmt: skip

    def __getitem__(self, number):
        assert number in self._known, f"array {number} is on another device"
        return self._spread.device[number]
