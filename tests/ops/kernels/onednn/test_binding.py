"""oneDNN's library: loading it, describing arrays to it, and keeping alive what its primitives point to."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import threadpoolctl

from raymx.ops import backend
from raymx.ops.kernels.onednn import binding
from raymx.ops.layout import Blocked, laid_out

pytestmark = pytest.mark.skipif(not binding.load(), reason="oneDNN's library is not installed")


def _array(*shape):
    return np.arange(np.prod(shape), dtype="float32").reshape(shape)


def _relu(layout):
    return binding.primitive("eltwise_forward", binding.TRAIN, 32, layout, layout, 0.0, 0.0)


def test_equal_arrays_have_one_layout():
    assert binding.describe(_array(2, 3, 4)) is binding.describe(_array(2, 3, 4))
    assert not binding.describe(_array(2, 3, 4)).same(binding.describe(_array(2, 4, 3)))


def test_axes_of_size_1_do_not_tell_layouts_apart():
    """NumPy gives them any strides."""
    last = np.moveaxis(_array(2, 5, 5, 1), -1, 1)
    assert binding.describe(last) is binding.describe(_array(2, 1, 5, 5))


def test_blocks_are_described_as_the_channels_they_stand_for():
    blocked = laid_out(_array(2 * 32 * 3 * 3), (2, 32, 3, 3), "blocked")
    assert isinstance(blocked, Blocked)
    assert binding.describe(blocked).nbytes == blocked.nbytes
    plain = _array(2, 32, 3, 3)
    binding.reorder(binding.memory(plain), binding.memory(blocked))()
    np.testing.assert_array_equal(blocked[1, 0, 2, 1], plain[1, :16, 2, 1])


@pytest.mark.parametrize("array", [_array(4, 4)[:, ::2], _array(4, 4)[::-1], _array(2, 2).astype("float64")], ids=str)
def test_what_kernels_do_not_know_is_unsupported(array):
    with pytest.raises(binding.Unsupported):
        binding.describe(array)


def test_a_primitive_is_made_once_for_each_number_of_threads():
    layout = binding.describe(_array(8, 8))
    try:
        binding.use_threads(1)
        one = _relu(layout)
        assert _relu(layout) is one
        binding.use_threads(2)
        assert _relu(layout) is not one
    finally:
        backend.use_threads(0)


def test_what_there_is_no_kernel_for_is_unsupported():
    layout = binding.describe(_array(8, 8))
    with pytest.raises(binding.Unsupported, match=r"^eltwise_forward_primitive_desc_create: status \d$"):
        binding.primitive("eltwise_forward", binding.TRAIN, 1, layout, layout, 0.0, 0.0)


def test_a_call_keeps_its_memory_alive():
    source, target = _array(3, 4), np.empty((3, 4), "float32")
    arguments = {binding.SRC: binding.memory(source), binding.DST: binding.memory(target)}
    run = binding.call(_relu(binding.describe(source)), arguments)
    del arguments
    alive = weakref.ref(source)
    del source
    gc.collect()
    run()
    assert alive() is not None
    del run
    gc.collect()
    assert alive() is None


def test_a_call_that_fails_is_an_error():
    with pytest.raises(RuntimeError, match="dnnl_primitive_execute failed with status"):
        binding.call(_relu(binding.describe(_array(3, 4))), {})()


def test_numpys_blas_is_held_to_one_thread():
    blas = [lib for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas" and "numpy" in lib["filepath"]]
    assert [lib["num_threads"] for lib in blas] == [1]


def test_without_the_library_everything_is_left_to_numpy(monkeypatch, tmp_path):
    monkeypatch.setattr(binding, "PATH", str(tmp_path / "libdnnl.so.3"))
    assert not binding.load.__wrapped__()


def test_a_library_that_does_not_load_is_told(monkeypatch, tmp_path):
    path = tmp_path / "libdnnl.so.3"
    path.write_text("no library")
    monkeypatch.setattr(binding, "PATH", str(path))
    monkeypatch.setattr(binding, "library", binding.library.__wrapped__)
    with pytest.warns(UserWarning, match=r"^oneDNN is installed but cannot be loaded .*; is libgomp\.so\.1 missing\?$"):
        assert not binding.load.__wrapped__()
