"""How far training is: noted with each step in a store of many workers, so that a worker that is started anew goes on.

What is noted as a step begins: its epoch, how many batches of it are done, and what lies on the worker's devices: the
auxiliary states and, where the network draws random numbers, their streams. The weights are the store's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

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
        self.begin = Place(0, begin_epoch, 0)
        if self._store is not None:
            self._store.trainings += 1
            self.begin = Place(self._store.trainings, begin_epoch, 0)
            if self._store.progress is not None:
                self._go_on(*self._store.progress)

    def note(self, epoch: int, nbatch: int) -> None:
        """The step of this batch begins; returns at once."""
        if self._store is not None:
            streams = [nd.HostValue(lane, lane.stream()) for lane in self._lanes]
            place = Place(self.begin.training, epoch, nbatch)
            self._store.note(tuple(place), _Noted(place, nd.fetch(self._arrays), streams))

    def _go_on(self, place: tuple, arrays: list, streams: list) -> None:
        noted = Place(*place)
        if noted.training < self.begin.training:
            return
        if noted.training > self.begin.training:  # this one was done before the worker was lost
            self.begin = self.begin._replace(epoch=_NEVER)
            return
        self.begin = noted
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
