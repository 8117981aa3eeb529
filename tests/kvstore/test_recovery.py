"""Any one process of a job may be killed at any point: the result is the same, bit for bit."""

from __future__ import annotations

import pytest

from raymx import config
from raymx.errors import MXNetError, ShardLostError
from tests.kvstore.test_dist import in_one_process, launched, train

pytestmark = pytest.mark.ray
ROUNDS = 4
FEW = [
    "shard 0.0 at push:received 3",
    "shard 1.0 at push:applied 4",
    "shard 0.0 at pull:answering 2",
    "shard 1.1 at push:applied 2",
    "worker 1.0 at push:between 2",
    "worker 0.0 at pull:after 3",
]


@pytest.fixture
def check(caplog):
    """Train with a fault that must happen, and compare with one process."""

    def run(fault: str) -> None:
        caplog.clear()
        _check(fault)
        who = fault.split(".")[0]
        assert any(f"{who} " in record.getMessage() for record in caplog.records), f"{fault} did not happen"

    return run


def _check(fault: str) -> None:
    with config.using(fault=fault):
        found = launched(train, 2, 2, "dist_sync", ROUNDS, 20, "adam", replicas=1)
    expected = in_one_process(2, ROUNDS, "adam")
    for result in found:
        for got, want in zip(result, expected, strict=True):
            assert got.tobytes() == want.tobytes(), fault


@pytest.mark.parametrize("fault", FEW)
def test_a_kill_changes_nothing(check, fault):
    check(fault)


ANSWERED = [(shard, "pull:answering") for shard in ("0.0", "1.0")]  # a replica answers nobody
FED = [(shard, point) for shard in ("0.0", "1.0", "0.1") for point in ("push:received", "push:applied")]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("shard, point", FED + ANSWERED)
def test_any_shard_may_be_killed(check, shard, point, count):
    check(f"shard {shard} at {point} {count}")


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("point", ["push:before", "push:between", "pull:before", "pull:after"])
@pytest.mark.parametrize("worker", ["0.0", "1.0"])
def test_any_worker_may_be_killed(check, worker, point, count):
    check(f"worker {worker} at {point} {count}")


def test_without_replicas_a_lost_shard_is_a_named_error():
    with config.using(fault="shard 1.0 at push:applied 2"), pytest.raises(MXNetError) as caught:
        launched(train, 2, 2, "dist_sync", ROUNDS, 20, None, replicas=0)
    assert isinstance(caught.value, ShardLostError) or "shard 1 of 2 was lost" in str(caught.value)
