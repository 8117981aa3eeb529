"""Array modules: what `xp` is on each kind of device, and which special kernels go with it."""

from __future__ import annotations

import os

import numpy

from raymx import config
from raymx.errors import DeviceError
from raymx.ops.layout import BLOCKED, NHWC


def array_module(kind: str):
    """`xp` for a device of kind "cpu" (numpy) or "gpu" (cupy); raises DeviceError when CuPy is not installed."""
    if kind == "cpu":
        return numpy
    try:
        import cupy
    except ImportError as error:
        raise DeviceError("a real GPU needs CuPy: install raymx[gpu], or set virtual_gpus to emulate GPUs.") from error
    return cupy


def special(xp):
    """The special functions (`erf`, `gamma`, …) for `xp`'s arrays, loaded when they are first used."""
    if xp is numpy:
        import scipy.special

        return scipy.special
    import cupyx.scipy.special

    return cupyx.scipy.special


def active(xp) -> tuple[str, ...]:
    """The backends whose special kernels may run on `xp`'s arrays in this process, the best first."""
    if xp is numpy and config.get("onednn"):
        from raymx.ops.kernels import onednn

        return ("onednn",) if onednn.load() else ()
    return ()


def layouts(xp) -> tuple[str, ...]:
    """The layouts of `ops/layout.py` in which the special kernels here are faster than in C order."""
    if "onednn" not in active(xp):
        return ()
    from raymx.ops.kernels import onednn

    return (BLOCKED, NHWC) if onednn.has_avx512() else (NHWC,)


def load() -> None:
    """Load what NumPy's kernels need. Done before a device's thread starts: a process that is forked in the middle of
    an import has half a module."""
    import threadpoolctl  # noqa: F401

    active(numpy)


def use_threads(n: int, sharers: int = 1) -> None:
    """Let kernels that the calling thread starts use `n` threads; 0 = OMP_NUM_THREADS, or one for each core that this
    process may use, divided by `sharers`."""
    from raymx.ops.kernels import onednn

    n = n or _default_threads(sharers)
    if "onednn" in active(numpy):
        onednn.use_threads(n)
    else:
        limit_blas(n)


def limit_blas(n: int) -> None:
    """Let NumPy's BLAS use `n` threads in this process."""
    import threadpoolctl

    threadpoolctl.threadpool_limits(n, user_api="blas")


def _default_threads(sharers: int) -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // sharers)
