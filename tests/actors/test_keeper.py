"""A keeper and its replica in one process: what cannot be read changes nothing, and a replica never goes on without
what it could not read."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from raymx.actors.keeper import Keeper, ReplicaGone
from raymx.actors.shard import Rows, Shard
from raymx.errors import KVStoreError, KVStoreTimeoutError

SOON_S = 5.0


class Lost(Exception):
    """The values of a push are gone with their owner."""


class Payload(list):
    """Arrays that each of those who read them may find lost."""

    def __init__(self, *arrays, lost_for=()):
        super().__init__(arrays)
        self.lost_for = lost_for


def keeper(name: str, workers: int = 1) -> Keeper:
    def get(payload):
        if name in payload.lost_for:
            raise Lost("owner died")
        return list(payload)

    return Keeper(name, Shard(workers), lambda settings: None, get)


class Way:
    """To a keeper in this process, as long as its process lives."""

    def __init__(self, to: Keeper):
        self.to, self.gone, self.events = to, False, []

    def send(self, event):
        self.events.append(event[0])
        error: BaseException | None = ReplicaGone() if self.gone else None
        if error is None:
            try:
                self.to.follow(event)
            except Exception as failure:
                error = failure
        return Ticket(error)


class Ticket:
    def __init__(self, error):
        self.error = error

    def wait(self, timeout_s):
        if self.error is not None:
            raise self.error
        return True


def array(*values):
    return np.array(values, "float32")


@pytest.fixture
def pair():
    """A primary with a key, its replica, and the way there."""
    primary, replica = keeper("primary"), keeper("replica")
    way = Way(replica)
    primary.create({"w": array(0, 0)})
    primary.adopt(way, SOON_S)
    return primary, replica, way


def version(each: Keeper):
    return each.describe()["versions"]["w"]


def test_a_replica_has_what_a_pull_shows(pair):
    primary, replica, way = pair
    primary.push(0, {"w": 1}, Payload(array(1, 2)))
    assert primary.pull(0, {"w": 1}, SOON_S)[0].tolist() == [1, 2]
    assert version(replica) == 1 and way.events == ["restore", "push"]


def test_a_replica_that_could_not_read_a_push_gets_the_whole_state(pair):
    primary, replica, way = pair
    primary.push(0, {"w": 1}, Payload(array(1, 2), lost_for=["replica"]))
    primary.push(0, {"w": 2}, Payload(array(3, 4)))
    assert version(replica) == 0, "it follows nothing before it is restored"
    primary.pull(0, {"w": 2}, SOON_S)
    assert version(replica) == 2 and way.events == ["restore", "push", "push", "restore"]
    primary.push(0, {"w": 3}, Payload(array(5, 6)))
    primary.pull(0, {"w": 3}, SOON_S)
    assert replica.pull(0, {"w": 3}, SOON_S)[0].tolist() == [5, 6] and way.events.count("restore") == 2


def test_a_replica_that_is_behind_says_so(pair):
    _, replica, _ = pair
    with pytest.raises(Lost):
        replica.follow(("push", 0, {"w": 1}, Payload(array(1, 2), lost_for=["replica"]), None))
    with pytest.raises(KVStoreError, match=r"replica: this replica waits to be restored \(Lost: owner died\)"):
        replica.follow(("push", 0, {"w": 1}, Payload(array(1, 2)), None))


def test_a_barrier_says_that_the_replica_has_everything(pair):
    primary, replica, _ = pair
    primary.push(0, {"w": 1}, Payload(array(1, 2), lost_for=["replica"]))
    primary.reach(0, 1, SOON_S)
    assert version(replica) == 1


def test_a_replica_whose_process_is_gone_holds_nobody_up(pair):
    primary, _, way = pair
    way.gone = True
    primary.push(0, {"w": 1}, Payload(array(1, 2)))
    primary.pull(0, {"w": 1}, SOON_S)
    primary.push(0, {"w": 2}, Payload(array(1, 2)))
    assert way.events == ["restore", "push"]
    other = keeper("other")
    primary.adopt(Way(other), SOON_S)
    assert version(other) == 2


def test_a_push_that_cannot_be_read_changes_nothing_and_its_worker_is_told(pair):
    primary, replica, way = pair
    with pytest.raises(Lost):
        primary.push(0, {"w": 1}, Payload(array(1, 2), lost_for=["primary"]), (7, "note"))
    assert version(primary) == version(replica) == 0 and way.events == ["restore"] and primary.shard.notes == {}
    words = r"push: the values of worker 0 could not be read \(Lost: owner died\)"
    for ask in (lambda: primary.pull(0, {"w": 1}, SOON_S), lambda: primary.reach(0, 1, SOON_S)):
        with pytest.raises(KVStoreError, match=words):
            ask()
    assert primary.come_back(0) == {"note": None}, "the worker that is started anew sends again"
    primary.push(0, {"w": 1}, Payload(array(1, 2)))
    assert primary.pull(0, {"w": 1}, SOON_S)[0].tolist() == [1, 2]


def test_who_waits_for_a_pull_is_told_at_once_of_a_push_that_does_not_fit():
    primary = keeper("primary")
    primary.create({"w": array(0, 0)})
    told = []

    def wait():
        try:
            primary.pull(0, {"w": 1}, SOON_S)
        except KVStoreError as error:
            told.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    with pytest.raises(KVStoreError):
        primary.push(0, {"w": 1}, Payload(array(1)))
    thread.join(SOON_S)
    assert told == ["push: key 'w' holds float32 of shape (2,), got float32 of shape (1,)."]


def test_rows_of_a_value():
    primary = keeper("primary")
    primary.create({"w": np.arange(6, dtype="float32")})
    (found,) = primary.pull(0, {"w": 0}, SOON_S, {"w": Rows(np.array([2, 0]), 2)})
    assert found.tolist() == [[4, 5], [0, 1]]


def test_a_pull_of_a_round_that_does_not_come_names_who_is_late():
    primary = keeper("primary", workers=2)
    primary.create({"w": array(0, 0)})
    primary.push(0, {"w": 1}, Payload(array(1, 2)))
    with pytest.raises(KVStoreTimeoutError, match=r"round 1 of key 'w' still waits for worker 1 after 0 s"):
        primary.pull(0, {"w": 1}, 0.0)


def test_only_who_has_the_state_may_take_over():
    first, second, third = (keeper(f"shard 0.{i}") for i in range(3))
    assert not second.describe()["ready"]
    first.adopt(Way(second), SOON_S)
    assert first.describe()["ready"] and second.describe()["ready"]
    with pytest.raises(KVStoreError, match="key 'w' is unknown"):
        second.follow(("push", 0, {"w": 1}, Payload(np.ones(2)), None))
    assert not second.describe()["ready"]
    with pytest.raises(KVStoreError, match="this replica has missed an event, and cannot take the shard over"):
        second.adopt(Way(third), SOON_S)


def test_a_replica_that_is_lost_while_it_is_brought_up_is_told():
    way = Way(keeper("shard 0.1"))
    way.gone = True
    with pytest.raises(KVStoreError, match="the new replica was lost before it was brought up"):
        keeper("shard 0.0").adopt(way, SOON_S)
