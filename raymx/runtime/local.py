"""`cpu(0)`: a device in this process, fed by one thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, NamedTuple

import numpy as np

from raymx import config, trace
from raymx.actors import transfer
from raymx.actors.device import DeviceRunner
from raymx.actors.host import DeviceHost
from raymx.engine.recorder import again
from raymx.engine.segment import EMPTY, Failure, Report, Segment, lost
from raymx.errors import DeviceError, DeviceTimeoutError
from raymx.ops import backend


class Promise:
    """One exported value of a message that runs in this process."""

    __slots__ = ("device", "answer", "slot")

    def __init__(self, device: str, answer: Future, slot: int):
        self.device, self.answer, self.slot = device, answer, slot

    def value(self, timeout_s: float) -> Any:
        """The value or Failure if it comes in time, else None."""
        try:
            error = self.answer.exception(timeout_s)
        except FutureTimeout:
            return None
        if error is not None:
            return lost(f"{self.device} ended before its value was copied ({_words(error)})")
        return self.answer.result()[1][self.slot]

    def subscribe(self, callback: Callable[[Any], None]) -> None:
        """Call `callback(value or Failure)` when the value is here, or never will be."""
        self.answer.add_done_callback(lambda _: callback(self.value(0)))


class Held(NamedTuple):
    """Values of a list that lies in the cluster's object store, for a device in another process, which reads it there.
    `told(error or None)` is called when it has or cannot."""

    ref: Any
    window: slice
    told: Callable[[BaseException | None], None]


class Arrival(Promise):
    """A value that comes from elsewhere: whoever has it calls `come`, again if the device could not read it."""

    __slots__ = ("_callback", "_come", "_lock")

    def __init__(self):
        self._callback: Callable[[Any], None] | None = None
        self._come: tuple[Any] | None = None
        self._lock = threading.Lock()

    def value(self, timeout_s: float) -> Any:
        """None: it is not waited for."""
        return None

    def subscribe(self, callback: Callable[[Any], None]) -> None:
        with self._lock:
            self._callback, come = callback, self._come
        if come is not None:
            callback(*come)

    def come(self, value: Any) -> None:
        """It is here: a value, Held, or a Failure."""
        with self._lock:
            self._come, callback = (value,), self._callback
        if callback is not None:
            callback(value)


class LocalTicket:
    """A message under way in this process."""

    __slots__ = ("device", "answer", "exports")

    def __init__(self, device: str, answer: Future, exports: int):
        self.device, self.answer = device, answer
        self.exports = [Promise(device, answer, slot) for slot in range(exports)]

    def subscribe(self, callback: Callable[[], None]) -> None:
        self.answer.add_done_callback(lambda _: callback())

    def done(self) -> bool:
        return self.answer.done()

    def wait(self, timeout_s: float) -> bool:
        try:
            self.answer.exception(_seconds(timeout_s))
            return True
        except FutureTimeout:
            return False

    def report(self) -> Report:
        return _answer(self.device, self.answer, None)[0]


def resolve(awaited, callback: Callable) -> None:
    """Values from device actors come as refs, those of this process as promises."""
    if isinstance(awaited, Promise):
        awaited.subscribe(callback)
    else:
        transfer.resolve(awaited, callback)


class LocalTransport:
    """The way to the device in this process."""

    afar = False
    address = ""  # no other process can call this one

    def __init__(self, name: str):
        self._host = DeviceHost(
            _runner(name), resolve, config.get("check"), lambda sharers: backend.use_threads(0, sharers)
        )

    @property
    def kernels(self) -> tuple[str, ...]:
        """The libraries of special kernels that this process has."""
        return backend.active(np)

    @property
    def layouts(self) -> tuple[str, ...]:
        """The layouts in which its kernels are faster than in C order."""
        return backend.layouts(np)

    def send(self, number: int, segments: Sequence[Segment], exports: int) -> LocalTicket:
        return LocalTicket(self._host.runner.name, self._host.submit(number, segments, exports), exports)

    def fetch(self, handle: Promise, timeout_s: float) -> Any:
        try:
            return _answer(handle.device, handle.answer, _seconds(timeout_s))[1][handle.slot]
        except FutureTimeout:
            raise TimeoutError from None

    def give_up(self, failure: Failure) -> None:
        """No value that is awaited from another device will come: it fails with this."""
        self._host.give_up(failure)

    def describe(self) -> dict[str, Any]:
        """Process id, and what the device holds."""
        return {"pid": os.getpid(), **self._host.describe()}

    def close(self) -> None:
        self._host.close()

    def halt(self) -> None:
        """The interpreter ends: no kernel may be running when libraries take themselves down."""
        self._host.halt()


class NaiveTransport(LocalTransport):
    """The engine `naive`: every task runs in the caller, and an error is raised where it happens."""

    def __init__(self, name: str):
        self._runner = _runner(name)

    def send(self, number: int, segments: Sequence[Segment], exports: int) -> LocalTicket:
        values: list = [None] * exports
        for index, segment in enumerate(segments):
            arrived = None if segment.awaits is None else self._arrived(segment.awaits)
            with np.errstate(all="ignore"):
                self._runner.run(segment.tasks, number, index, values, arrived, reraise=True)
        answer: Future = Future()
        answer.set_result((EMPTY, values))
        if self._runner.events:
            trace.record(self._runner.name, self._runner.events)
            self._runner.events = []
        return LocalTicket(self._runner.name, answer, exports)

    def _arrived(self, awaited) -> Any:
        value: Future = Future()
        resolve(awaited, value.set_result)
        timeout_s = config.get("timeout_s")
        try:
            return value.result(timeout_s or None)
        except FutureTimeout:
            raise DeviceTimeoutError(
                f"{self._runner.name}: a value of another device has not come within {timeout_s:g} s; raise the switch "
                "timeout_s (RAYMX_TIMEOUT_S) if the work takes longer."
            ) from None

    def give_up(self, failure: Failure) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "arrays": len(self._runner.arrays), "programs": len(self._runner.programs)}

    def close(self) -> None:
        pass

    def halt(self) -> None:
        pass


def connect(name: str) -> LocalTransport:
    """The transport of the device in this process."""
    backend.load()
    return NaiveTransport(name) if config.get("engine") == "naive" else LocalTransport(name)


def _runner(name: str) -> DeviceRunner:
    return DeviceRunner(name, np, config.get("pool_mb") << 20, trace.active())


def _answer(device: str, answer: Future, timeout_s: float | None):
    error = answer.exception(timeout_s)
    if error is None:
        return answer.result()
    if isinstance(error, DeviceError):
        raise again(error)
    raise stopped(device, error) from error.with_traceback(None)


def stopped(device: str, error: BaseException) -> DeviceError:
    """The error for a device that met something it cannot go on from."""
    return DeviceError(
        f"{device} stopped: {_words(error).rstrip('.')}. Its arrays are gone; raymx.runtime.restart(context) starts it "
        "anew."
    )


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _seconds(timeout_s: float) -> float | None:
    return None if timeout_s == float("inf") else timeout_s
