"""Records tasks per device and decides when they are sent.

A lane is one device's stream: the open batch, what is under way, what failed. `push` costs about a microsecond; a batch
is sent when somebody waits, when a value leaves the device, when it is full, or when the device is idle.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from raymx import config, trace
from raymx.engine.interrupt import uninterrupted
from raymx.engine.segment import Failure, Report, Segment
from raymx.errors import DeviceError, DeviceLostError, DeviceTimeoutError, MXNetError, TaskError

PAYLOAD_NBYTES = 1 << 16  # a task that carries more host memory than this makes its batch due
BUSY_FACTOR = 4  # a device that is busy gets batches this much longer …
BUSY_NBYTES = 1 << 26  # … but none that carries much more host memory than this …
BUSY_ARRIVALS = 16  # … or waits for many more values of other devices
FAILURES_KEPT = 1000  # of one lane: failures that were not raised, and user's lines of those that may be read


class Ticket(Protocol):
    """A message under way."""

    exports: Sequence[Any]  # handles of the values that leave the device

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback()`, from any thread, when the device has answered or never will."""

    def done(self) -> bool:
        """Whether the device has answered."""

    def wait(self, timeout_s: float) -> bool:
        """Wait for the answer, at most so long; whether it is there. Raises DeviceError if the device is lost."""

    def report(self) -> Report:
        """The answer, once it is there."""


class Transport(Protocol):
    """The way to one device."""

    def send(self, number: int, segments: Sequence[Segment], exports: int) -> Ticket:
        """Start a message; returns at once. Raises DeviceError if it cannot go: the device is then of no more use."""

    def fetch(self, handle, timeout_s: float) -> Any:
        """The exported value of a handle. Raises TimeoutError when it is not there in time, DeviceError."""

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


def _say(words: str) -> None:
    """A line for whoever debugs; in one piece, as several threads may talk."""
    sys.stderr.write(f"[raymx] {words}\n")


class Visit(threading.local):
    """Whether this thread runs the user's code on behalf of a device."""

    inside = 0


visit = Visit()


class Lane:
    """One device's stream of tasks. Any thread may push. The switches that concern a lane are read when it is made."""

    def __init__(self, name: str, transport: Transport, engine, at_once: bool | None = None):
        self.name = name
        self._at_home = at_once is None  # else it is a lane of the user's code that runs on a device
        self.failed: dict[_Place, Any] = {}  # the last failures: where → the user's line
        self._unraised: dict[_Place, tuple[Failure, Any]] = {}  # the first ones that nobody has been told of, likewise
        self._transport, self._engine = transport, engine
        self._lock = threading.RLock()
        self._open: list[tuple] = []  # (task, reads, writes, source), recorded and not yet in a segment
        self._closed: list[tuple[Segment, list]] = []  # segments recorded and not yet sent, with their tasks' sources
        self._payload_nbytes = 0  # host memory in both, large pieces only
        self._freed: deque[tuple[int, int]] = deque()  # (id, variable) of arrays that nobody holds any more
        self._inflight: deque[_Sent] = deque()
        self._number = 0  # of the next message
        self._sound = False  # whether no array held a failure when the device last answered
        self._limit = config.get("batch_limit")
        self._bound = max(1, config.get("inflight_limit"))
        self._naive = config.get("engine") == "naive" if at_once is None else at_once
        self._debug = config.get("debug")
        self._lost: MXNetError | None = None  # why nothing can be sent any more
        self._loss_untold = False  # whether nobody has been told of it
        self.noting_loss, self._telling_loss = _NotingLoss(self), _TellingLoss(self)

    # ---- recording ----

    def push(self, task, reads=(), writes=(), urgent: bool = False, nbytes: int = 0) -> None:
        """Record an opaque task that reads and writes these variables. `urgent` work is sent as soon as the device
        has nothing else; `nbytes` is host memory that the task carries. Raises DeviceLostError if the device is known
        to be gone."""
        with self._lock:
            batch = self._open
            batch.append((task, reads, writes, caller()))
            full = len(batch) % self._limit == 0
        if full or urgent or nbytes > PAYLOAD_NBYTES or self._naive or self._debug:
            self._pushed(task, full, urgent, nbytes)
        elif self._engine.asleep:
            self._engine.wake()

    def push_arrival(self, task, writes, awaits, reads=(), later: bool = False) -> None:
        """Record a task that runs when `awaits`, a value from another device, has arrived. It is sent at once to a
        device with nothing to do, unless it may go `later`, else with what follows."""
        self._push_alone(Segment([task], frozenset(reads), frozenset(writes), awaits))
        self._pushed(task, len(self._closed) >= BUSY_ARRIVALS and not later, urgent=not (self._inflight or later))

    def push_ahead(self, task, reads) -> None:
        """Record a task that runs before others that may start at the same moment. It is sent with what follows."""
        self._push_alone(Segment([task], frozenset(reads), frozenset(), ahead=True))
        self._pushed(task, full=False, urgent=False)

    def cut(self) -> None:
        """What is pushed next waits for its own reads and writes only, not for those of what was pushed before."""
        with self._lock, uninterrupted():
            self._close_segment()

    def _push_alone(self, segment: Segment) -> None:
        with self._lock, uninterrupted():
            self._close_segment()
            self._closed.append((segment, [caller()]))

    def push_exports(self, tasks: Sequence[Callable[[int], Any]], reads: Sequence[tuple]) -> Sequence[Any]:
        """Record tasks that copy values out of the device, `tasks[i](slot)` reading `reads[i]`, send everything, and
        return the handles of the values."""
        return self.push_leaving(tasks, reads).exports

    def push_leaving(self, tasks: Sequence[Callable[[int], Any]], reads: Sequence[tuple]) -> Ticket:
        """The same; the message with which the values leave."""
        self._refuse_visitors()
        with self._lock:
            for slot, (task, read) in enumerate(zip(tasks, reads, strict=True)):
                self._open.append((task(slot), read, (), caller()))
            return self.send(exports=len(tasks))

    def free(self, array: int, variable: int) -> None:
        """Nobody holds this id any more. Takes no lock, so that a destructor may call it anywhere."""
        self._freed.append((array, variable))

    # ---- sending ----

    def send(self, exports: int = 0) -> Ticket:
        """Send everything recorded; waits only while too much is under way. Raises DeviceLostError."""
        self._refuse_visitors()
        with self._lock:
            self._refuse_lost()
            self._bounded()
            with contextlib.nullcontext() if self._naive else uninterrupted():
                return self._send(exports)

    def send_if_due(self) -> None:
        """Send what is recorded, unless the device has enough to do: it then goes with more, or when that is done."""
        if self._open or self._closed:
            self._send_if_due(0)

    def flush(self) -> None:
        """Send everything recorded, if anything is. A loss is noted for `raise_failure`."""
        with self._lock, self.noting_loss:
            if self._open or self._closed:
                self.send()

    def flush_freed(self) -> None:
        """Send what was freed, if anything was."""
        if self._freed:
            self.send()

    def flush_if_idle(self) -> bool:
        """Send what is recorded if the device has nothing to do; whether anything is still recorded here. Never waits,
        neither for the device nor for a thread that uses the lane. A loss is noted for `raise_failure`."""
        if not (self._open or self._closed or self._freed) or self._naive:
            return False
        if not self._lock.acquire(blocking=False):
            return True
        try:
            with self.noting_loss:
                self._harvest()
                if self._lost is not None and not (self._open or self._closed):
                    self._freed.clear()
                elif not self._inflight:
                    self.send()
            return bool(self._open or self._closed)
        finally:
            self._lock.release()

    # ---- waiting ----

    def wait(self) -> None:
        """Send everything and wait until the device has done all of it; other threads may go on pushing. Raises
        DeviceLostError, DeviceTimeoutError."""
        self._refuse_visitors()
        with self._lock:
            if self._open or self._closed:
                self.send()
            last, pending = self._number, bool(self._inflight)
        while (sent := self._oldest(last)) is not None:
            self._wait_for(sent)
            with self._lock:
                if self._inflight and self._inflight[0] is sent:
                    self._finish(sent)
        if pending and self._lost is not None:  # another thread has noticed it
            raise self._told()

    def settled(self) -> bool:
        """Whether everything pushed so far is done, and no array holds a failure, as far as is known without asking the
        device."""
        self._refuse_visitors()
        with self._lock:
            self._let_go()
            return self._sound and self._lost is None and not (self._open or self._closed or self._inflight)

    def fetch(self, handle):
        """The value behind a handle of `push_exports`. Raises DeviceTimeoutError, DeviceLostError."""
        self._refuse_visitors()
        limit = config.get("timeout_s") or float("inf")
        try:
            with self._telling_loss:
                value = self._transport.fetch(handle, limit)
        except TimeoutError:
            raise self._timeout(limit) from None
        self._let_go()
        return value

    def raise_failure(self) -> None:
        """Raise the first failure that was not raised yet, once; the loss of the device is one."""
        with self._lock:
            if self._unraised:
                failure, source = next(iter(self._unraised.values()))
                self._unraised.clear()
                raise _error(failure, source)
            if self._loss_untold:
                raise self._told()

    def explain(self, failure: Failure) -> MXNetError:
        """The error for a failure of one of this lane's tasks, with the user's line; it counts as raised."""
        with self._lock:
            with self.noting_loss, contextlib.suppress(DeviceTimeoutError):
                while self._inflight and self._inflight[0].number <= failure.message:
                    self._finish_oldest()
            self._unraised.pop(_place(failure), None)
            return _error(failure, self.failed.get(_place(failure)))

    # ---- ending ----

    @property
    def transport(self) -> Transport:
        return self._transport

    def close(self) -> None:
        """End the device; what was recorded and not sent is dropped, and whoever waits is told."""
        if self._lost is None:
            self._lost = DeviceLostError(f"{self.name} was shut down; its arrays are gone.")
        self._transport.close()
        with self._lock:
            self._inflight.clear()
            self._drop()

    def abandon(self, error: MXNetError) -> None:
        """In a forked process: the device is the parent's, and every later use raises `error`. Whatever the lane holds
        is kept, for to let go of it might call threads that did not come along."""
        self._left_behind = self._inflight, self._open, self._closed
        self._lock, self._inflight = threading.RLock(), deque()
        self._lose(error)

    # ---- what those who derive a lane say about tasks ----

    def free_task(self, ids) -> Any:
        """The task that frees array ids."""
        raise NotImplementedError

    def describe(self, task) -> str:
        """A task in a few words, for RAYMX_DEBUG=2."""
        return repr(task)

    # ---- inside; under the lock ----

    def _pushed(self, task, full: bool, urgent: bool, nbytes: int = 0) -> None:
        if self._debug > 1:
            _say(f"{self.name} {self.describe(task)}"[:300])
        if self._naive:
            self.wait()
            self.raise_failure()
        elif self._lost is not None:
            self._refuse_lost()
        elif full or urgent or nbytes > PAYLOAD_NBYTES:
            self._send_if_due(nbytes)
        elif self._engine.asleep:
            self._engine.wake()

    def _send_if_due(self, nbytes: int) -> None:
        with self._lock:
            self._payload_nbytes += nbytes
            self._harvest()
            if len(self._inflight) < 2 or self._much_recorded():
                self.send()

    def _much_recorded(self) -> bool:
        return (
            len(self._open) >= self._limit * BUSY_FACTOR
            or len(self._closed) >= BUSY_ARRIVALS
            or self._payload_nbytes >= BUSY_NBYTES
        )

    def _send(self, exports: int) -> Ticket:
        self._close_segment()
        self._close_freed()
        message, self._closed, self._payload_nbytes = self._closed, [], 0
        segments, sources = [segment for segment, _ in message], [source for _, source in message]
        number, self._number = self._number, self._number + 1
        with self._telling_loss:
            ticket = self._transport.send(number, segments, exports)
        self._inflight.append(_Sent(number, ticket, sources))
        if self._debug:
            count = sum(len(s.tasks) for s in segments)
            _say(f"{self.name} message {number}: {count} tasks in {len(segments)} segments, "
                 f"{len(self._inflight)} under way")  # fmt: skip
        return ticket

    def _close_segment(self) -> None:
        if not self._open:
            return
        batch, self._open = self._open, []
        tasks, reads, writes, sources = zip(*batch, strict=True)
        segment = Segment(list(tasks), frozenset().union(*reads), frozenset().union(*writes))
        self._closed.append((segment, list(sources)))

    def _close_freed(self) -> None:
        freed = [self._freed.popleft() for _ in range(len(self._freed))]
        if freed:
            ids, variables = zip(*freed, strict=True)
            self._closed.append((Segment([self.free_task(ids)], frozenset(), frozenset(variables)), [None]))

    def _bounded(self) -> None:
        self._harvest()
        while len(self._inflight) >= self._bound:
            self._finish_oldest()

    def _harvest(self) -> None:
        while self._inflight and self._inflight[0].ticket.done():
            self._finish(self._inflight[0])

    def _let_go(self) -> None:
        """Forget answered messages, whose tickets may hold large values, unless another thread is at it."""
        if self._lock.acquire(blocking=False):
            try:
                with self.noting_loss:
                    self._harvest()
            finally:
                self._lock.release()

    def _oldest(self, last: int) -> _Sent | None:
        with self._lock:
            return self._inflight[0] if self._inflight and self._inflight[0].number < last else None

    def _wait_for(self, sent: _Sent) -> None:
        limit = config.get("timeout_s") or float("inf")
        with self._telling_loss:
            if not sent.ticket.wait(limit):
                raise self._timeout(limit)

    def _finish_oldest(self) -> None:
        sent = self._inflight[0]
        self._wait_for(sent)
        self._finish(sent)

    def _finish(self, sent: _Sent) -> None:
        """Take in the report of the oldest message, which is answered."""
        with self._telling_loss:
            report = sent.ticket.report()
        self._sound = report.sound
        if report.events:
            trace.record(self.name, report.events)
        for failure in report.failures:
            segment, task = failure.position
            self._note(failure, sent.sources[segment][task])
        self._inflight.popleft()

    def _note(self, failure: Failure, source) -> None:
        self.failed[_place(failure)] = source
        if len(self.failed) > FAILURES_KEPT:
            del self.failed[next(iter(self.failed))]
        if len(self._unraised) < FAILURES_KEPT:
            self._unraised[_place(failure)] = failure, source

    def _timeout(self, limit: float) -> DeviceTimeoutError:
        return DeviceTimeoutError(
            f"{self.name} has not answered within {limit:g} s; raise the switch timeout_s (RAYMX_TIMEOUT_S) if its "
            "work takes longer."
        )

    def _refuse_visitors(self) -> None:
        """Code that a device runs cannot wait for a device: it might be the same one."""
        if visit.inside and self._at_home:
            raise MXNetError(
                f"an array from outside (on {self.name}) cannot be used inside an operator that is written in Python; "
                "hand it in as an input, or make it in create_operator or forward."
            )

    def _refuse_lost(self) -> None:
        if self._lost is not None:
            self._drop()
            raise self._told() from self._lost.__cause__

    def _told(self) -> MXNetError:
        """The error for the loss of the device, of which the user is being told."""
        assert self._lost is not None
        self._loss_untold = False
        return again(self._lost)

    def _lose(self, error: MXNetError) -> None:
        self._lost = self._lost or again(error)
        self._inflight.clear()
        self._drop()

    def _drop(self) -> None:
        self._open, self._closed, self._payload_nbytes = [], [], 0
        self._freed.clear()


class _TellingLoss:
    """Inside, an error of the device as a whole is the loss of it, unless it is only late."""

    def __init__(self, lane: Lane):
        self._lane = lane

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, frames) -> bool | None:
        if isinstance(error, DeviceError) and not isinstance(error, DeviceTimeoutError):
            with self._lane._lock:
                self._lane._lose(error)
                raise self._lane._told() from error.__cause__
        return None


class _NotingLoss(_TellingLoss):
    """Inside, the loss of the device raises nothing, but is kept for the next `raise_failure`."""

    def __exit__(self, kind, error, frames) -> bool:
        noted = isinstance(error, MXNetError) and not isinstance(error, DeviceTimeoutError)
        noted = noted and self._lane._lost is not None
        self._lane._loss_untold |= noted
        return noted


_Place = tuple[int, tuple[int, int]]


def _place(failure: Failure) -> _Place:
    return failure.message, failure.position


def _error(failure: Failure, source) -> TaskError:
    error = TaskError(failure.text + (f" (pushed at {line_of(source)})." if source else "."))
    error.__cause__ = failure.cause
    return error


E = TypeVar("E", bound=MXNetError)


def again(error: E) -> E:
    """The same error as a new object: tracebacks of one that is kept would keep alive what every caller held."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__ and error.__cause__.with_traceback(None)
    return copy


class Flusher:
    """One thread that sends what lies recorded while its device is idle. Sleeps while nothing is pushed."""

    QUIET_ROUNDS = 50
    LONG_SLEEP_S = 0.25  # how late memory of freed arrays may come back when nothing else happens

    def __init__(self, lanes: Callable[[], Sequence[Lane]], period_s: float):
        self.asleep = True
        self._lanes, self._period_s = lanes, period_s
        self._bell = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Something was pushed."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="raymx flusher", daemon=True)
                self._thread.start()
        self.asleep = False
        self._bell.set()

    def _work(self) -> None:
        while True:
            if not self._bell.wait(self.LONG_SLEEP_S) and not self._flush():
                continue
            self._bell.clear()
            quiet = 0
            while quiet < self.QUIET_ROUNDS:
                time.sleep(self._period_s)
                quiet = 0 if self._flush() else quiet + 1
            self.asleep = True
            self._flush()

    def _flush(self) -> bool:
        left = [lane.flush_if_idle() for lane in self._lanes()]
        return any(left)
