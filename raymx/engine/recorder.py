"""Records tasks per device and decides when they are sent.

A lane is one device's stream: the open batch, what is under way, what failed. `push` costs about a microsecond; a batch
is sent when somebody waits, when a value leaves the device, when it is full, or when the device is idle.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from raymx import config, trace
from raymx.engine.segment import Failure, Report, Segment
from raymx.errors import DeviceTimeoutError, MXNetError, TaskError

PAYLOAD_NBYTES = 1 << 16  # a task that carries more host memory than this makes its batch due
BUSY_FACTOR = 4  # a device that is busy gets batches this much longer


class Ticket(Protocol):
    """A message under way."""

    exports: Sequence[Any]  # handles of the values that leave the device

    def done(self) -> bool:
        """Whether the device has answered."""

    def wait(self, timeout_s: float) -> bool:
        """Wait for the answer, at most so long; whether it is there. Raises DeviceError if the device is lost."""

    def report(self) -> Report:
        """The answer, once it is there."""


class Transport(Protocol):
    """The way to one device."""

    def send(self, number: int, segments: Sequence[Segment], exports: int) -> Ticket:
        """Start a message; returns at once."""

    def fetch(self, handle, timeout_s: float) -> Any:
        """The exported value of a handle. Raises TimeoutError when it is not there in time."""

    def close(self) -> None:
        """End the device."""


class _Sent(NamedTuple):
    number: int
    ticket: Ticket
    sources: list[list[Any]]  # per segment and task: where in the user's code it was pushed


_HERE = __file__.rsplit("engine", 1)[0]  # the package's folder


def caller():
    """Code object and instruction of the nearest caller outside this package: cheap now, a line number later."""
    frame = sys._getframe(2)
    while frame.f_code.co_filename.startswith(_HERE) and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


def line_of(source) -> str:
    """`file:line` of what `caller` returned."""
    code, instruction = source
    for start, stop, line in code.co_lines():
        if start <= instruction < stop and line:
            return f"{code.co_filename}:{line}"
    return f"{code.co_filename}:{code.co_firstlineno}"


class Lane:
    """One device's stream of tasks. Any thread may push."""

    def __init__(self, name: str, transport: Transport, engine):
        self.name = name
        self.failed: dict[tuple[int, tuple[int, int]], TaskError] = {}  # (message, position) → error with the user's line
        self._unraised: deque[TaskError] = deque()  # failures that nobody has been told of
        self._transport, self._engine = transport, engine
        self._lock = threading.RLock()
        self._open: list[tuple] = []  # (task, reads, writes, source), recorded and not yet in a segment
        self._closed: list[Segment] = []  # segments recorded and not yet sent
        self._closed_sources: list[list] = []
        self._freed: deque[tuple[int, int]] = deque()  # (id, variable) of arrays that nobody holds any more
        self._inflight: deque[_Sent] = deque()
        self._number = 0  # of the next message
        self._limit = config.get("batch_limit")
        self._bound = max(1, config.get("inflight_limit"))
        self._naive = config.get("engine") == "naive"
        self._debug = config.get("debug")
        self._lost: MXNetError | None = None

    def push(self, task, reads=(), writes=(), urgent: bool = False, nbytes: int = 0) -> None:
        """Record an opaque task that reads and writes these variables. `urgent` work is sent as soon as the device
        has nothing else; `nbytes` is host memory that the task carries. Raises DeviceLostError if the device is known to
        be gone."""
        with self._lock:
            batch = self._open
            batch.append((task, reads, writes, caller()))
            full = len(batch) % self._limit == 0
        if full or urgent or nbytes > PAYLOAD_NBYTES or self._naive or self._debug:
            self._pushed(task, full or nbytes > PAYLOAD_NBYTES, urgent)
        elif self._engine.asleep:
            self._engine.wake()

    def push_arrival(self, task, writes, awaits) -> None:
        """Record a task that runs when `awaits`, a value from another device, has arrived."""
        with self._lock:
            self._close_segment()
            self._closed.append(Segment([task], frozenset(), frozenset(writes), awaits))
            self._closed_sources.append([caller()])
        self._pushed(task, False, False)

    def push_exports(self, tasks: Sequence[Callable[[int], Any]], reads: Sequence[tuple]) -> Sequence[Any]:
        """Record tasks that copy values out of the device, `tasks[i](slot)` reading `reads[i]`, send everything, and
        return the handles of the values."""
        with self._lock:
            for slot, (task, read) in enumerate(zip(tasks, reads, strict=True)):
                self._open.append((task(slot), read, (), caller()))
            return self.send(exports=len(tasks)).exports

    def free(self, array: int, variable: int) -> None:
        """Nobody holds this id any more. Takes no lock, so that a destructor may call it anywhere."""
        self._freed.append((array, variable))

    def send(self, exports: int = 0) -> Ticket:
        """Send everything recorded; waits only while too much is under way."""
        with self._lock:
            if self._lost is not None:
                self._drop()
                raise self._lost
            self._bounded()
            freed = [self._freed.popleft() for _ in range(len(self._freed))]
            self._close_segment()
            if freed:
                ids, variables = zip(*freed, strict=True)
                self._closed.append(Segment([self.free_task(ids)], frozenset(), frozenset(variables)))
                self._closed_sources.append([None])
            segments, self._closed = self._closed, []
            sources, self._closed_sources = self._closed_sources, []
            number, self._number = self._number, self._number + 1
            try:
                ticket = self._transport.send(number, segments, exports)
            except MXNetError as error:
                self._lose(error)
                raise
            self._inflight.append(_Sent(number, ticket, sources))
            if self._debug:
                print(f"[raymx] {self.name} message {number}: {sum(len(s.tasks) for s in segments)} tasks in "
                      f"{len(segments)} segments, {len(self._inflight)} under way", file=sys.stderr)
            return ticket

    def flush_if_idle(self) -> bool:
        """Send what is recorded if the device has nothing to do; whether anything is still recorded here."""
        if not (self._open or self._closed or self._freed):
            return False
        with self._lock:
            self._harvest()
            if not self._inflight and self._lost is None:
                self.send()
        return bool(self._open or self._closed)

    def wait(self) -> None:
        """Send everything and wait until the device has done all of it."""
        with self._lock:
            if self._open or self._closed:
                self.send()
            while self._inflight:
                self._finish(self._inflight[0])

    def raise_failure(self) -> None:
        """Raise the first failure that was not raised yet, once."""
        if self._unraised:
            error = self._unraised[0]
            self._unraised.clear()
            raise error

    def explain(self, failure: Failure) -> MXNetError:
        """The error for a failure of one of this lane's tasks, with the line of the user's code; it counts as raised."""
        with self._lock:
            while self._inflight and self._inflight[0].number <= failure.message:
                self._finish(self._inflight[0])
        error = self.failed.get((failure.message, failure.position))
        if error is None:
            return self._lost or _error(failure, None)
        if error in self._unraised:
            self._unraised.remove(error)
        return error

    def fetch(self, handle):
        """The value behind a handle of `push_exports`. Raises DeviceTimeoutError, DeviceLostError."""
        limit = config.get("timeout_s") or float("inf")
        try:
            return self._transport.fetch(handle, limit)
        except TimeoutError:
            raise self._timeout(limit) from None
        except MXNetError as error:
            self._lose(error)
            raise

    @property
    def transport(self) -> Transport:
        return self._transport

    def close(self) -> None:
        """End the device; what was recorded and not sent is dropped."""
        with self._lock:
            self._drop()
            self._lost = self._lost or MXNetError(f"{self.name} was shut down; its arrays are gone.")
        self._transport.close()

    def free_task(self, ids) -> Any:
        """The task that frees array ids; what tasks are is the business of those who derive a lane."""
        raise NotImplementedError

    def abandon(self, error: MXNetError) -> None:
        """The device is out of reach for good: every later use raises `error`."""
        self._lock = threading.RLock()
        self._lose(error)

    # ---- inside ----

    def _pushed(self, task, full: bool, urgent: bool) -> None:
        if self._debug > 1:
            print(f"[raymx] {self.name} {task!r}"[:300], file=sys.stderr)
        if self._naive:
            self.wait()
            self.raise_failure()
        elif self._lost is not None:
            self._drop()
            raise self._lost
        elif urgent or full:
            self._send_if_due()
        elif self._engine.asleep:
            self._engine.wake()

    def _send_if_due(self) -> None:
        with self._lock:
            self._harvest()
            busy = len(self._inflight)
            if busy < 2 or len(self._open) >= self._limit * BUSY_FACTOR:
                self.send()

    def _close_segment(self) -> None:
        if not self._open:
            return
        batch, self._open = self._open, []
        tasks, reads, writes, sources = zip(*batch, strict=True)
        segment = Segment(list(tasks), frozenset().union(*reads), frozenset().union(*writes))
        self._closed.append(segment)
        self._closed_sources.append(list(sources))

    def _bounded(self) -> None:
        self._harvest()
        while len(self._inflight) >= self._bound:
            self._finish(self._inflight[0])

    def _harvest(self) -> None:
        while self._inflight and self._inflight[0].ticket.done():
            self._finish(self._inflight[0])

    def _finish(self, sent: _Sent) -> None:
        """Wait for a message and take its report in."""
        limit = config.get("timeout_s") or float("inf")
        try:
            if not sent.ticket.wait(limit):
                raise self._timeout(limit)
            report = sent.ticket.report()
        except MXNetError as error:
            if not isinstance(error, DeviceTimeoutError):
                self._lose(error)
            raise
        if self._inflight and self._inflight[0] is sent:
            self._inflight.popleft()
        if report.events:
            trace.record(self.name, report.events)
        for failure in report.failures:
            segment, task = failure.position
            error = _error(failure, sent.sources[segment][task])
            self.failed[failure.message, failure.position] = error
            self._unraised.append(error)

    def _timeout(self, limit: float) -> DeviceTimeoutError:
        return DeviceTimeoutError(
            f"{self.name} has not answered within {limit:g} s; raise the switch timeout_s (RAYMX_TIMEOUT_S) if its work "
            "takes longer."
        )

    def _lose(self, error: MXNetError) -> None:
        self._lost = error
        self._inflight.clear()
        self._drop()

    def _drop(self) -> None:
        self._open, self._closed, self._closed_sources = [], [], []
        self._freed.clear()


def _error(failure: Failure, source) -> MXNetError:
    where = f" (pushed at {line_of(source)})" if source else ""
    if failure.message < 0 and isinstance(failure.cause, MXNetError):
        return failure.cause
    error = TaskError(f"{failure.text}{where}.")
    error.__cause__ = failure.cause
    return error


class Flusher:
    """One thread that sends what lies recorded while its device is idle. Sleeps while nothing is pushed."""

    QUIET_ROUNDS = 50
    LONG_SLEEP_S = 0.25  # how late memory of freed arrays may come back when nothing else happens

    def __init__(self, lanes: Callable[[], Sequence[Lane]], period_s: float):
        self.asleep = True
        self._lanes, self._period_s = lanes, period_s
        self._bell = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Something was pushed."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="raymx flusher", daemon=True)
            self._thread.start()
        self.asleep = False
        self._bell.set()

    def _work(self) -> None:
        while True:
            self._bell.wait(self.LONG_SLEEP_S)
            self._bell.clear()
            quiet = 0
            while quiet < self.QUIET_ROUNDS:
                time.sleep(self._period_s)
                quiet = 0 if self._flush() else quiet + 1
            self.asleep = True
            self._flush()

    def _flush(self) -> bool:
        left = False
        for lane in self._lanes():
            try:
                left |= lane.flush_if_idle()
            except MXNetError:
                pass  # the lane remembers it; whoever uses the device next is told
        return left
