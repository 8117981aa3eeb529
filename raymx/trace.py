"""A Chrome trace of every task, one row per device; opens in Perfetto or chrome://tracing."""

from __future__ import annotations

import json
import os
import threading

from raymx import config

_events: list[tuple[str, str, int, int]] = []  # (device, task, start, end) in nanoseconds of the epoch
_lock = threading.Lock()


def active() -> bool:
    """Whether tasks are being recorded."""
    return bool(config.get("trace"))


def record(device: str, events) -> None:
    """Add `(task, start_ns, end_ns)` events of a device; times are of the wall clock, so that nodes compare."""
    with _lock:
        _events.extend((device, *event) for event in events)


def clear() -> None:
    """Forget everything recorded so far."""
    with _lock:
        _events.clear()


def after_fork() -> None:
    """In a child process: the events, and perhaps a held lock, are the parent's."""
    global _lock
    _lock = threading.Lock()
    clear()


def chrome() -> list[dict]:
    """The recorded tasks as Chrome trace events; `ts` and `dur` are microseconds from the first task."""
    with _lock:
        events = sorted(_events, key=lambda e: e[2])
    if not events:
        return []
    origin = events[0][2]
    rows = {device: number for number, device in enumerate(sorted({e[0] for e in events}), 1)}
    names = [
        {"ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": {"name": device}}
        for device, tid in rows.items()
    ]
    return names + [
        {"ph": "X", "pid": 1, "tid": rows[device], "name": task, "cat": "task",
         "ts": (start - origin) / 1e3, "dur": (end - start) / 1e3}
        for device, task, start, end in events
    ]


def write(path: str = "") -> None:
    """Write the trace, by default to the `trace` switch's file; all or nothing."""
    path = path or config.get("trace")
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w") as file:
        json.dump({"traceEvents": chrome(), "displayTimeUnit": "ms"}, file)
    os.replace(temporary, path)
