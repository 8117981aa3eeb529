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
from raymx.engine.segment import EMPTY, Failure, Report, Segment
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
    """One segment: runs when the tracker grants it and, if it awaits a value, when that has arrived."""

    __slots__ = ("message", "index", "missing", "arrived")

    def __init__(self, message: Message, index: int, awaits: bool):
        self.message, self.index = message, index
        self.missing = 1 + awaits
        self.arrived = None


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
        self._awaiting: set[_Job] = set()  # whose value has not arrived
        self._delivered: dict[int, object] = {}  # token → value that came before its message
        self._expected: dict[int, Callable] = {}  # token → whom to tell
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
            for job, awaits in self._enter(message):
                self._await(awaits, lambda value, job=job: self._arrive(job, value))
        except Exception as error:  # as in `_try`
            self.fail(error)
        return message.answer

    def deliver(self, token: int, value) -> None:
        """A value that a segment awaits by token is here."""
        with self._lock:
            callback = self._expected.pop(token, None)
            if callback is None and self._broken is None:
                self._delivered[token] = value
        if callback is not None:
            callback(value)

    def give_up(self, failure: Failure) -> None:
        """Nothing that is awaited now will come: it fails with this."""
        with self._lock:
            jobs = list(self._awaiting)
        for job in jobs:
            self._arrive(job, failure)

    def fail(self, error: BaseException) -> None:
        """Nothing runs any more: who waits for an answer, now or later, gets `error`."""
        with self._lock:
            if self._broken is None:
                self._broken = error
            messages = list(self._messages.values())
            for state in (self._messages, self._early, self._awaiting, self._delivered, self._expected):
                state.clear()
        for message in messages:
            message.answer.set_exception(error)

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

    def _enter(self, message: Message) -> list[tuple[_Job, Any]]:
        """Take in this message and those that came before their turn; the jobs that await a value, and which."""
        waiting: list[tuple[_Job, Any]] = []
        with self._lock:
            if self._broken is not None:
                message.answer.set_exception(self._broken)
                return waiting
            self._messages[message.number] = self._early[message.number] = message
            while self._next in self._early:
                waiting += self._take_in(self._early.pop(self._next))
                self._next += 1
        return waiting

    def _take_in(self, message: Message) -> list[tuple[_Job, Any]]:
        waiting = []
        if not message.segments:
            self._messages.pop(message.number)
            message.answer.set_result((EMPTY, message.exports))
        for index, segment in enumerate(message.segments):
            job = _Job(message, index, segment.awaits is not None)
            if segment.awaits is not None:
                self._awaiting.add(job)
                waiting.append((job, segment.awaits))
            if self._tracker.add(job, segment.reads, segment.writes):
                self._grant(job)
        return waiting

    def _grant(self, job: _Job) -> None:
        job.missing -= 1
        if job.missing == 0:
            self._ready.put(job)

    def _await(self, awaits, callback) -> None:
        if not isinstance(awaits, int):
            self._resolve(awaits, callback)
            return
        with self._lock:
            if awaits not in self._delivered:
                self._expected[awaits] = callback
                return
            value = self._delivered.pop(awaits)
        callback(value)

    def _arrive(self, job: _Job, value) -> None:
        with self._lock:
            if job in self._awaiting:  # else it was given up before
                self._awaiting.remove(job)
                job.arrived = value
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
        tasks = message.segments[job.index].tasks
        arrived, job.arrived = job.arrived, None  # who told of the value may hold the job for long
        message.failures += self.runner.run(tasks, message.number, job.index, message.exports, arrived)
        with self._lock:
            for granted in self._tracker.done(job):
                self._grant(granted)  # type: ignore[arg-type]
            message.remaining -= 1
            done = message.remaining == 0 and self._messages.pop(message.number, None) is not None
        if done:
            events, self.runner.events = self.runner.events, []
            message.answer.set_result((Report(message.failures, events), message.exports))
