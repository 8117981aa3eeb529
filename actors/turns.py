"""Calls in the order in which their sender made them, whatever the order in which they come.

Ray starts the calls of one caller out of order, now and then, where an actor has several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class _Line:
    """One sender's calls. `early` holds those that have come before their turn."""

    def __init__(self) -> None:
        self.next = 0
        self.early: dict[int, tuple[Callable[[], Any], Future]] = {}
        self.busy = False  # whether a thread is at work on them


class Turns:
    """Senders number their calls from 0; thread-safe."""

    def __init__(self) -> None:
        self._lines: dict[Any, _Line] = {}
        self._lock = threading.Lock()

    def take(self, sender: Any, number: int, call: Callable[[], Any]) -> Future:
        """Run the call, and those that waited for it, if it is its turn, else later; its result. What it raises is in
        there, and holds up nobody."""
        result: Future = Future()
        with self._lock:
            line = self._lines.setdefault(sender, _Line())
            line.early[number] = call, result
            if line.busy:
                return result
            line.busy = True
        while (item := self._following(line)) is not None:
            _run(*item)
        return result

    def _following(self, line: _Line) -> tuple[Callable[[], Any], Future] | None:
        with self._lock:
            item = line.early.pop(line.next, None)
            line.busy = item is not None
            line.next += line.busy
            return item


def _run(call: Callable[[], Any], result: Future) -> None:
    try:
        result.set_result(call())
    except BaseException as error:
        result.set_exception(error)
