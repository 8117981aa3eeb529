"""What travels from the recorder to a device: segments of tasks, the unit that the tracker orders."""

from __future__ import annotations

from typing import Any, NamedTuple

from raymx.errors import DeviceLostError


class Letter(NamedTuple):
    """A value that one device hands to another: who sends it, and the number that both know it by."""

    sender: str  # its address
    number: int


class Mail(NamedTuple):
    """A letter from each of several devices, under one number."""

    senders: tuple[str, ...]
    number: int


class Segment(NamedTuple):
    """Tasks that run in order, with the union of what they read and write.

    `awaits` is None, or what has to arrive from another device before the only task of the segment can run; Mail is
    several values, from several devices. `ahead` ones run before others that may start at the same moment.
    """

    tasks: list[Any]
    reads: frozenset[int]
    writes: frozenset[int]
    awaits: Any = None
    ahead: bool = False


class Failure(NamedTuple):
    """A task that failed on its device. It stands in the place of every array that the task would have written and
    travels with their values; `device`, `message` and `position` find the user's line on the recorder's side."""

    device: str
    message: int  # number of the message on its device
    position: tuple[int, int]  # segment in the message, task in the segment
    text: str  # operator, shapes and cause in words
    cause: BaseException | None


def lost(words: str) -> Failure:
    """What stands in the place of a value that will never come. No task failed: `message` is -1."""
    return Failure("", -1, (0, 0), words, DeviceLostError(f"{words}."))


class Report(NamedTuple):
    """A device's answer to one message."""

    failures: list[Failure]
    events: list[tuple[str, int, int]]  # (task, start, end) for the trace
    sound: bool = False  # whether it is known that no array of the device holds a failure


EMPTY = Report([], [])
