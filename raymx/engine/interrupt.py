"""Ctrl-C may land between any two lines; where state would be left half-changed, it waits."""

from __future__ import annotations

import contextlib
import signal
import threading


@contextlib.contextmanager
def uninterrupted():
    """Hold Ctrl-C back until the block is done. Only the main thread is ever interrupted; others pass through."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):  # ignored, or ends the process at once
        yield
        return
    caught: list[tuple] = []
    signal.signal(signal.SIGINT, lambda *event: caught.append(event))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if caught:
            handler(*caught[0])
