"""Feeds a DeviceRunner: takes messages in, orders their segments with the tracker, runs what may run on one thread.

The same class serves this process's `cpu(0)` and every device actor. A segment that awaits a value from another device
does not hold up later segments that have nothing to do with it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from raymx.actors.device import DeviceRunner
from raymx.engine.segment import EMPTY, Failure, Letter, Mail, Report, Segment
from raymx.engine.tracker import Tracker
from raymx.errors import DeviceLostError


class Message:
    """One message under way; `answer` gets `(Report, exported values)` when its last segment has run."""

    def __init__(self, number: int, segments: Sequence[Segment], exports: int):
        self.number, self.segments = number, segments
        self.remaining = len(segments)
        self.failures: list[Failure] = []
        self.exports: list = [None] * exports
        self.answer: Future = Future()


class _Job:
    """One segment: runs when the tracker grants it and, if it awaits values, when they have arrived."""

    __slots__ = ("message", "index", "missing", "arrived")

    def __init__(self, message: Message, index: int, awaits: int):
        self.message, self.index = message, index
        self.missing = 1 + awaits
        self.arrived: list[Any] = [None] * awaits


class DeviceHost:
    """`resolve(ref, callback)` calls `callback(value or Failure)` once, from any thread, when the value is here;
    `use_threads(sharers)` lets kernels of the calling thread use the cores that so many devices divide."""

    def __init__(self, runner: DeviceRunner, resolve: Callable, check: bool = False,
                 use_threads: Callable[[int], None] | None = None):  # fmt: skip
        self.runner = runner
        self._resolve = resolve
        self._tracker = Tracker(check)
        self._lock = threading.Lock()  # guards the tracker, the jobs' counts and what follows
        self._next = 0  # number of the message that is taken in next
        self._messages: dict[int, Message] = {}  # not answered yet
        self._early: dict[int, Message] = {}  # of these, the ones that overtook an earlier one
        self._awaiting: set[tuple[_Job, int]] = set()  # whose value, of those that a job awaits, has not arrived
        self._delivered: dict[int | Letter, object] = {}  # token → value that came before its message
        self._expected: dict[int | Letter, Callable] = {}  # token → whom to tell
        self._silent: dict[str, Failure] = {}  # senders of whom no letter will come any more, and why
        self.farewell: Callable[[BaseException], None] | None = None  # is told when nothing runs any more
        self._broken: BaseException | None = None  # why nothing runs any more
        self._ready: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._starting = use_threads is not None
        if use_threads is not None:
            runner.use_threads = use_threads
        self._thread = threading.Thread(target=self._work, name=f"raymx {runner.name}", daemon=True)
        self._thread.start()

    def submit(self, number: int, segments: Sequence[Segment], exports: int = 0) -> Future:
        """Take message `number` in; messages run as if they had come in order. Returns at once."""
        message = Message(number, segments, exports)
        try:
            for place, awaited in self._enter(message):
                self._await(awaited, lambda value, place=place: self._arrive(place, value))
        except Exception as error:  # as in `_try`
            self.fail(error)
        return message.answer

    def deliver(self, token: int | Letter, value) -> None:
        """A value that a segment awaits by token is here."""
        with self._lock:
            callback = self._expected.pop(token, None)
            wanted = isinstance(token, int) or token.sender not in self._silent
            if callback is None and self._broken is None and wanted:
                self._delivered[token] = value
        if callback is not None:
            callback(value)

    def expect_nothing_of(self, sender: str, failure: Failure) -> None:
        """No letter of this device will come any more: what awaits one, now or later, fails with this."""
        with self._lock:
            self._silent[sender] = failure
            tokens = [t for t in self._expected if isinstance(t, Letter) and t.sender == sender]
            callbacks = [self._expected.pop(token) for token in tokens]
        for callback in callbacks:
            callback(failure)

    def expect_letters_of(self, senders) -> None:
        """These devices have begun, perhaps anew."""
        with self._lock:
            for sender in senders:
                self._silent.pop(sender, None)

    def give_up(self, failure: Failure) -> None:
        """Nothing that is awaited now will come: it fails with this."""
        with self._lock:
            places = list(self._awaiting)
        for place in places:
            self._arrive(place, failure)

    def fail(self, error: BaseException) -> None:
        """Nothing runs any more: who waits for an answer, now or later, gets `error`."""
        with self._lock:
            first = self._broken is None
            if self._broken is None:
                self._broken = error
            messages = list(self._messages.values())
            for state in (self._messages, self._early, self._awaiting, self._delivered, self._expected):
                state.clear()
        for message in messages:
            message.answer.set_exception(error)
        if first and self.farewell is not None:
            self.farewell(error)

    def close(self) -> None:
        """End the thread after the task that it is at; what has not run never will, and whoever waits is told."""
        self.fail(DeviceLostError(f"{self.runner.name} was shut down; its arrays are gone."))
        self.halt()

    def halt(self) -> None:
        """End the thread after the task that it is at, and tell nobody: the interpreter ends."""
        if self._broken is None:
            self._broken = DeviceLostError(f"{self.runner.name} has ended with the interpreter.")
        self.runner.abandon()
        self._ready.put(None)
        self._thread.join(timeout=5)

    def describe(self) -> dict[str, int]:
        """How many arrays and programs the device holds, and how many messages are not answered."""
        return {
            "arrays": len(self.runner.arrays),
            "programs": len(self.runner.programs),
            "messages": len(self._messages),
        }

    def _enter(self, message: Message) -> list[tuple[tuple[_Job, int], Any]]:
        """Take in this message and those that came before their turn; the places in jobs that await a value, and
        which."""
        waiting: list[tuple[tuple[_Job, int], Any]] = []
        with self._lock:
            if self._broken is not None:
                message.answer.set_exception(self._broken)
                return waiting
            self._messages[message.number] = self._early[message.number] = message
            while self._next in self._early:
                waiting += self._take_in(self._early.pop(self._next))
                self._next += 1
        return waiting

    def _take_in(self, message: Message) -> list[tuple[tuple[_Job, int], Any]]:
        waiting: list[tuple[tuple[_Job, int], Any]] = []
        if not message.segments:
            self._messages.pop(message.number)
            message.answer.set_result((EMPTY, message.exports))
        for index, segment in enumerate(message.segments):
            awaited = _each(segment.awaits)
            job = _Job(message, index, len(awaited))
            if awaited:
                places = [(job, i) for i in range(len(awaited))]
                self._awaiting.update(places)
                waiting += zip(places, awaited, strict=True)
            if self._tracker.add(job, segment.reads, segment.writes):
                self._grant(job)
        return waiting

    def _grant(self, job: _Job) -> None:
        job.missing -= 1
        if job.missing == 0:
            self._ready.put(job)

    def _await(self, awaits, callback) -> None:
        if not isinstance(awaits, (int, Letter)):
            self._resolve(awaits, callback)
            return
        with self._lock:
            if awaits in self._delivered:
                value = self._delivered.pop(awaits)
            elif isinstance(awaits, Letter) and awaits.sender in self._silent:
                value = self._silent[awaits.sender]
            else:
                self._expected[awaits] = callback
                return
        callback(value)

    def _arrive(self, place: tuple[_Job, int], value) -> None:
        with self._lock:
            if place in self._awaiting:  # else it was given up before
                self._awaiting.remove(place)
                job, index = place
                job.arrived[index] = value
                self._grant(job)

    def _work(self) -> None:
        with np.errstate(all="ignore"):
            while (job := self._ready.get()) is not None:
                if self._broken is None:
                    self._try(job)
                del job

    def _try(self, job: _Job) -> None:
        try:
            if self._starting:
                self.runner.use_threads(1)
                self._starting = False
            self._run(job)
        except BaseException as error:  # a fault of raymx itself: whoever waits must hear of it
            self.fail(error)

    def _run(self, job: _Job) -> None:
        message = job.message
        segment = message.segments[job.index]
        tasks = segment.tasks
        came, job.arrived = job.arrived, []  # who told of the values may hold the job for long
        arrived = came if isinstance(segment.awaits, Mail) else came[0] if came else None
        del came
        message.failures += self.runner.run(tasks, message.number, job.index, message.exports, arrived)
        with self._lock:
            for granted in sorted(self._tracker.done(job), key=_turn):
                self._grant(granted)  # type: ignore[arg-type]
            message.remaining -= 1
            done = message.remaining == 0 and self._messages.pop(message.number, None) is not None
        if done:
            events, self.runner.events = self.runner.events, []
            message.answer.set_result((Report(message.failures, events, not self.runner.failed), message.exports))


def _turn(job) -> bool:
    """In which order jobs that may start now are taken."""
    return not job.message.segments[job.index].ahead


def _each(awaits) -> list[Any]:
    """What a segment awaits, value by value."""
    if awaits is None:
        return []
    if isinstance(awaits, Mail):
        return [Letter(sender, awaits.number) for sender in awaits.senders]
    return [awaits]
