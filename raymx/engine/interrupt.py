"""Ctrl-C may land between any two lines; where state would be left half-changed, it waits."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` without enumerations, at a tenth of the cost
import threading
from signal import SIGINT


class uninterrupted:
    """A block of code that Ctrl-C does not reach until it is done. Only the main thread is ever interrupted; others
    pass through, and so does a process that ignores Ctrl-C or ends at once."""

    __slots__ = ("_handler", "_caught")

    def __enter__(self) -> None:
        self._handler = None
        if threading.current_thread() is threading.main_thread():
            handler = _signal.getsignal(SIGINT)
            if callable(handler):
                self._caught: list[tuple] = []
                self._handler = handler
                _signal.signal(SIGINT, self._catch)

    def __exit__(self, *exc_info) -> None:
        if self._handler is not None:
            _signal.signal(SIGINT, self._handler)
            if self._caught:
                self._handler(*self._caught[0])

    def _catch(self, *event) -> None:
        self._caught.append(event)
