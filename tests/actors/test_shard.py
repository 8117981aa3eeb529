"""A shard fed with events: rounds equal the closed form however pushes come, and a replica is the same bit for bit."""

from __future__ import annotations

import random

import numpy as np
import pytest

from raymx.actors.shard import Push, Shard
from raymx.errors import KVStoreError


def array(*values):
    return np.array(values, "float32")


def shard(workers=2, sync=True, updater=None):
    made = Shard(workers, sync)
    made.create("w", array(1, 2))
    made.updater = updater
    return made


def descend(key, merged, value):
    value -= np.float32(0.1) * merged


# ---- rounds ----


def test_a_round_is_applied_when_all_have_pushed():
    s = shard()
    assert s.push(0, [Push("w", 1, array(1, 1))]) == []
    assert not s.has(0, "w", 1) and s.lagging("w") == [1]
    assert s.push(1, [Push("w", 1, array(2, 2))]) == ["w"]
    assert s.has(0, "w", 1) and s.get(0, {"w": 1})[0].tolist() == [3, 3]


def test_a_fast_worker_waits_for_nobody_until_it_pulls():
    s = shard(updater=descend)
    s.push(0, [Push("w", 1, array(1, 1)), Push("w", 2, array(1, 1))])
    assert s.push(1, [Push("w", 1, array(1, 1))]) == ["w"] and s.entries["w"].version == 1
    assert s.push(1, [Push("w", 2, array(1, 1))]) == ["w"] and s.entries["w"].version == 2


def test_sums_go_by_rank_not_by_arrival():
    values = [array(1e8), array(1), array(-1e8)]
    expected = (values[0] + values[1]) + values[2]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        s = Shard(3)
        s.create(0, array(0))
        for rank in order:
            s.push(rank, [Push(0, 1, values[rank])])
        assert s.get(0, {0: 1})[0].tobytes() == expected.tobytes()


def test_a_push_that_was_seen_is_dropped():
    s = shard(workers=1, updater=descend)
    s.push(0, [Push("w", 1, array(10, 10))])
    assert s.push(0, [Push("w", 1, array(10, 10))]) == [] and s.applied == 1
    assert s.get(0, {"w": 1})[0].tolist() == array(0, 1).tolist()


def test_the_version_before_is_kept_and_never_changes():
    s = shard(workers=1, updater=descend)
    first = s.get(0, {"w": 0})[0]
    s.push(0, [Push("w", 1, array(10, 10))])
    assert s.get(0, {"w": 0})[0].tolist() == [1, 2] == first.tolist()
    s.push(0, [Push("w", 2, array(10, 10))])
    assert s.get(0, {"w": 1})[0].tolist() == [0, 1] and s.get(0, {"w": 0})[0].tolist() == s.get(0, {"w": 2})[0].tolist()
    with pytest.raises(ValueError, match="read-only"):
        s.get(0, {"w": 2})[0][0] = 1


def test_who_leaves_is_not_waited_for_and_may_come_back():
    s = shard()
    s.push(0, [Push("w", 1, array(1, 1))])
    assert s.leave(1) == ["w"]
    assert s.push(0, [Push("w", 2, array(2, 2))]) == ["w"]
    assert s.come_back(1) == {} and s.come_back(0) == {"w": 2}
    assert s.push(0, [Push("w", 3, array(2, 2))]) == []


def test_pushes_one_by_one_are_each_applied_once():
    s = shard(sync=False, updater=lambda key, merged, value: np.add(value, merged, out=value))
    for number in (1, 2, 2, 1, 3):
        s.push(1, [Push("w", number, array(1, 1))])
    s.push(0, [Push("w", 1, array(1, 1))])
    assert s.applied == 4 and s.get(0, {"w": 4})[0].tolist() == [5, 6]


def test_orders_that_a_worker_repeats_are_dropped():
    s = shard()
    assert [s.ordered(0, n) for n in (1, 2, 1, 2, 3)] == [True, True, False, False, True]
    assert s.ordered(1, 1)
    again = Shard(2)
    again.restore(s.snapshot())
    assert not again.ordered(0, 3) and again.ordered(1, 2)


def test_who_waits_at_a_later_barrier_pushes_no_more_for_a_round():
    s = shard(workers=3)
    s.push(0, [Push("w", 1, array(1, 1))])
    assert s.ahead(0, "w") == []
    s.reach(2, 1)
    assert s.ahead(0, "w") == [2]
    s.reach(0, 1)
    assert s.ahead(0, "w") == []


def test_barriers():
    s = shard()
    assert not s.reach(0, 1) and s.absent(1) == [1]
    assert s.reach(1, 1) and s.passed(1) and not s.passed(2)
    s.leave(1)
    assert s.reach(0, 2)


# ---- what does not fit changes nothing ----


@pytest.mark.parametrize(
    "pushes, words",
    [
        ([Push("v", 1, array(1, 1))], r"push: key 'v' is unknown; call init first \(known keys: 'w'\)"),
        ([Push("w", 1, array(1))], r"push: key 'w' holds float32 of shape \(2,\), got float32 of shape \(1,\)"),
        ([Push("w", 1, np.ones(2))], r"got float64 of shape \(2,\)"),
        ([Push("w", 2, array(1, 1))], r"key 'w': worker 0 sends push 2, but its last one here was 0; those"),
        ([Push("w", 1, array(1, 1)), Push("w", 3, array(1, 1))], r"sends push 3, but its last one here was 1"),
    ],
)
def test_a_wrong_push_is_an_error_and_changes_nothing(pushes, words):
    s = shard(workers=1)
    before = s.snapshot()
    with pytest.raises(KVStoreError, match=words):
        s.push(0, pushes)
    assert s.entries["w"].sent == {} and s.get(0, {"w": 0})[0].tolist() == [1, 2] and before["applied"] == s.applied


def test_an_updater_that_raises_leaves_the_value_and_is_told_to_every_worker():
    def fails(key, merged, value):
        value += 1
        raise ValueError("no luck")

    s = shard(updater=fails)
    s.push(0, [Push("w", 1, array(1, 1))])
    s.push(1, [Push("w", 1, array(1, 1))])
    for rank in (0, 1):
        with pytest.raises(KVStoreError, match=r"failed at round 1 of key 'w', .* left as it was: ValueError: no luck"):
            s.get(rank, {"w": 1})[0]
    assert s.entries["w"].value.tolist() == [1, 2]
    s.updater = descend
    s.push(0, [Push("w", 2, array(1, 1))])
    s.push(1, [Push("w", 2, array(1, 1))])
    np.testing.assert_allclose(s.get(0, {"w": 2})[0], [0.8, 1.8])


def test_ranks_out_of_range():
    s = shard()
    with pytest.raises(KVStoreError, match=r"worker 2 is none of this store's 2 \(0 to 1\)"):
        s.push(2, [])


# ---- any order of events ----


def events(seed: int, workers: int, rounds: int):
    """Every worker's pushes of two keys, interleaved at random, some sent again."""
    rng = random.Random(seed)
    values = np.random.default_rng(seed).normal(size=(workers, rounds, 2, 3)).astype("float32")
    left = dict.fromkeys(range(workers), 1)
    sent: list[tuple[int, int]] = []
    while left:
        rank = rng.choice(list(left))
        sent.append((rank, left[rank]))
        left[rank] += 1
        if left[rank] > rounds:
            del left[rank]
        if rng.random() < 0.3:
            sent.append(rng.choice(sent))
    return values, [(r, [Push(k, n, values[r, n - 1, k]) for k in (0, 1)]) for r, n in sent]


def fed(made: Shard, sent) -> Shard:
    for rank, pushes in sent:
        made.push(rank, pushes)
    return made


def fresh(workers, updater):
    made = Shard(workers)
    for key in (0, 1):
        made.create(key, np.zeros(3, "float32"))
    made.updater = updater
    return made


@pytest.mark.parametrize("seed", range(60))
def test_any_order_equals_the_closed_form(seed):
    workers, rounds = 1 + seed % 4, 5
    values, sent = events(seed, workers, rounds)
    s = fed(fresh(workers, descend), sent)
    for key in (0, 1):
        expected = np.zeros(3, "float32")
        for number in range(rounds):
            merged = values[0, number, key]
            for rank in range(1, workers):
                merged = merged + values[rank, number, key]
            descend(key, merged, expected)
        assert s.get(0, {key: rounds})[0].tobytes() == expected.tobytes(), f"seed {seed}"
    assert s.applied == 2 * rounds


@pytest.mark.parametrize("seed", range(30))
def test_a_replica_that_joins_in_the_middle_is_the_same(seed):
    workers = 1 + seed % 3
    _, sent = events(seed, workers, 6)
    cut = random.Random(seed).randrange(len(sent))
    first = fed(fresh(workers, descend), sent[:cut])
    replica = Shard(workers)
    replica.restore(first.snapshot())
    replica.updater = descend
    fed(first, sent[cut:])
    fed(replica, sent[max(0, cut - 3) :])  # what it may have got twice
    assert fingerprint(first) == fingerprint(replica), f"seed {seed}"


def fingerprint(made: Shard):
    state = made.snapshot()
    entries = {
        key: (version, {v: a.tobytes() for v, a in frozen.items()}, sent, {n: sorted(r) for n, r in rounds.items()})
        for key, (version, frozen, sent, rounds) in state["entries"].items()
    }
    return entries, state["applied"], state["gone"], state["barriers"]
