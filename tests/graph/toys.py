"""Small operators with states, hidden outputs and several outputs; `registered` makes them known for one test."""

from __future__ import annotations

import contextlib

from raymx.ops.op import REGISTRY, Op, operator
from raymx.ops.params import param


class Norm(Op):
    """Has two states and two hidden outputs, as batch normalisation has."""

    eps: float = param(1e-3, doc="added to the variance")
    momentum: float = param(0.9)
    fix_gamma: bool = param(True)
    use_global_stats: bool = param(False)

    def inputs(self):
        return ("data", "gamma", "beta")

    def aux(self):
        return ("moving_mean", "moving_var")

    def outputs(self):
        return ("out", "mean", "var")

    def visible_outputs(self):
        return 1

    def infer_shape(self, data):
        per_channel = dict.fromkeys(("gamma", "beta", "moving_mean", "moving_var", "mean", "var"), (data[1],))
        return {"out": data, **per_channel}

    def forward(self, xp, data, gamma, beta, moving_mean, moving_var, *, out, mean, var):
        raise NotImplementedError


class Split(Op):
    """output0.. (N, D / num_outputs) of data (N, D)."""

    num_outputs: int = param(doc="how many", low=1)

    def outputs(self):
        return tuple(f"output{i}" for i in range(self.num_outputs))

    def infer_shape(self, data):
        if data[1] % self.num_outputs:
            raise ValueError(f"data's {data[1]} columns cannot be cut into {self.num_outputs} parts")
        return dict.fromkeys(self.outputs(), (data[0], data[1] // self.num_outputs))

    def forward(self, xp, data, *, output0, output1=None):
        raise NotImplementedError


@contextlib.contextmanager
def registered(**classes: type[Op]):
    """Know operators by these names inside the block; names that exist already stay as they are."""
    new = {name: cls for name, cls in classes.items() if name not in REGISTRY}
    for name, cls in new.items():
        operator(name)(type(cls.__name__, (cls,), {"__doc__": cls.__doc__}))
    try:
        yield
    finally:
        for name in new:
            del REGISTRY[name]
