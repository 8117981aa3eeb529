"""Array modules: what `xp` is on each kind of device, and which special kernels go with it."""

from __future__ import annotations

import numpy

from raymx import config
from raymx.errors import DeviceError


def array_module(kind: str):
    """`xp` for "numpy" or "cupy"; raises DeviceError when CuPy is not installed."""
    if kind == "numpy":
        return numpy
    try:
        import cupy
    except ImportError as error:
        raise DeviceError("a real GPU needs CuPy: install raymx[gpu], or set virtual_gpus to emulate GPUs.") from error
    return cupy


def active(xp) -> tuple[str, ...]:
    """The backends whose special kernels may run on `xp`'s arrays in this process, the best first."""
    if xp is numpy and config.get("onednn"):
        from raymx.ops.kernels import onednn

        return ("onednn",) if onednn.load() else ()
    return ()
