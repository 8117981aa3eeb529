"""Random numbers on any device: one seed, and draws that repeat on each device."""

from __future__ import annotations

from raymx import runtime
from raymx.context import Context
from raymx.ndarray import NDArray, checked_dtype, checked_shape, invoke
from raymx.ops.op import make


def seed(seed_state: int) -> None:
    """Start the stream of every device anew from this number, devices that start later included."""
    runtime.seed(int(seed_state))


def uniform(low=0.0, high=1.0, shape=None, ctx: Context | None = None, out: NDArray | None = None, dtype="float32"):
    """Draw from [low, high): a new array of `shape` (by default (1,)) on `ctx`, or into `out`."""
    return _draw("_random_uniform", shape, ctx, out, dtype, low=low, high=high)


def normal(loc=0.0, scale=1.0, shape=None, ctx: Context | None = None, out: NDArray | None = None, dtype="float32",
           **seed_era):  # fmt: skip
    """Draw from a normal distribution of mean `loc` and standard deviation `scale` (in old scripts `mean`, `stdvar`),
    otherwise as `uniform`."""
    loc, scale = seed_era.pop("mean", loc), seed_era.pop("stdvar", scale)
    if seed_era:
        raise TypeError(f"random.normal: unknown arguments {', '.join(seed_era)}.")
    return _draw("_random_normal", shape, ctx, out, dtype, loc=loc, scale=scale)


def _draw(name, shape, ctx, out, dtype, **params):
    if out is not None:
        shape, dtype = out.shape if shape is None else shape, out.dtype
    op = make(name, shape=checked_shape((1,) if shape is None else shape), dtype=checked_dtype(dtype), **params)
    return invoke(op, (), out, ctx)
