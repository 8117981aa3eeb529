"""Several small batches in one message to a device in another process.

A message there costs as much as computing a small batch. So batches are taken from the iterator some way ahead, travel
together into arrays on the device, and are copied from there into the executor one by one; what a metric needs of their
outputs is gathered on the device and fetched together.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from raymx import ndarray as nd
from raymx.io.base import DataBatch
from raymx.ndarray import NDArray

TOGETHER = 32  # batches, at most …
TOGETHER_NBYTES = 1 << 23  # … and of no more bytes in and out of the device
PATIENCE_S = 0.02  # after which a slow iterator's batches are sent, however few they are


class SentBatch(DataBatch):
    """A batch whose arrays lie on the device; `host_label` are its labels in this process."""

    def __init__(self, trip: Trip, index: int, batch: DataBatch, data: list[NDArray], label: list[NDArray],
                 host_label: list[np.ndarray]):  # fmt: skip
        super().__init__(data, label, batch.pad, batch.index, batch.bucket_key)
        self.trip, self.number, self.host_label = trip, index, host_label

    def outputs(self) -> Any:
        """The executor's outputs as they are now, on their way: what `Trip.gather` returns."""
        return self.trip.gather(self.number)


class Convoy:
    """Arrays on a group's only device for so many batches, and what sends them there."""

    def __init__(self, group, count: int):
        executor = group.execs[0]
        self.executor, self.count = executor, count
        known = {desc.name: executor.arg_dict[desc.name] for desc in group.inputs}
        self._data = [known[desc.name] for desc in group.data_shapes]
        self._label = [known[desc.name] for desc in group.label_shapes]
        self._rows = [_Rows(target, count) for target in self._data + self._label]
        self.outputs = [_Rows(output, count) for output in executor.outputs]

    def __call__(self, batches: Iterable) -> Iterator[Any]:
        """The same batches in the same order, those that fit as SentBatch."""
        chunk: list[tuple[DataBatch, list]] = []
        began = 0.0
        for batch in batches:
            leaving = _leaving(batch) if self._fits(batch) else None
            if leaving is None or (chunk and len(leaving) != len(chunk[0][1])):
                yield from self._sent(chunk)
                chunk = []
            if leaving is None:
                yield batch
                continue
            began = began if chunk else time.monotonic()
            chunk.append((batch, leaving))
            if len(chunk) == self.count or time.monotonic() - began > PATIENCE_S:
                yield from self._sent(chunk)
                chunk = []
        yield from self._sent(chunk)

    def _fits(self, batch) -> bool:
        if isinstance(batch, list) or batch.provide_data is not None:
            return False
        labels = batch.label or ()
        if len(batch.data) != len(self._data) or len(labels) not in (0, len(self._label)):
            return False
        pairs = zip((*batch.data, *labels), self._data + self._label[: len(labels)], strict=True)
        return all(isinstance(x, (np.ndarray, NDArray)) and x.shape == t.shape and not _afar(x) for x, t in pairs)

    def _sent(self, chunk: list[tuple[DataBatch, list]]) -> Iterator[SentBatch]:
        if not chunk:
            return
        hosts = [[value.result() for value in values] for _, values in chunk]
        for rows, values in zip(self._rows, zip(*hosts, strict=True), strict=False):
            rows.fill(values)
        trip = Trip(self)
        for i, (batch, _) in enumerate(chunk):
            arrays = [rows.views[i] for rows in self._rows]
            data, label = arrays[: len(self._data)], arrays[len(self._data) : len(hosts[i])]
            yield SentBatch(trip, i, batch, data, label, hosts[i][len(self._data) :])
        trip.fetch()


class Trip:
    """The batches of one journey, and their outputs on the way back."""

    def __init__(self, convoy: Convoy):
        self._convoy = convoy
        self._gathered = self._fetched = 0  # batches whose outputs were copied aside, and fetched
        self._values: list[nd.HostValue] = []

    def gather(self, number: int) -> Returning:
        """Copy the outputs aside, as those of this batch."""
        rows = self._convoy.outputs
        nd.copy_all(self._convoy.executor.outputs, [each.views[number] for each in rows])
        self._gathered = number + 1
        return Returning(self, number)

    def fetch(self) -> None:
        """Send for everything that was gathered; before the next journey begins, at the latest."""
        if self._fetched < self._gathered:
            self._values = nd.fetch([rows.array for rows in self._convoy.outputs])
            self._fetched = self._gathered

    def outputs(self, number: int) -> list[np.ndarray]:
        """The outputs of a batch; waits for them."""
        if number >= self._fetched:
            self.fetch()
        return [value.result()[number] for value in self._values]


class Returning:
    """A batch's outputs."""

    __slots__ = ("_trip", "_number")

    def __init__(self, trip: Trip, number: int):
        self._trip, self._number = trip, number

    def result(self) -> list[np.ndarray]:
        return self._trip.outputs(self._number)


class _Rows:
    """An array on the device with a place for an array like `target` of each batch."""

    def __init__(self, target: NDArray, count: int):
        self.array = nd.zeros((count, *target.shape), target.context, target.dtype)
        self.views = [self.array[i : i + 1].reshape(target.shape) for i in range(count)]
        self._dtype = target.dtype

    def fill(self, values: Sequence[np.ndarray]) -> None:
        """Put these in the first places."""
        whole = np.stack(values).astype(self._dtype, copy=False)
        place = self.array if len(values) == len(self.views) else self.array[: len(values)]
        place._lane.write(place._id, place._var, whole)


def _leaving(batch) -> list[Any]:
    """The values of a batch's arrays as they are now: who gave them may change them for the next one."""
    arrays = [*batch.data, *(batch.label or ())]
    fetched = iter(nd.fetch([x for x in arrays if isinstance(x, NDArray)]))
    return [next(fetched) if isinstance(x, NDArray) else _Here(np.array(x)) for x in arrays]


class _Here(NamedTuple):
    """A value that is in this process."""

    value: np.ndarray

    def result(self) -> np.ndarray:
        return self.value


def together(group) -> int:
    """How many of a group's batches are worth sending at once; 1 = each by itself."""
    if len(group.contexts) != 1 or not group.contexts[0].lane.afar:
        return 1
    executor, known = group.execs[0], {desc.name for desc in group.inputs}
    if any(desc.name not in known for desc in (*group.data_shapes, *group.label_shapes)):
        return 1
    arrays = [executor.arg_dict[name] for name in known] + executor.outputs
    if any(array.context != group.contexts[0] or not array.shape for array in arrays):
        return 1
    return min(TOGETHER, TOGETHER_NBYTES // max(1, sum(array.nbytes for array in arrays)))


def _afar(array) -> bool:
    return isinstance(array, NDArray) and array._lane.afar
