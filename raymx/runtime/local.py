"""`cpu(0)`: a device in this process, fed by one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import numpy as np

from raymx import config, trace
from raymx.actors.device import DeviceRunner
from raymx.actors.host import DeviceHost
from raymx.engine.segment import EMPTY, Report, Segment
from raymx.ops import backend


class Promise:
    """One exported value of a message that runs in this process."""

    __slots__ = ("answer", "slot")

    def __init__(self, answer: Future, slot: int):
        self.answer, self.slot = answer, slot

    def value(self, timeout_s: float) -> Any:
        """The value if it comes in time, else None."""
        try:
            return self.answer.result(timeout_s)[1][self.slot]
        except FutureTimeout:
            return None

    def subscribe(self, callback: Callable[[Any], None]) -> None:
        """Call `callback(value)` when the value is here."""
        self.answer.add_done_callback(lambda answer: callback(answer.result()[1][self.slot]))


class LocalTicket:
    """A message under way in this process."""

    __slots__ = ("answer", "exports")

    def __init__(self, answer: Future, exports: int):
        self.answer = answer
        self.exports = [Promise(answer, slot) for slot in range(exports)]

    def done(self) -> bool:
        return self.answer.done()

    def wait(self, timeout_s: float) -> bool:
        try:
            self.answer.exception(None if timeout_s == float("inf") else timeout_s)
            return True
        except FutureTimeout:
            return False

    def report(self) -> Report:
        return self.answer.result()[0]


def resolve(awaited, callback: Callable) -> None:
    """Values from device actors come as refs, those of this process as promises."""
    if isinstance(awaited, Promise):
        awaited.subscribe(callback)
    else:
        from raymx.actors.transfer import resolve as resolve_ref

        resolve_ref(awaited, callback)


class LocalTransport:
    """The way to the device in this process."""

    def __init__(self, name: str):
        self._host = DeviceHost(_runner(name), resolve, config.get("check"), lambda: backend.use_threads(0))

    def send(self, number: int, segments: Sequence[Segment], exports: int) -> LocalTicket:
        return LocalTicket(self._host.submit(number, segments, exports), exports)

    def fetch(self, handle: Promise, timeout_s: float) -> Any:
        try:
            return handle.answer.result(None if timeout_s == float("inf") else timeout_s)[1][handle.slot]
        except FutureTimeout:
            raise TimeoutError from None

    def close(self) -> None:
        self._host.close()


class NaiveTransport(LocalTransport):
    """The engine `naive`: every task runs in the caller, and an error is raised where it happens."""

    def __init__(self, name: str):
        self._runner = _runner(name)

    def send(self, number: int, segments: Sequence[Segment], exports: int) -> LocalTicket:
        values: list = [None] * exports
        for index, segment in enumerate(segments):
            arrived: Future = Future()
            if segment.awaits is not None:
                resolve(segment.awaits, arrived.set_result)
                arrived.exception(config.get("timeout_s") or None)
            value = arrived.result() if segment.awaits is not None else None
            with np.errstate(all="ignore"):
                self._runner.run(segment.tasks, number, index, values, value, reraise=True)
        answer: Future = Future()
        answer.set_result((EMPTY, values))
        if self._runner.events:
            trace.record(self._runner.name, self._runner.events)
            self._runner.events = []
        return LocalTicket(answer, exports)

    def close(self) -> None:
        pass


def connect(name: str) -> LocalTransport:
    """The transport of the device in this process."""
    return NaiveTransport(name) if config.get("engine") == "naive" else LocalTransport(name)


def _runner(name: str) -> DeviceRunner:
    return DeviceRunner(name, np, config.get("pool_mb") << 20, trace.active())
