from __future__ import annotations

import sys

import numpy as np
import pytest

from raymx import config
from raymx.errors import DeviceError
from raymx.ops import backend


def test_the_cpu_computes_with_numpy():
    assert backend.array_module("cpu") is np


def test_a_gpu_without_cupy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match=r"^a real GPU needs CuPy: install raymx\[gpu\], or set virtual_gpus"):
        backend.array_module("gpu")


def test_special_kernels_can_be_switched_off():
    with config.using(onednn=False):
        assert backend.active(np) == ()
    assert backend.active(sys) == ()  # some other array module
