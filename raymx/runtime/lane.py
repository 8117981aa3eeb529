"""A device's lane in the words of device tasks: arrays, views, transfers, programs, random numbers.

The methods record and return at once. `array` is an id, `variable` the tag of the memory that it lies in.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from raymx.actors import device
from raymx.engine.recorder import Lane, Ticket
from raymx.engine.segment import Mail


class DeviceLane(Lane):
    """A lane whose tasks are those of `raymx.actors.device`. Operators are pushed directly: see there."""

    def __init__(self, name, transport, engine, at_once: bool | None = None):
        super().__init__(name, transport, engine, at_once)
        self.rng_var: int = engine.new_variable()  # orders whatever draws random numbers on this device
        self._sharers = 1

    @property
    def kernels(self) -> tuple[str, ...]:
        """The libraries of special kernels that the device has."""
        return self.transport.kernels  # type: ignore[attr-defined]

    @property
    def afar(self) -> bool:
        """Whether the device is in another process, where a message takes its time."""
        return self.transport.afar  # type: ignore[attr-defined]

    @property
    def address(self) -> str:
        """By which other devices send letters to this one; empty if they cannot."""
        return self.transport.address  # type: ignore[attr-defined]

    @property
    def layouts(self) -> tuple[str, ...]:
        """The layouts in which these are faster than in C order."""
        return self.transport.layouts  # type: ignore[attr-defined]

    def new_var(self) -> int:
        """A fresh tag for something on this device that must be ordered."""
        return self._engine.new_variable()

    # ---- arrays ----

    def new_array(self, array: int, shape, dtype) -> None:
        """An array with whatever its memory holds."""
        self.push((device.NEW, array, shape, dtype), (), (array,))

    def put(self, array: int, host) -> None:
        """A new array with the elements of a NumPy array, which nobody may change any more."""
        self.push((device.PUT, array, host), (), (array,), nbytes=host.nbytes)

    def view(self, array: int, storage: int, shape, strides, offset: int, dtype=None) -> None:
        """A window, in bytes, on the memory of another array; of its dtype if none is given."""
        what = (array, storage, shape, strides, offset)
        self.push((device.VIEW, *what) if dtype is None else (device.VIEW, *what, dtype), (), (storage,))

    def write(self, array: int, variable: int, host) -> None:
        """Copy a NumPy array, which nobody may change any more, into the array."""
        self.push((device.WRITE, array, host), (), (variable,), nbytes=host.nbytes)

    def gather(self, array: int, source: int, source_variable: int, index) -> None:
        """A new array becomes a copy of source[index]."""
        self.push((device.GATHER, array, source, index), (source_variable,), (array,))

    def scatter(self, array: int, variable: int, index, source: int, source_variable: int) -> None:
        """array[index] = source, broadcast and converted."""
        self.push((device.SCATTER, array, index, source), (source_variable,), (variable,))

    # ---- values that leave and arrive ----

    def export(self, arrays: Sequence[int], variables: Sequence[tuple[int]]) -> Sequence[Any]:
        """Handles of the values that the arrays have now."""
        return self.push_exports([partial(_export, a) for a in arrays], variables)

    def sync(self, array: int, variables: tuple[int]) -> Any:
        """A handle whose value is None, or the failure that the array holds, once earlier tasks are done."""
        return self.push_exports([lambda slot: (device.SYNC, array, slot)], [variables])[0]

    def arrive(self, array: int, variable: int, handle) -> None:
        """Write the value of another lane's handle into the array when it arrives."""
        self.push_arrival((device.IMPORT, array), (variable,), handle)

    def pack(self, parcels: Sequence[Sequence[tuple]], variables: Sequence[tuple], keep=None) -> Ticket:
        """Let lists of elements leave, each of the places (array, window) of one parcel: the message that they leave
        with. `keep(list)`, for a device of this process, makes of the elements in place what leaves."""
        more = () if keep is None else (keep,)
        return self.push_leaving([partial(_pack, tuple(places), more) for places in parcels], variables)

    def unpack(self, places: Sequence[tuple], variables: Sequence[int], handle) -> None:
        """Write values of a list, at the places (number in the list, array, window), when it arrives."""
        self.push_arrival((device.UNPACK, tuple(places)), variables, handle)

    # ---- letters: values that devices hand to each other ----

    def post(self, array: int, variables: tuple[int], parcels, number: int) -> None:
        """Send windows of the elements that the array has now: `parcels` are (start, stop, addresses). It goes before
        other work that may start at the same moment."""
        self.push_ahead((device.SEND, array, parcels, number), variables)

    def sum_letters(self, array: int, variable: int, source: int, source_variables: tuple[int], window, place: int,
                    mail: Mail) -> None:  # fmt: skip
        """array = the sum of what comes and of the source's elements in `window`, which take `place` in the order."""
        self.push_arrival((device.SUM, array, source, *window, place), (variable,), mail, source_variables, later=True)

    def fill_windows(self, array: int, variable: int, windows, sources, variables, mail: Mail) -> None:
        """Write each window (start, stop) of the elements: what comes, in order, or an array of `sources`, if it is not
        None there; `variables` are theirs."""
        self.push_arrival((device.FILL, array, windows, sources), (variable,), mail, variables, later=True)

    # ---- programs and random numbers ----

    def new_program(self, program) -> int:
        """Ship a program to the device; the number to run it by."""
        number = self.new_var()
        self.push((device.PROGRAM, number, program), (), (number,))
        return number

    def run_program(self, number: int, phase: str, is_train: bool, reads, writes, urgent: bool = True) -> None:
        """Run a phase, which reads and writes these variables."""
        self.push((device.RUN, number, phase, is_train), reads, writes, urgent=urgent)

    def drop_program(self, number: int) -> None:
        """Nobody will run this program again; never blocks."""
        self.free(number, number)

    def seed(self, place) -> None:
        """Start the device's random stream anew from a number, or go on where `stream` found it."""
        self.push((device.SEED, place), (), (self.rng_var,))

    def share_cores(self, sharers: int) -> None:
        """Let kernels use what is left where so many devices of one node divide its cores."""
        if sharers != self._sharers:
            self._sharers = sharers
            self.push((device.SHARE, sharers), (), (self.rng_var,))

    def stream(self) -> Any:
        """A handle whose value, bytes in an array, says where the random stream is now."""
        return self.push_exports([_stream], [(self.rng_var,)])[0]

    # ---- what the recorder asks ----

    def free_task(self, ids) -> tuple:
        return (device.FREE, *ids)

    def describe(self, task) -> str:
        return f"{device.describe(task)} {task[1:]!r}" if task[0].__class__ is int else repr(task)


def _stream(slot: int) -> tuple:
    return device.STREAM, slot


def _pack(places: tuple, more: tuple, slot: int) -> tuple:
    return device.PACK, places, slot, *more


def _export(array: int, slot: int) -> tuple:
    return device.EXPORT, array, slot
