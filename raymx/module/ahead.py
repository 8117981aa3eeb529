"""Several small batches in one message to each device in another process.

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
    """A batch that lies on the devices: `parts` has its arrays for each, `host_label` its labels in this process.
    `data` and `label` are the arrays on the device if there is one, else those that the iterator gave."""

    def __init__(self, trip: Trip, number: int, batch: DataBatch, parts: list[DataBatch],
                 host_label: list[np.ndarray]):  # fmt: skip
        whole = parts[0] if len(parts) == 1 else batch
        super().__init__(whole.data, whole.label, batch.pad, batch.index, batch.bucket_key)
        self.trip, self.number, self.parts, self.host_label = trip, number, parts, host_label

    def outputs(self) -> Returning:
        """The executors' outputs as they are now, on their way."""
        return self.trip.gather(self.number)


class Convoy:
    """Arrays on a group's devices for so many batches, and what sends them there."""

    def __init__(self, group, count: int):
        self.group, self.count = group, count
        self._descs = [*group.data_shapes, *group.label_shapes]
        self._data_count = len(group.data_shapes)
        # by input and device
        self._rows = [[_Rows(each.arg_dict[desc.name], count) for each in group.execs] for desc in self._descs]
        # by device and output
        self.outputs = [[_Rows(output, count) for output in each.outputs] for each in group.execs]

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
        if not isinstance(batch, DataBatch) or batch.provide_data is not None:
            return False
        arrays = [*batch.data, *(batch.label or ())]
        if len(batch.data) != self._data_count or len(arrays) not in (self._data_count, len(self._descs)):
            return False
        pairs = zip(arrays, self._descs, strict=False)
        return all(isinstance(x, (np.ndarray, NDArray)) and x.shape == d.shape and not _afar(x) for x, d in pairs)

    def _sent(self, chunk: list[tuple[DataBatch, list]]) -> Iterator[SentBatch]:
        if not chunk:
            return
        hosts = [[value.result() for value in values] for _, values in chunk]
        for desc, rows, values in zip(self._descs, self._rows, zip(*hosts, strict=True), strict=False):
            for k, each in enumerate(rows):
                each.fill([self.group.part_for(k, desc.name, value) for value in values])
        trip = Trip(self)
        for i, (batch, _) in enumerate(chunk):
            yield SentBatch(trip, i, batch, self._parts(i, len(hosts[i])), hosts[i][self._data_count :])
        trip.fetch()

    def _parts(self, i: int, count: int) -> list[DataBatch]:
        """The places of a batch that has so many arrays, for each device."""
        by_device = zip(*([each.views[i] for each in rows] for rows in self._rows[:count]), strict=True)
        return [DataBatch(list(x[: self._data_count]), list(x[self._data_count :])) for x in by_device]


class Trip:
    """The batches of one journey, and their outputs on the way back."""

    def __init__(self, convoy: Convoy):
        self._convoy, self.group = convoy, convoy.group
        self._gathered = self._fetched = 0  # batches whose outputs were copied aside, and fetched
        self._values: list[nd.HostValue] = []

    def gather(self, number: int) -> Returning:
        """Copy the outputs aside, as those of this batch."""
        for executor, rows in zip(self.group.execs, self._convoy.outputs, strict=True):
            nd.copy_all(executor.outputs, [each.views[number] for each in rows])
        self._gathered = number + 1
        return Returning(self, number)

    def fetch(self) -> None:
        """Send for everything that was gathered; before the next journey begins, at the latest."""
        if self._fetched < self._gathered:
            self._values = nd.fetch([each.array for rows in self._convoy.outputs for each in rows])
            self._fetched = self._gathered

    def outputs(self, number: int) -> list[np.ndarray]:
        """The outputs of a batch; waits for them."""
        if number >= self._fetched:
            self.fetch()
        return self.group.joined_on_host([value.result()[number] for value in self._values])


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
    if not all(context.lane.afar for context in group.contexts):
        return 1
    known = {desc.name for desc in group.inputs}
    if any(desc.name not in known for desc in (*group.data_shapes, *group.label_shapes)):
        return 1
    nbytes = 0
    for executor, context in zip(group.execs, group.contexts, strict=True):
        arrays = [executor.arg_dict[name] for name in known] + executor.outputs
        if any(array.context != context or not array.shape for array in arrays):
            return 1
        nbytes += sum(array.nbytes for array in arrays)
    return min(TOGETHER, TOGETHER_NBYTES // max(1, nbytes))


def _afar(array) -> bool:
    return isinstance(array, NDArray) and array._lane.afar
