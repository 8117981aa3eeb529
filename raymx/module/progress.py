"""How far training is: noted with each step in a store of many workers, so that a worker that is started anew goes on.

What is noted as a step begins: its epoch, how many batches of it are done, and what lies on the worker's devices: the
auxiliary states and, where the network draws random numbers, their streams. The weights are the store's. As an epoch
begins, the worker tells where its data is: the order of the rows, if the iterator can say it, and `numpy.random`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from raymx import ndarray as nd


class Place(NamedTuple):
    """In which training on its store a worker is, and before which batch."""

    training: int
    epoch: int
    nbatch: int


class Progress:
    """One training's way through its epochs. `begin` is where it starts: at the first batch of `begin_epoch`, or, in a
    worker that was started anew, at the step that was under way.

    - store: a KVStore or None; nothing is noted unless it is distributed.
    - arrays, lanes: states that each step changes, and devices whose random streams count.
    """

    def __init__(self, begin_epoch: int, store, arrays: Sequence[nd.NDArray], lanes: Sequence):
        self._store: Any = store if hasattr(store, "note") else None
        self._arrays, self._lanes = arrays, lanes
        self.begin, self._noted = Place(0, begin_epoch, 0), False
        if self._store is not None:
            self._store.trainings += 1
            self.begin = Place(self._store.trainings, begin_epoch, 0)
            if self._store.progress is not None:
                self._go_on(*self._store.progress)

    def bring(self, data, begin_epoch: int, num_epoch: int, epoch_size: int | None, batches_of: Callable,
              saved) -> None:  # fmt: skip
        """Bring an iterator that is at the beginning of `begin_epoch` to where it was as the first epoch to train
        began: as was told then, as a `saved` state says, or over the epochs between."""
        epoch = self.begin.epoch
        position = self._told(epoch)
        if position is None and saved is not None and saved.epoch == epoch:
            position = saved.position()
        if position is None or not _takes(data, position):
            pass_over(data, min(epoch, num_epoch) - begin_epoch, epoch_size, batches_of)
        if position is not None:
            go_to(data, position)

    def start(self, epoch: int, data) -> None:
        """An epoch begins, or goes on; returns at once."""
        goes_on = self._noted and epoch == self.begin.epoch
        if self._store is not None and not goes_on:
            self._store.tell(self._topic(epoch), (self.begin.training, epoch, position(data)), wait=False)

    def note(self, epoch: int, nbatch: int) -> None:
        """The step of this batch begins; returns at once."""
        if self._store is not None:
            streams = [nd.HostValue(lane, lane.stream()) for lane in self._lanes]
            place = Place(self.begin.training, epoch, nbatch)
            self._store.note(tuple(place), _Noted(place, nd.fetch(self._arrays), streams))

    def _topic(self, epoch: int) -> str:
        return f"data:{self._store.rank}:{epoch % 2}"  # a worker may be lost between an epoch and the next one's note

    def _told(self, epoch: int) -> Mapping[str, np.ndarray] | None:
        told = self._store.told(self._topic(epoch)) if self._store is not None and self._store.restarted else None
        return None if told is None or told[:2] != (self.begin.training, epoch) else told[2]

    def _go_on(self, place: tuple, arrays: list, streams: list) -> None:
        noted = Place(*place)
        if noted.training < self.begin.training:
            return
        if noted.training > self.begin.training:  # this one was done before the worker was lost
            self.begin = self.begin._replace(epoch=_NEVER)
            return
        self.begin, self._noted = noted, True
        self._store.go_on()
        for array, value in zip(self._arrays, arrays, strict=True):
            array[:] = value
        for lane, value in zip(self._lanes, streams, strict=True):
            lane.seed(value)


_NEVER = 1 << 62  # an epoch after all others


class _Noted(NamedTuple):
    """What a note will hold, once it is on this side of the devices."""

    place: Place
    arrays: list[nd.HostValue]
    streams: list[nd.HostValue]

    def __call__(self) -> tuple:
        return tuple(self.place), [v.result() for v in self.arrays], [v.result() for v in self.streams]


def is_noted(store) -> bool:
    """Whether a note says where the next training on a store goes on, or that it is done."""
    return store.progress is not None and Place(*store.progress[0]).training > store.trainings


def position(data) -> dict[str, np.ndarray]:
    """Where an iterator is, if it can say so, and where `numpy.random` is, from which orders are drawn."""
    numbers = json.dumps(np.random.get_state(legacy=False), default=np.ndarray.tolist)
    arrays = data.position() if hasattr(data, "position") else {}
    return {"numpy": np.frombuffer(numbers.encode(), np.uint8), **{f"data:{name}": v for name, v in arrays.items()}}


def go_to(data, position: Mapping[str, np.ndarray]) -> None:
    """Bring an iterator, if it knows how, and `numpy.random` to where `position` was taken."""
    if _takes(data, position):
        data.go_to({name.removeprefix("data:"): v for name, v in position.items() if name.startswith("data:")})
    np.random.set_state(json.loads(position["numpy"].tobytes()))


def _takes(data, position: Mapping) -> bool:
    return hasattr(data, "go_to") and any(name.startswith("data:") for name in position)


def pass_over(data, epochs: int, epoch_size: int | None, batches_of: Callable) -> None:
    """Bring an iterator to where it is after so many epochs, orders that it draws at random included."""
    for _ in range(epochs):
        if epoch_size is not None:
            for _ in islice(batches_of(data, epoch_size), epoch_size):
                pass
        elif hasattr(data, "pass_over"):
            data.pass_over()
        else:
            data.reset()
