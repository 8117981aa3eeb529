"""The pool: blocks come back when the last view dies, never earlier."""

import numpy as np

from raymx.actors.memory import POOLED_NBYTES, Pool

F32 = np.dtype("float32")
N = POOLED_NBYTES


def test_a_block_is_reused_after_its_last_view():
    pool = Pool(1 << 24)
    first = pool.empty((N,), F32)
    address = first.ctypes.data
    view = first[10:20]
    del first
    assert pool.free_nbytes == 0, "a view still lives on the block"
    other = pool.empty((N,), F32)
    assert other.ctypes.data != address
    del view
    assert pool.free_nbytes >= N * 4
    assert pool.empty((N,), F32).ctypes.data == address


def test_shape_dtype_alignment():
    pool = Pool(1 << 24)
    array = pool.empty((3, N), np.dtype("float64"))
    assert array.shape == (3, N) and array.dtype == np.float64
    assert array.flags.c_contiguous and array.flags.writeable
    assert array.ctypes.data % 64 == 0
    array[:] = 1
    assert array.sum() == 3 * N


def test_a_full_pool_keeps_no_more():
    pool = Pool(N * 5)
    arrays = [pool.empty((N,), F32) for _ in range(3)]
    del arrays
    assert N * 4 <= pool.free_nbytes <= N * 5


def test_small_arrays_are_not_pooled():
    pool = Pool(1 << 24)
    array = pool.empty((4,), F32)
    del array
    assert pool.free_nbytes == 0
