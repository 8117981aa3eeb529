"""Compiled graphs on plain NumPy arrays, for tests."""

from __future__ import annotations

import itertools

import numpy as np

from raymx.actors.program import PreparedProgram
from raymx.graph.compile import Arrays, Compiled, Spec, Traced, lower, trace
from raymx.graph.fuse import fuse
from raymx.graph.layout import lay_out
from raymx.graph.node import Entry


def arena_of_nan(shape, dtype):
    """Memory that shows whatever is read before it was written."""
    return np.full(shape, 0xFF, dtype)


class Bound:
    """A graph compiled over copies of `values` (variable → array); `reqs` tells which variables get gradients."""

    def __init__(
        self, heads, values: dict[Entry, np.ndarray], reqs=None, strided=(), keep=False, alias=None, layouts=False,
        fused=False, mode="none", simplify=None,
    ):  # fmt: skip
        reqs = reqs or {}
        self.heads, self._ids, self.device = heads, itertools.count(1), {}
        specs = {v.node: Spec(x.shape, x.dtype) for v, x in values.items()}
        self.traced: Traced = trace(heads, specs, [v.node for v in reqs], mode, fuse if fused else simplify)
        self.traced = lay_out(self.traced) if layouts else self.traced
        self.of = {v: self._put(x.copy()) for v, x in values.items()}
        self.outputs = [self._like(h) for h in self.traced.heads]
        self.grads = {v: self._like(v, strided=v in strided) for v in reqs}
        for v, other in (alias or {}).items():
            self.grads[v] = self.grads[other]
        self.head_grads = [g and self._like(Entry(g)) for g in self.traced.head_grads]
        made = [Entry(n, i) for n in self.traced.forward + self.traced.backward for i in range(len(n.output_names()))]
        self.kept = {e: self._like(e) for e in made} if keep else {}
        gradients = {v.node: (req, self.grads[v]) for v, req in reqs.items()}
        arrays = Arrays(
            {v.node: i for v, i in self.of.items()}, self.outputs, gradients, self.head_grads,
            frozenset(self.grads[v] for v in strided), self.kept,
        )  # fmt: skip
        self.compiled: Compiled = lower(self.traced, arrays)
        self.program = self.compiled.program
        rng = np.random.default_rng(3)
        self.prepared = PreparedProgram(self.program, np, self.device.__getitem__, rng, arena_of_nan)

    def _put(self, array: np.ndarray) -> int:
        number = next(self._ids)
        self.device[number] = array
        return number

    def _like(self, entry: Entry, strided: bool = False) -> int:
        shape, dtype = self.traced.specs[entry]
        if strided:
            return self._put(np.full((*shape, 2), 7, dtype)[..., 0])
        return self._put(np.full(shape, 7, dtype))

    def forward(self, is_train=True) -> list[np.ndarray]:
        self.prepared.run("forward", is_train)
        return [self.device[i] for i in self.outputs]

    def backward(self, head_grads=(), phase="backward") -> dict[Entry, np.ndarray]:
        for number, value in zip(self.head_grads, head_grads, strict=False):
            if number is not None:
                self.device[number][...] = value
        self.prepared.run(phase, True)
        return {v: self.device[i] for v, i in self.grads.items()}

    def steps(self, phase: str) -> list[str]:
        return [step.name for step in self.program.phases[phase]]

    def ops(self, phase: str) -> list[str]:
        return [step.op.name for step in self.program.phases[phase]]
