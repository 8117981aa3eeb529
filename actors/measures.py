"""What a process counts and measures: plain numbers, which cost nothing to speak of, and for whom they are told."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

KEPT = 4096  # samples between two reports; more are counted, and not reported one by one


class Measures:
    """Counts by name and rank, and samples of what varies. Thread-safe as far as one thread at a time counts."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, int], float] = {}
        self.sums: dict[str, tuple[int, float, float]] = {}  # name → how many samples, their sum, the largest
        self._samples: deque[tuple[str, int, float]] = deque(maxlen=KEPT)
        self._reported: dict[tuple[str, int], float] = {}
        self._lock = threading.Lock()  # of reports

    def add(self, name: str, rank: int, amount: float = 1) -> None:
        """Count something of a worker."""
        self.counts[name, rank] = self.counts.get((name, rank), 0) + amount

    def sample(self, name: str, rank: int, value: float) -> None:
        """Measure something of a worker once."""
        number, total, largest = self.sums.get(name, (0, 0.0, value))
        self.sums[name] = number + 1, total + value, max(largest, value)
        self._samples.append((name, rank, value))

    def describe(self) -> dict[str, Any]:
        """Totals by name and, under `by_rank`, by worker; of samples how many, their mean and the largest."""
        totals: dict[str, Any] = {}
        by_rank: dict[int, dict[str, float]] = {}
        for (name, rank), amount in list(self.counts.items()):
            totals[name] = totals.get(name, 0) + amount
            by_rank.setdefault(rank, {})[name] = amount
        for name, (number, total, largest) in list(self.sums.items()):
            totals[name] = {"count": number, "mean": total / number, "max": largest}
        return {**totals, "by_rank": by_rank}

    def report(self, count: Callable[[str, int, float], Any], observe: Callable[[str, int, float], Any]) -> None:
        """Tell what has come since the last report."""
        with self._lock:
            for (name, rank), amount in list(self.counts.items()):
                more = amount - self._reported.get((name, rank), 0)
                self._reported[name, rank] = amount
                if more:
                    count(name, rank, more)
            for _ in range(len(self._samples)):
                observe(*self._samples.popleft())
