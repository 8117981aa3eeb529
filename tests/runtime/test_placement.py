"""Where a job's processes go; what needs no Ray."""

from __future__ import annotations

import pytest

from raymx.runtime import placement


@pytest.mark.parametrize(
    "resources, gpus, expected",
    [
        ({"CPU": 1}, 0, [{"CPU": 1}]),
        ({"CPU": 1, "memory": 0}, 2, [{"CPU": 1}, {"GPU": 1}, {"GPU": 1}]),
        ({"CPU": 0}, 2, [{"GPU": 1}, {"GPU": 1}]),
        ({"CPU": 0}, 0, []),
    ],
)
def test_a_worker_asks_for_its_process_and_each_device(resources, gpus, expected):
    assert placement.bundles(resources, gpus) == expected


def test_resources_in_the_words_of_an_actor():
    found = placement.options({"CPU": 2, "GPU": 0.5, "memory": 1e9, "fast_disk": 1, "slow_disk": 0})
    assert found == {"num_cpus": 2, "num_gpus": 0.5, "memory": 1e9, "resources": {"fast_disk": 1}}
    assert placement.options({"CPU": 0}) == {"num_cpus": 0, "num_gpus": 0}


@pytest.mark.parametrize("count, copies, nodes", [(3, 2, "abc"), (2, 2, "ab"), (4, 2, "abc"), (2, 1, "abcd")])
def test_shards_and_replicas_are_spread(count, copies, nodes):
    places: dict[int, list[str | None]] = {shard: [] for shard in range(count)}
    for shard, taken in places.items():
        for _ in range(copies):
            taken.append(placement.chosen(shard, taken, nodes))
    assert all(len(set(taken)) == copies for taken in places.values()), "a replica is on another node"
    on = [node for taken in places.values() for node in taken]
    assert max(map(on.count, nodes)) - min(map(on.count, nodes)) <= 1 or count * copies < len(nodes)


def test_a_new_replica_goes_where_the_survivor_is_not():
    assert placement.chosen(0, ["a"], "ab") == "b"
    assert placement.chosen(1, ["b"], "ab") == "a"
    assert placement.chosen(0, ["a"], "a") == "a"
    assert placement.chosen(0, [], []) is None
