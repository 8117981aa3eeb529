"""The suffix tells the format, wherever the file lies."""

from __future__ import annotations

import numpy as np
import pytest

import raymx as mx
from raymx import arrayfile

ARRAYS = {"arg:fc_weight": np.ones((2, 3), "float32"), "aux:bn_moving_mean": np.zeros(4, "float32")}


@pytest.mark.parametrize("name", ["x.params", "x.safetensors", "x"])
def test_round_trip(tmp_path, name):
    arrayfile.write(tmp_path / name, ARRAYS)
    found = arrayfile.read(tmp_path / name)
    assert found.keys() == ARRAYS.keys()
    assert all((found[n] == a).all() and found[n].dtype == a.dtype for n, a in ARRAYS.items())


def test_the_suffix_tells_the_format(tmp_path):
    arrayfile.write(tmp_path / "x.params", ARRAYS)
    arrayfile.write(tmp_path / "x.safetensors", ARRAYS)
    assert (tmp_path / "x.params").read_bytes()[:2] == b"\x12\x01"
    assert b"arg:fc_weight" in (tmp_path / "x.safetensors").read_bytes()[:200]


def test_convert_there_and_back_gives_the_same_arrays():
    arrayfile.write("memory://convert/a.params", ARRAYS)
    assert arrayfile.convert("memory://convert/a.params", "memory://convert/b.safetensors") == 2
    assert arrayfile.convert("memory://convert/b.safetensors", "memory://convert/c.params") == 2
    assert arrayfile.read("memory://convert/c.params").keys() == ARRAYS.keys()


def test_ndarrays_are_saved_and_loaded_by_suffix(tmp_path):
    path = str(tmp_path / "x.safetensors")
    mx.nd.save(path, {"w": mx.nd.ones((2, 2)) * 3})
    assert mx.nd.load(path)["w"].asnumpy().tolist() == [[3, 3], [3, 3]]
    mx.nd.save(path, [mx.nd.ones((1,)), mx.nd.zeros((2,), dtype="int32")])
    first, second = mx.nd.load(path)
    assert (first.shape, second.dtype) == ((1,), np.int32)
