"""Random numbers. `rng` is the device's generator; tasks that draw from it run in order, so results repeat."""

from __future__ import annotations

import numpy as np

from raymx.errors import ParameterError
from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param


class RandomSource(Op):
    """out (`shape`, or the shape of a given `out`) of random numbers."""

    shape: Shape | None = param(None, doc="shape of the result; None = that of `out`")
    dtype: np.dtype = param(np.dtype("float32"), doc="element type of the result, a floating one")

    def setup(self):
        if self.dtype.kind != "f":
            raise ParameterError(f"{self.name}: dtype must be a floating type, got {self.dtype}.")

    def inputs(self):
        return ()

    def infer_shape(self, out=None):
        return {"out": self.shape}

    def infer_type(self, known):
        return {"out": known.get("out") or self.dtype}


@operator("_random_uniform", "_sample_uniform", "random_uniform", "uniform")
class RandomUniform(RandomSource):
    """out is uniform over [low, high)."""

    low: float = param(0.0, doc="lower bound")
    high: float = param(1.0, doc="upper bound")

    def forward(self, xp, *, out, rng):
        draw(xp, rng.random, self.high - self.low, self.low, out)


@operator("_random_normal", "_sample_normal", "random_normal", "normal")
class RandomNormal(RandomSource):
    """out is normal with mean `loc` and standard deviation `scale`."""

    loc: float = param(0.0, doc="mean")
    scale: float = param(1.0, doc="standard deviation", low=0)

    def forward(self, xp, *, out, rng):
        draw(xp, rng.standard_normal, self.scale, self.loc, out)


def draw(xp, sample, factor: float, summand: float, out) -> None:
    """out = sample * factor + summand, computed in the element type of `out` where that is a floating one."""
    fill(xp, sample, out)
    xp.multiply(out, factor, out=out)
    xp.add(out, summand, out=out)


def fill(xp, sample, out) -> None:
    """out = numbers of the generator's method `sample`, drawn as float64 if that is `out`'s type, else as float32."""
    dtype = "float64" if out.dtype.name == "float64" else "float32"
    if out.dtype.name == dtype and out.flags.c_contiguous:
        sample(out=out, dtype=dtype)
    else:
        xp.copyto(out, sample(out.shape, dtype=dtype), casting="unsafe")


def fill_mask(xp, rng, mask, p: float) -> None:
    """mask = 0 with probability `p`, else 1 / (1 - p); without a draw where `p` is 0."""
    if p == 0:
        mask.fill(1)
        return
    fill(xp, rng.random, mask)
    xp.greater_equal(mask, p, out=mask)
    xp.multiply(mask, 1 / (1 - p) if p < 1 else 0, out=mask)
