"""Pooled host memory: a freed block serves the next array of its size, so that a loop touches warm pages only."""

from __future__ import annotations

import math
import threading

import numpy as np

POOLED_NBYTES = 1 << 15  # smaller arrays are left to NumPy's and the C library's own caches
_ALIGNMENT = 64


class _Lease:
    """Owns a block while any array on it lives; then gives it back."""

    __slots__ = ("block", "pool", "__array_interface__")

    def __init__(self, block: np.ndarray, pool: Pool):
        self.block, self.pool = block, pool
        self.__array_interface__ = block.__array_interface__

    def __del__(self):
        self.pool.give_back(self.block)


class Pool:
    """Blocks of host memory. `empty` is called by one thread; blocks come back from any thread."""

    def __init__(self, limit_nbytes: int):
        self._limit = limit_nbytes
        self._free: dict[int, list[np.ndarray]] = {}  # block size → blocks that nobody uses
        self._free_nbytes = 0  # sum of their sizes, at most the limit
        self._lock = threading.RLock()  # an array may die while this thread is inside the pool

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An uninitialised C-contiguous array; aligned to 64 bytes when pooled."""
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < POOLED_NBYTES:
            return np.empty(shape, dtype)
        lease = _Lease(self._take(_size_class(nbytes)), self)
        return np.asarray(lease)[:nbytes].view(dtype).reshape(shape)

    def _take(self, size: int) -> np.ndarray:
        with self._lock:
            blocks = self._free.get(size)
            if blocks:
                self._free_nbytes -= size
                return blocks.pop()
        raw = np.empty(size + _ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % _ALIGNMENT
        return raw[start : start + size]

    def give_back(self, block: np.ndarray) -> None:
        """Keep a block for reuse, unless the pool is full."""
        with self._lock:
            if self._free_nbytes + block.size <= self._limit:
                self._free.setdefault(block.size, []).append(block)
                self._free_nbytes += block.size

    @property
    def free_nbytes(self) -> int:
        """Bytes kept for reuse."""
        return self._free_nbytes


def _size_class(nbytes: int) -> int:
    """`nbytes` rounded up to an eighth of its power of two: at most 12.5 % is wasted."""
    step = max(4096, 1 << (nbytes.bit_length() - 4))
    return -(-nbytes // step) * step
