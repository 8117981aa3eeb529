"""Looking at what flows through a network while it trains."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable

from raymx import ndarray as nd

_log = logging.getLogger("raymx")


class Monitor:
    """Collects a statistic of every output, gradient, argument and state of the installed executors.

    - interval: batches between two looks.
    - stat_func: NDArray → NDArray or a list of them; |x| / sqrt(size) if not given.
    - pattern: a regular expression that names of interest begin with. sort: order results by name.

    Use: `install(executor)` once; then for each batch `tic()` before forward and `toc()` or `toc_print()` after.
    """

    def __init__(self, interval: int, stat_func: Callable | None = None, pattern: str = ".*", sort: bool = False):
        self.interval, self.stat_func, self.sort = interval, stat_func or _norm_over_root_size, sort
        self.pattern = re.compile(pattern)
        self.exes: list = []
        self.step = 0
        self.activated = False
        self.queue: list[tuple[int, str, object]] = []  # (step, name, statistic) since tic

    def install(self, exe) -> None:
        """Watch an executor."""
        exe.set_monitor_callback(self._collect)
        self.exes.append(exe)

    def tic(self) -> None:
        """Begin to collect, if this batch is one of every `interval`."""
        if self.step % self.interval == 0:
            self.queue = []
            self.activated = True
        self.step += 1

    def toc(self) -> list[tuple[int, str, str]]:
        """Stop collecting: [(step, name, values as text), …]; waits for the statistics."""
        if not self.activated:
            return []
        for exe in self.exes:
            for name, array in [*exe.arg_dict.items(), *exe.aux_dict.items()]:
                self._collect(name, array)
        self.activated = False
        found, self.queue = self.queue, []
        if self.sort:
            found.sort(key=lambda entry: entry[1])
        return [(step, name, _text(value)) for step, name, value in found]

    def toc_print(self) -> None:
        """`toc`, with a line to the log for each."""
        for step, name, text in self.toc():
            _log.info("Batch: %7d %30s %s", step, name, text)

    def _collect(self, name: str, array) -> None:
        if self.activated and self.pattern.match(name):
            self.queue.append((self.step, name, self.stat_func(array)))


def _norm_over_root_size(array):
    return nd.norm(array) / math.sqrt(array.size)


def _text(value) -> str:
    values = value if isinstance(value, list) else [value]
    return "\t".join(str(v.asscalar() if v.size == 1 else v.asnumpy()) for v in values) + "\t"
