"""Which task may start: the rule of reads and writes, and nothing else. No thread, clock or socket.

Tasks are opaque keys, variables opaque tags. A task may start once every earlier write of what it reads, and every
earlier read and write of what it writes, is done; results then equal those of running the tasks one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable

from raymx.errors import DependencyError


class _Variable:
    """The tasks on one variable: those running, then those waiting in the order in which they came."""

    __slots__ = ("readers", "writer", "waiting")

    def __init__(self):
        self.readers = 0  # running tasks that read it; 0 whenever `writer` is set
        self.writer = False  # whether a running task writes it
        self.waiting: deque[tuple[Hashable, bool]] = deque()  # (task, writes it); the first one cannot run yet


class _Task:
    __slots__ = ("reads", "writes", "missing")

    def __init__(self, reads, writes):
        self.reads, self.writes = reads, writes
        self.missing = 0  # variables that have not yet been granted


class Tracker:
    """Feed it `add` and `done`; it answers with the tasks that may start."""

    def __init__(self, check: bool = False):
        self._variables: dict[Hashable, _Variable] = {}  # only those that a task is using or waiting for
        self._tasks: dict[Hashable, _Task] = {}  # added and not yet done
        self._check = check

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Hashable, reads: Collection = (), writes: Collection = ()) -> bool:
        """Add a task after all earlier ones; True if it may start at once. A variable that is read and written
        counts as written. Raises DependencyError if the task is already there."""
        if task in self._tasks:
            raise DependencyError(f"task {task!r} was added twice; give each task its own key.")
        writes = frozenset(writes)
        entry = self._tasks[task] = _Task(frozenset(reads) - writes, writes)
        for tag in entry.writes:
            entry.missing += not self._acquire(tag, task, True)
        for tag in entry.reads:
            entry.missing += not self._acquire(tag, task, False)
        if self._check:
            self.check()
        return entry.missing == 0

    def done(self, task: Hashable) -> list[Hashable]:
        """The task has ended, well or badly: the waiting tasks that may start now, in the order in which they came."""
        entry = self._tasks.pop(task, None)
        if entry is None or entry.missing:
            raise DependencyError(f"task {task!r} cannot be done: it {'has not started' if entry else 'is unknown'}.")
        ready: list[Hashable] = []
        for tag in entry.writes:
            self._variables[tag].writer = False
            self._advance(tag, ready)
        for tag in entry.reads:
            self._variables[tag].readers -= 1
            self._advance(tag, ready)
        if self._check:
            self.check()
        return ready

    def _acquire(self, tag, task, write: bool) -> bool:
        variable = self._variables.get(tag)
        if variable is None:
            variable = self._variables[tag] = _Variable()
        if variable.waiting or variable.writer or (write and variable.readers):
            variable.waiting.append((task, write))
            return False
        if write:
            variable.writer = True
        else:
            variable.readers += 1
        return True

    def _advance(self, tag, ready: list) -> None:
        variable = self._variables[tag]
        while variable.waiting and not variable.writer:
            task, write = variable.waiting[0]
            if write and variable.readers:
                return
            variable.waiting.popleft()
            if write:
                variable.writer = True
            else:
                variable.readers += 1
            entry = self._tasks[task]
            entry.missing -= 1
            if entry.missing == 0:
                ready.append(task)
        if not (variable.waiting or variable.writer or variable.readers):
            del self._variables[tag]

    def check(self) -> None:
        """Raise AssertionError if an invariant of the state is broken."""
        waits: dict[Hashable, int] = dict.fromkeys(self._tasks, 0)
        for tag, v in self._variables.items():
            assert v.writer or v.readers, f"variable {tag!r} is kept but nobody runs on it"
            assert not (v.writer and v.readers), f"variable {tag!r} is read while it is written"
            if v.waiting:
                assert v.writer or v.waiting[0][1], f"the first waiting read of {tag!r} could run"
            for task, _ in v.waiting:
                waits[task] += 1
        for task, entry in self._tasks.items():
            assert waits[task] == entry.missing, f"task {task!r} counts {entry.missing} waits, has {waits[task]}"
