"""A Chrome trace of every task, one row per device; opens in Perfetto or chrome://tracing.

That of a launched job has the rows of each of its processes: every process records what it does, and the launcher
fetches it in the end and writes the one file. Times are of the wall clock, so the clocks of nodes must agree.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from raymx import config


class Event(NamedTuple):
    """What ran when, in nanoseconds of the epoch. `process` is "" for this one."""

    process: str
    row: str
    task: str
    start: int
    end: int


_events: list[Event] = []
_lock = threading.Lock()
_fetched = False  # whether another process fetches what this one records, and writes it


def active() -> bool:
    """Whether tasks are being recorded."""
    return bool(config.get("trace"))


def leave_to_launcher() -> None:
    """Another process fetches what this one records, and writes it."""
    global _fetched
    _fetched = True


def written_here() -> bool:
    """Whether this process has a trace to write when it ends."""
    return active() and not _fetched


def record(row: str, events) -> None:
    """Add `(task, start_ns, end_ns)` events of a row, which is a device or another part of this process."""
    with _lock:
        _events.extend(Event("", row, *event) for event in events)


def begin() -> int:
    """The time, for `end`; 0 if nothing is being recorded."""
    return time.time_ns() if active() else 0


def end(began: int, row: str, task: str, *parts) -> None:
    """Add what began then and ends now, if that was recorded; `task` is a format for `parts`, as in logging."""
    if began:
        record(row, [(task % parts, began, time.time_ns())])


def taken() -> list[Event]:
    """Everything recorded so far, which is forgotten here."""
    with _lock:
        events = _events[:]
        _events.clear()
        return events


def adopt(process: str, events: Iterable[Event]) -> None:
    """Add what another process, by its name, has `taken`."""
    with _lock:
        _events.extend(event._replace(process=process) for event in events)


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
    """The recorded tasks as Chrome trace events; `ts` and `dur` are microseconds from the first task.

    Processes have names if there are others than this one, the launcher. What ran at the same time in one row is drawn
    in several of the same name.
    """
    with _lock:
        events = sorted(_events, key=lambda e: (e.start, -e.end))
    if not events:
        return []
    origin, places = events[0].start, _places(events)
    pids = {process: pid for pid, process in enumerate(sorted({e.process for e in events}), 1)}
    tids = {place: tid for tid, place in enumerate(sorted(set(places)), 1)}  # no two alike: Perfetto wants it so
    processes = [
        {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": process or "launcher"}}
        for process, pid in (pids.items() if any(pids) else ())
    ]
    rows = [
        {"ph": "M", "pid": pids[process], "tid": tid, "name": "thread_name", "args": {"name": row}}
        for (process, row, _), tid in tids.items()
    ]
    tasks = [
        {"ph": "X", "pid": pids[e.process], "tid": tids[place], "name": e.task, "cat": "task",
         "ts": (e.start - origin) / 1e3, "dur": (e.end - e.start) / 1e3}
        for e, place in zip(events, places, strict=True)
    ]  # fmt: skip
    return [*processes, *rows, *tasks]


def _places(events: Sequence[Event]) -> list[tuple[str, str, int]]:
    """Process, row, and which of the rows of that name each event goes to; events are in the order of their starts."""
    under_way: dict[tuple[str, str], list[list[int]]] = {}  # for each row of the name the ends, the first one last
    return [(e.process, e.row, _place(under_way.setdefault((e.process, e.row), []), e)) for e in events]


def _place(rows: list[list[int]], event: Event) -> int:
    """The first row where the event is within another one, or alone."""
    for number, ends in enumerate(rows):
        while ends and ends[-1] <= event.start:
            ends.pop()
        if not ends or event.end <= ends[-1]:
            ends.append(event.end)
            return number
    rows.append([event.end])
    return len(rows) - 1


def write(path: str = "") -> None:
    """Write the trace, by default to the `trace` switch's file; all or nothing."""
    path = path or config.get("trace")
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w") as file:
        json.dump({"traceEvents": chrome(), "displayTimeUnit": "ms"}, file)
    os.replace(temporary, path)
