"""Any one process of a training may be killed at any point: the weights are the same, bit for bit.

The table says what is killed and where; at which count is drawn for each row from SEED. Each row is a training of its
own, compared with one without faults, and the supervisor's log must tell of as many losses as were planned.
"""

from __future__ import annotations

import random

import pytest

from raymx import config, faults
from raymx.errors import MXNetError, ParameterError, ShardLostError
from tests.kvstore import test_dist
from tests.kvstore.training import EPOCHS, launched, weights

pytestmark = pytest.mark.ray
SEED = 11

# point → how often it is passed at least, in how many rows
SHARD = {"push:received": (10, 3), "push:applied": (10, 3), "pull:answering": (6, 3), "states": (EPOCHS, 1)}
REPLICA = {"push:received": (10, 2), "push:applied": (10, 2)}
WORKER = {"push:before": (5, 2), "push:between": (5, 2), "pull:before": (5, 2), "pull:after": (5, 2),
          "checkpoint:writing": (EPOCHS, 1), "checkpoint:written": (EPOCHS, 1),
          "checkpoint:described": (EPOCHS, 1)}  # fmt: skip
DEVICE = {"run": (10, 1), "ran": (10, 1), "deliver": (10, 1), "checkpoint:device": (EPOCHS, 1)}
PLACES = {"shard 0.0": SHARD, "shard 1.0": SHARD, "shard 0.1": REPLICA, "shard 1.1": REPLICA, "worker 0.0": WORKER,
          "worker 1.0": WORKER, "device 0.0": DEVICE, "device 1.0": DEVICE}  # fmt: skip
PRIMARIES = "shard 0.0", "shard 1.0"
IN_A_ROW = [  # more than one loss, each when the one before is made good; and one before anything has begun
    "shard 0.0 at checkpoint 1",
    "worker 0.0 at pull:after 3; worker 0.1 at push:between 2; worker 0.2 at checkpoint:written 1",
    "worker 1.0 at push:between 4; shard 0.0 at push:applied 9",
]


def rows() -> list[str]:
    """The plans of the table."""
    found = []
    for role, points in PLACES.items():
        for point, (often, count) in points.items():
            drawn = random.Random(f"{SEED} {role} {point}").sample(range(1, often + 1), count)
            found += [f"{role} at {point} {number}" for number in sorted(drawn)]
    return found + IN_A_ROW


def few() -> list[str]:
    """One of each role, at a point of its own."""
    chosen = ("shard 0.0 at push:applied", "shard 1.0 at pull:answering", "shard 1.1 at push:received",
              "worker 1.0 at push:between", "worker 0.0 at checkpoint:written", "device 1.0 at ran")  # fmt: skip
    return [next(row for row in rows() if row.startswith(start)) for start in chosen]


@pytest.fixture(scope="module")
def expected(ray_cluster):
    """What a training without faults ends with, on a device of the worker's process and on one of its own."""
    known: dict = {}

    def of(device: int) -> list:
        if device not in known:
            known[device] = weights(launched(device))
            assert known[device][0][0] == known[device][1][0]  # parameters; auxiliary states are each worker's own
        return known[device]

    return of


def check(fault: str, expected, caplog, tmp_path) -> None:
    device = int("device" in fault)
    found = launched(device, fault=fault, checkpoint=f"{tmp_path}/net")
    lost = [record.getMessage() for record in caplog.records if " lost " in record.getMessage()]
    for plan in fault.split("; "):
        kind, who = plan.split(".")[0].split()
        words = f"shard {who} lost a process" if kind == "shard" else f"worker {who} was lost"
        assert sum(words in line for line in lost) == fault.count(f"{kind} {who}."), (plan, lost)
    assert weights(found) == expected(device), fault


@pytest.mark.parametrize("fault", few())
def test_a_kill_changes_nothing(fault, expected, caplog, tmp_path):
    check(fault, expected, caplog, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [row for row in rows() if row not in few()])
def test_any_process_may_be_killed_anywhere(fault, expected, caplog, tmp_path):
    check(fault, expected, caplog, tmp_path)


def test_the_table_has_enough_rows():
    assert len(set(rows())) >= 40


# ---- without replicas ----


@pytest.mark.parametrize("fault", ["shard 1.0 at push:applied 9", "shard 0.0 at states 2"])
def test_without_replicas_a_lost_shard_is_a_named_error_and_a_checkpoint_goes_on(fault, expected, tmp_path):
    prefix = f"{tmp_path}/net"
    with pytest.raises(ShardLostError, match=r"shard [01] of 2 was lost; its state is gone: start again from a ch"):
        launched(0, replicas=0, fault=fault, checkpoint=prefix, resume="auto")
    assert weights(launched(0, replicas=0, checkpoint=prefix, resume="auto")) == expected(0)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [row for row in rows() if row[:9] in PRIMARIES and row not in IN_A_ROW])
def test_without_replicas_any_shard_may_be_lost(fault, expected, tmp_path):
    test_without_replicas_a_lost_shard_is_a_named_error_and_a_checkpoint_goes_on(fault, expected, tmp_path)


@pytest.mark.parametrize("fault", ["worker 0.0 at pull:after 3", "device 1.0 at run 6"])
def test_without_replicas_workers_and_devices_may_be_lost(fault, expected, caplog):
    device = int("device" in fault)
    assert weights(launched(device, replicas=0, fault=fault)) == expected(device)
    assert any(" was lost (" in record.getMessage() for record in caplog.records)


def test_a_shard_and_its_replica_may_not_be_lost_together():
    with pytest.raises(ShardLostError, match=r"shard 0 of 2 was lost with its replica; its state is gone"):
        launched(0, fault="shard 0.1 at push:received 1; shard 0.0 at checkpoint 2")


# ---- plans ----


@pytest.mark.parametrize("plan", ["shard 0.0 at nowhere 1", "driver 0.0 at run 1", "shard 0.0 at run 1", "nonsense"])
def test_a_plan_that_cannot_be_read_is_an_error(plan):
    with config.using(fault=plan), pytest.raises(ParameterError, match="config fault must be like 'shard 0.0 at push"):
        faults.play("shard 0.0")


# ---- who neither works nor ends ----

FROZEN = {
    "shard 1.0 stops at push:received 5": r"worker \d: shard 1 of 2 has not answered within 3\.6 s \(switch timeout_s",
    "worker 1.0 stops at push:between 2": r"shard \d of 2: round \d of key \d.* still waits for worker 1 after 3\.2 s",
    "shard 1.1 stops at push:received 5": r"shard 1 of 2 still waits for its replica",
    "device 1.0 stops at run 8": r"cpu\(1\) has not answered within 4 s|key \d.* still waits for worker 1 after 3\.2 s",
}
_MORE = [pytest.param(fault, marks=pytest.mark.slow) for fault in list(FROZEN)[2:]]


@pytest.mark.parametrize("fault", [*list(FROZEN)[:2], *_MORE])
def test_whoever_is_waited_for_too_long_is_named(fault):
    with config.using(timeout_s=4.0), pytest.raises(MXNetError, match=FROZEN[fault]):
        launched(int("device" in fault), fault=fault)


def train_large(device: int):
    """Three rounds of a value so large that shards hold it for their workers; on a device of the worker's own process,
    or on one that reads it from where the shard has put it."""
    import raymx as mx
    from raymx import config

    config.set(kvstore_bigarray_bound=1000)
    kv = mx.kv.create("dist_sync")
    context = mx.cpu(device)
    out = mx.nd.zeros((700_000,), context)
    kv.init("w", out)
    kv.set_optimizer(mx.optimizer.create("sgd", learning_rate=0.1))
    for _ in range(3):
        kv.push("w", mx.nd.ones((700_000,), context) * (kv.rank + 1) + out)
        kv.pull("w", out)
    found = out.asnumpy()
    return found[0], found[-1], bool((found == found[0]).all())


@pytest.mark.parametrize("device", [0, 1])
def test_a_shard_that_dies_before_its_answer_is_read(device, caplog):
    """What it held is lost with it; its replica is asked again."""
    expected = test_dist.launched(train_large, 2, 2, 0)
    with config.using(fault="shard 0.0 at pull:answered 2"):
        found = test_dist.launched(train_large, 2, 2, device, replicas=1)
    assert found == expected and found[0][2]
    assert any("shard 0 " in record.getMessage() for record in caplog.records), "the fault did not happen"
