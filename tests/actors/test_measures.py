"""Counts and samples: totals at any time, and reports of what is new."""

from __future__ import annotations

import numpy as np

from raymx.actors.keeper import Keeper
from raymx.actors.measures import KEPT, Measures
from raymx.actors.shard import Shard


def told(measures: Measures) -> tuple[dict, list]:
    counts: dict = {}
    samples: list = []
    measures.report(lambda *key: counts.__setitem__(key[:2], key[2]), lambda *sample: samples.append(sample))
    return counts, samples


def test_a_report_tells_what_is_new():
    measures = Measures()
    measures.add("pushes", 0, 3)
    measures.add("pushes", 1)
    measures.sample("round_seconds", 1, 0.5)
    assert told(measures) == ({("pushes", 0): 3, ("pushes", 1): 1}, [("round_seconds", 1, 0.5)])
    measures.add("pushes", 1, 4)
    assert told(measures) == ({("pushes", 1): 4}, [])
    measures.sample("round_seconds", 0, 1.5)
    assert measures.describe() == {
        "pushes": 8, "round_seconds": {"count": 2, "mean": 1.0, "max": 1.5},
        "by_rank": {0: {"pushes": 3}, 1: {"pushes": 5}},
    }  # fmt: skip


def test_samples_that_nobody_fetches_take_no_more_memory():
    measures = Measures()
    for _ in range(KEPT + 10):
        measures.sample("staleness", 0, 1)
    assert len(told(measures)[1]) == KEPT and measures.describe()["staleness"]["count"] == KEPT + 10


def keeper(sync: bool) -> Keeper:
    made = Keeper("shard 0 of 1", Shard(2), lambda settings: None)
    made.configure(sync)
    made.create({0: np.zeros(4, "float32"), 1: np.zeros(2, "float32")})
    return made


def push(made: Keeper, rank: int, number: int) -> None:
    made.push(rank, {0: number, 1: number}, [np.ones(4, "float32"), np.ones(2, "float32")])


def test_what_a_shard_counts_of_rounds():
    made = keeper(sync=True)
    for rank in (0, 1, 1):
        push(made, rank, 1)
    made.pull(0, {0: 1}, 1)
    found = made.describe()
    assert (found["pushes"], found["bytes"], found["dropped"], found["pulls"], found["applied"]) == (6, 72, 2, 1, 2)
    assert found["by_rank"][1] == {"pushes": 4, "bytes": 48, "dropped": 2, "applied": 2}
    assert found["round_seconds"]["count"] == 1 and "staleness" not in found


def test_how_stale_a_push_is():
    made = keeper(sync=False)
    made.pull(0, {0: 0, 1: 0}, 1)
    made.pull(1, {0: 0, 1: 0}, 1)
    for number in (1, 2, 3):
        push(made, 1, number)
    push(made, 0, 1)
    assert made.describe()["staleness"] == {"count": 4, "mean": (0 + 1 + 2 + 3) / 4, "max": 3}


def test_a_replica_counts_nothing_before_workers_talk_to_it():
    made = keeper(sync=True)
    made.follow(("push", 0, {0: 1}, [np.ones(4, "float32")], None))
    assert made.describe()["by_rank"] == {}


def test_how_long_workers_wait_for_each_other():
    made = keeper(sync=True)
    made.reach(0, 1, 1.0)
    assert "barrier_seconds" not in made.describe()
    made.reach(1, 1, 1.0)
    assert made.describe()["barrier_seconds"]["count"] == 2
