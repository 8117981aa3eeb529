"""What a keeper does beside its shard: replicas that miss an event are none any more."""

from __future__ import annotations

import numpy as np
import pytest

from raymx.actors.keeper import Keeper
from raymx.actors.shard import Shard
from raymx.errors import KVStoreError


class Sent:
    def __init__(self, failure):
        self.failure = failure

    def wait(self, timeout_s):
        if self.failure is not None:
            raise self.failure
        return True


class Follower:
    """A replica in this process; `lost` after so many events."""

    def __init__(self, keeper, lost=99):
        self.keeper, self.left = keeper, lost

    def send(self, event):
        self.left -= 1
        if self.left < 0:
            return Sent(ConnectionError())
        self.keeper.follow(event)
        return Sent(None)


def keeper(name="shard 0 of 1"):
    return Keeper(name, Shard(1), lambda settings: None)


def test_only_who_has_the_state_is_ready():
    first, second = keeper(), keeper()
    assert not first.describe()["ready"] and not second.describe()["ready"]
    first.create({"w": np.zeros(2, "float32")})
    first.adopt(Follower(second), 1)
    assert first.describe()["ready"] and second.describe()["ready"]
    first.push(0, {"w": 1}, [np.ones(2, "float32")])
    assert second.pull(0, {"w": 1}, 1)[0].tolist() == [1, 1]


def test_a_replica_that_missed_an_event_takes_nothing_over():
    first, second = keeper(), keeper()
    first.create({"w": np.zeros(2, "float32")})
    first.adopt(Follower(second), 1)
    with pytest.raises(KVStoreError, match="those between are missing"):
        second.follow(("push", 0, {"w": 2}, [np.ones(2, "float32")], None))
    assert not second.describe()["ready"]
    with pytest.raises(KVStoreError, match="this replica has missed an event, and cannot take the shard over"):
        second.adopt(Follower(keeper()), 1)


def test_a_replica_that_is_lost_while_it_is_brought_up_is_told():
    with pytest.raises(KVStoreError, match="the new replica was lost before it was brought up"):
        keeper().adopt(Follower(keeper(), lost=0), 1)
