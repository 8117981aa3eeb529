"""Ray's metrics for what raymx measures; docs/guide.md lists them."""

from __future__ import annotations

from typing import Any

from ray.util.metrics import Counter, Histogram

SECONDS = [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100]
VERSIONS = [0.5, 1.5, 2.5, 4.5, 8.5, 16.5, 32.5, 64.5]
COUNTERS = {
    "pushes": "values of keys that workers sent, those dropped included",
    "bytes": "bytes of these values",
    "dropped": "values that were sent again and had been taken before",
    "pulls": "answers to pulls",
    "applied": "rounds, or pushes where they are applied one by one, that changed a value",
    "recoveries": "workers, shards and replicas that were lost and replaced",
}
HISTOGRAMS = {
    "round_seconds": ("from the first push of a round to the last", SECONDS),
    "barrier_seconds": ("that a worker waited at a barrier", SECONDS),
    "staleness": ("versions between what a worker pulled and what its push changed, in dist_async", VERSIONS),
}


class Metrics:
    """Ray's counters and histograms of one process, with the tags `job`, `shard` (empty in the launcher) and `rank`."""

    def __init__(self, job: str, shard: str = ""):
        self._tags = {"job": job, "shard": shard}
        self._metrics: dict[str, Any] = {}

    def count(self, name: str, rank: int | str, amount: float) -> None:
        """Add to a counter."""
        self._metric(name).inc(amount, {**self._tags, "rank": str(rank)})

    def observe(self, name: str, rank: int | str, value: float) -> None:
        """Add to a histogram."""
        self._metric(name).observe(value, {**self._tags, "rank": str(rank)})

    def _metric(self, name: str) -> Any:
        if name not in self._metrics:
            keys = "job", "shard", "rank"
            if name in COUNTERS:
                made: Any = Counter(f"raymx_{name}", COUNTERS[name], keys)
            else:
                words, boundaries = HISTOGRAMS[name]
                made = Histogram(f"raymx_{name}", words, boundaries, keys)
            self._metrics[name] = made
        return self._metrics[name]
