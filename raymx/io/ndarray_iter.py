"""Batches cut out of arrays in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raymx import ndarray as nd
from raymx.context import cpu
from raymx.errors import ParameterError, ShapeError, did_you_mean
from raymx.io.base import DataDesc, DataIter

_HANDLES = ("pad", "discard", "roll_over")


class NDArrayIter(DataIter):
    """Batches of `batch_size` rows of NumPy arrays or NDArrays.

    - data, label: one array, a list (names `_0_data`, `_1_data`, … from two on) or a dict by name (in order of names).
      All have the same number of rows. NumPy arrays become `dtype`, NDArrays keep their type. They are copied.
    - shuffle: a new order of rows in every epoch, drawn from `numpy.random`.
    - last_batch_handle: rows left at the end of an epoch are filled up from its start (`pad`), dropped (`discard`), or
      come first in the next epoch (`roll_over`; a reset in mid-epoch drops them).

    The batches' arrays are on cpu(0), views of one array that holds the epoch in order: taking a batch copies nothing.
    Raises ShapeError for arrays without rows or with different numbers of them, ParameterError for a batch size
    that no batch can have.
    """

    def __init__(self, data, label=None, batch_size=1, shuffle=False, last_batch_handle="pad",
                 data_name="data", label_name="softmax_label", dtype="float32"):  # fmt: skip
        super().__init__(int(batch_size))
        if last_batch_handle not in _HANDLES:
            raise ParameterError(f"NDArrayIter: last_batch_handle must be one of {', '.join(map(repr, _HANDLES))}, "
                                 f"got {last_batch_handle!r}{did_you_mean(str(last_batch_handle), _HANDLES)}.")
        self.shuffle, self.last_batch_handle = bool(shuffle), last_batch_handle
        sources = _named(data, data_name, "data"), _named(label, label_name, "label")
        self.num_data = _count_rows(*sources)
        self._check_batch_size()
        self._order = _NO_ROWS
        self._rest = _NO_ROWS  # rows of this epoch that wait for the next one
        self._held: list[list[nd.NDArray]] = []  # data and label of this epoch in order; empty = yet to be gathered
        self._batch = -1
        self._sources = [_owned(pairs, self._reorders, dtype) for pairs in sources]
        self.provide_data, self.provide_label = (self._describe(pairs) for pairs in self._sources)
        self.hard_reset()
        if not self._reorders:
            self._gather()
            self._sources = []

    @property
    def _reorders(self) -> bool:
        return self.shuffle or self.last_batch_handle == "roll_over"

    @property
    def num_batches(self) -> int:
        """Batches of this epoch."""
        return len(self._order) // self.batch_size

    def reset(self) -> None:
        self._begin(self._rest if self._batch >= self.num_batches else _NO_ROWS)

    def pass_over(self) -> None:
        self._begin(self._rest)

    def position(self) -> dict[str, np.ndarray]:
        """Where this iterator is, for `go_to` of one over the same arrays."""
        found = {"batch": np.array([self._batch])}
        if self._reorders:
            found |= {name: rows for name, rows in (("order", self._order), ("rest", self._rest)) if len(rows)}
        return found

    def go_to(self, position) -> None:
        """Go to where `position` was taken."""
        if self._reorders:
            self._order, self._rest = position.get("order", _NO_ROWS), position.get("rest", _NO_ROWS)
            self._held = []
        self._batch = int(position["batch"][0])

    def hard_reset(self) -> None:
        """As `reset`, forgetting rows that would roll over."""
        self._begin(_NO_ROWS)

    def iter_next(self) -> bool:
        self._batch = min(self._batch + 1, self.num_batches)
        return self._batch < self.num_batches

    def getdata(self) -> list[nd.NDArray]:
        return self._cut(0)

    def getlabel(self) -> list[nd.NDArray]:
        return self._cut(1)

    def getindex(self) -> np.ndarray:
        return self._order[self._rows()]

    def getpad(self) -> int:
        """Rows of the current batch that come from the epoch's start; rolled over rows are no padding."""
        last = self.last_batch_handle == "pad" and self._batch == self.num_batches - 1
        return len(self._order) - self.num_data if last else 0

    def _begin(self, rolled: np.ndarray) -> None:
        fresh = np.arange(self.num_data)
        if self.shuffle:
            np.random.shuffle(fresh)
        self._order, self._rest = _epoch(np.concatenate([rolled, fresh]), self.batch_size, self.last_batch_handle)
        self._batch = -1
        if self._reorders:
            self._held = []

    def _gather(self) -> None:
        whole = np.array_equal(self._order, np.arange(self.num_data))
        for pairs in self._sources:
            rows = (values if whole else values[self._order] for _, values in pairs)
            self._held.append([nd.array(values, cpu(), dtype=values.dtype) for values in rows])

    def _rows(self) -> slice:
        if not 0 <= self._batch < self.num_batches:
            raise ParameterError("NDArrayIter: there is no current batch; call iter_next() or next() first.")
        return slice(self._batch * self.batch_size, (self._batch + 1) * self.batch_size)

    def _cut(self, which: int) -> list[nd.NDArray]:
        if not self._held:
            self._gather()
        rows = self._rows()
        return [array[rows] for array in self._held[which]]

    def _describe(self, pairs) -> list[DataDesc]:
        return [DataDesc(name, (self.batch_size, *values.shape[1:]), values.dtype.type) for name, values in pairs]

    def _check_batch_size(self) -> None:
        if self.batch_size < 1:
            raise ParameterError(f"NDArrayIter: batch_size must be at least 1, got {self.batch_size}.")
        if self.last_batch_handle != "pad" and self.batch_size > self.num_data:
            raise ParameterError(f"NDArrayIter: batch_size {self.batch_size} is more than the {self.num_data} rows, "
                                 f"and {self.last_batch_handle!r} needs a whole batch; use a smaller one, or 'pad'.")


_NO_ROWS = np.arange(0)


def _epoch(rows: np.ndarray, batch_size: int, handle: str) -> tuple[np.ndarray, np.ndarray]:
    """`rows` as whole batches, and what is left for the next epoch."""
    if handle == "pad":
        return np.resize(rows, -(-len(rows) // batch_size) * batch_size), _NO_ROWS
    whole = len(rows) // batch_size * batch_size
    return rows[:whole], rows[whole:] if handle == "roll_over" else _NO_ROWS


def _named(arrays, default_name: str, role: str) -> list[tuple[str, Any]]:
    """[(name, array)] of what a user may give as data or label."""
    if arrays is None:
        arrays = []
    if isinstance(arrays, Mapping):
        pairs = sorted(arrays.items())
    elif isinstance(arrays, (list, tuple)):
        numbered = len(arrays) > 1
        pairs = [(f"_{i}_{default_name}" if numbered else default_name, array) for i, array in enumerate(arrays)]
    else:
        pairs = [(default_name, arrays)]
    for name, array in pairs:
        if not isinstance(array, (np.ndarray, nd.NDArray)):
            raise ParameterError(f"NDArrayIter: {role} {name!r} must be a NumPy array or an NDArray, or {role} a list "
                                 f"or dict of them, got {type(array).__name__}.")
    return pairs


def _owned(pairs, copy: bool, dtype) -> list[tuple[str, np.ndarray]]:
    """The arrays in NumPy, in the type that batches have; `copy` where the user's own would be read again later."""
    owned = []
    for name, array in pairs:
        if isinstance(array, nd.NDArray):
            owned.append((name, array.asnumpy()))
        else:
            owned.append((name, np.array(array, dtype, copy=True if copy else None)))
    return owned


def _count_rows(data, label) -> int:
    if not data:
        raise ShapeError("NDArrayIter: data is empty; give at least one array.")
    counts = {name: array.shape[0] if array.shape else 0 for name, array in data + label}
    first, rows = next(iter(counts.items()))
    for name, count in counts.items():
        if count == 0:
            raise ShapeError(f"NDArrayIter: {name!r} has no rows.")
        if count != rows:
            raise ShapeError(f"NDArrayIter: {first!r} has {rows} rows but {name!r} has {count}; they must agree.")
    return rows
