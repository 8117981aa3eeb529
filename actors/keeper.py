"""Keeps a shard in its process: lets pulls and barriers wait, passes events on to a replica, runs the optimizer.

Thread-safe and without Ray: a replica is anything with `send(event)`, which returns a ticket to `wait` for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from raymx import config, faults, trace
from raymx.actors.measures import Measures
from raymx.actors.shard import NO_ROWS, Key, Push, Rows, Shard
from raymx.errors import KVStoreError, KVStoreTimeoutError

_log = logging.getLogger("raymx")


class Ticket(Protocol):
    """An event under way to a replica."""

    def wait(self, timeout_s: float) -> bool:
        """Wait until the replica has taken the event in; whether it has. Raises ReplicaGone, or anything else if it is
        there and has not."""


class ReplicaGone(Exception):
    """The process of a replica has ended."""


class Replica(Protocol):
    """The way to the replica's keeper."""

    def send(self, event: tuple) -> Ticket:
        """Let the replica's `follow` take the event in, after those sent before."""


class _Sent(NamedTuple):
    """An event that the replica was sent: the how many-th, and its ticket."""

    number: int
    ticket: Ticket


class Keeper:
    """One shard. `optimizers(settings)` makes an updater, like `raymx.kvstore.updating.ArrayUpdater`, from what
    `set_optimizer` was given; `get(payload)` gives the arrays of a push, or raises if they are lost.

    Events are taken in by one thread. A push that cannot be taken in changes nothing, and its worker is told when it
    next asks for something. A replica that could not follow an event follows none until it is restored.
    """

    def __init__(self, name: str, shard: Shard, optimizers: Callable[[Any], Any], get: Callable = list):
        self.name, self.shard = name, shard
        self._configured: bool | None = None
        self._optimizers, self._get = optimizers, get
        self._ready = False  # whether this is a shard with its history, and no replica that waits for it
        self._changed = threading.Condition(threading.RLock())
        self._replica: Replica | None = None
        self._sent: _Sent | None = None  # the last event that it was sent
        self._events = 0  # how many were sent, to whichever replica
        self._adopted_at = self._restored_at = 0  # their number when this replica came, and when it last got it all
        self._behind: BaseException | None = None  # in a replica: the event that it could not follow
        self._refused: dict[int, KVStoreError] = {}  # rank → why a push of it was not taken in
        self.measures = Measures()
        self._answers = False  # whether workers talk to this one; what only follows counts nothing
        self._begun: dict[Key, float] = {}  # when the first push came of a round under way
        self._pulled: dict[tuple[int, Key], int] = {}  # the version that a worker pulled last, in dist_async
        self._reached: dict[int, float] = {}  # when a worker came to its barrier

    # ---- from workers ----

    def create(self, values: Mapping[Key, np.ndarray]) -> None:
        """Give keys their first values."""
        self._take(("create", dict(values)))

    def push(self, rank: int, numbers: Mapping[Key, int], payload: Any, note: tuple[int, Any] | None = None) -> None:
        """Take in one worker's values of these keys, in their order, and what it notes of its progress. What is wrong
        with them is raised when the worker next pulls or comes to a barrier."""
        self._answers = True
        began = trace.begin()
        try:
            self._take(("push", rank, dict(numbers), payload, note))
        except Exception as error:
            with self._changed:
                self._refused[rank] = error if isinstance(error, KVStoreError) else _unread(rank, error)
                self._changed.notify_all()
            raise
        trace.end(began, "events", "receive push of worker %d", rank)

    def configure(self, sync: bool) -> None:
        """Whether rounds wait for all workers. Raises KVStoreError if a worker has said otherwise."""
        self._take(("configure", sync))

    def optimizer_states(self) -> bytes | None:
        """The optimizer's states, with counts; None without an optimizer."""
        faults.point("states")
        with self._changed:
            return None if self.shard.updater is None else self.shard.updater.get_states()

    def load_optimizer_states(self, states: bytes) -> None:
        """Take over what `optimizer_states` gave. Raises KVStoreError without an optimizer."""
        self._take(("load_optimizer_states", states))

    def set_optimizer(self, settings: Any) -> None:
        """From now on rounds are gradients, which this optimizer applies; settings may be given again, changed."""
        self._take(("set_optimizer", settings))

    def order(self, rank: int, number: int, method: str, *args) -> None:
        """Take in `set_optimizer`, `change_optimizer`, `load_optimizer_states` or `tell` once, though a worker that was
        started anew asks for it again: its orders are numbered from 1."""
        self._take(("order", rank, number, method, args))
        self.settle(config.get("timeout_s") or 1e9)  # its worker does not give it again

    def tell(self, topic: str, value: Any) -> None:
        """Keep what a worker lets the others know."""
        self._take(("tell", topic, value))

    def told(self, topic: str) -> Any:
        """What a worker told last, or None."""
        with self._changed:
            return self.shard.told.get(topic)

    def leave(self, rank: int) -> None:
        """This worker pushes no more."""
        self._take(("leave", rank))

    def come_back(self, rank: int) -> dict[str, Any]:
        """What a worker that was started anew must know: what it noted last."""
        self._refused.pop(rank, None)
        self._take(("come_back", rank))
        return {"note": self.shard.notes.get(rank)}

    def pull(
        self, rank: int, wanted: Mapping[Key, int], timeout_s: float, rows: Mapping[Key, Rows] = NO_ROWS
    ) -> list[np.ndarray]:
        """The values of these keys, or rows of them, in these versions. Waits for them, and until the replica has what
        they show; raises KVStoreTimeoutError that names who is late, or what was wrong with a push."""
        deadline, began = time.monotonic() + timeout_s, trace.begin()
        with self._changed:
            while late := [key for key, version in wanted.items() if not self.shard.has(rank, key, version)]:
                self._tell_refused(rank)
                if ahead := self.shard.ahead(rank, late[0]):
                    raise self._unequal(late[0], ahead)
                if not self._changed.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    raise self._straggling(late, timeout_s)
            values, sent = self.shard.get(rank, wanted, rows), self._sent
            self.measures.add("pulls", rank)
            if not self.shard.sync:
                self._pulled.update(((rank, key), self.shard.entries[key].version) for key in wanted)
        self._confirm(sent, deadline)
        trace.end(began, "pulls", "answer pull of worker %d", rank)
        faults.point("pull:answering")
        return values

    def reach(self, rank: int, number: int, timeout_s: float) -> None:
        """A worker is at its barrier `number`: everything that it pushed is safe then. Raises what was wrong with a
        push."""
        self._tell_refused(rank)
        self._take(("reach", rank, number))
        self.settle(timeout_s)

    def settle(self, timeout_s: float) -> None:
        """Wait until the replica has everything that was taken in."""
        self._confirm(self._sent, time.monotonic() + timeout_s)

    def barrier(self, number: int, timeout_s: float) -> None:
        """Wait until every worker has reached its barrier `number` or left."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while absent := self.shard.absent(number):
                if not self._changed.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    raise KVStoreTimeoutError(f"{self.name}: barrier {number} still waits for {_workers(absent)} after "
                                              f"{timeout_s:g} s (switch timeout_s).")  # fmt: skip

    # ---- from the supervisor and from a primary ----

    def follow(self, event: tuple) -> None:
        """Take in an event that the primary has taken in. Raises KVStoreError if it is behind."""
        if event[0] == "restore":
            self._behind = None
        if self._behind is not None:
            raise KVStoreError(f"{self.name}: this replica waits to be restored ({_words(self._behind)}).")
        began = trace.begin()
        try:
            self._take(event)
        except Exception as error:
            self._behind = error
            raise
        trace.end(began, "events", "follow %s", event[0])

    def adopt(self, replica: Replica | None, timeout_s: float) -> None:
        """Bring a new replica up to this state and pass every later event on to it; None for no replica. Raises
        KVStoreError if it is lost meanwhile, or if this one was a replica that missed an event."""
        if self._behind is not None:
            raise KVStoreError(f"{self.name}: this replica has missed an event, and cannot take the shard over.")
        with self._changed:
            self._ready, self._replica = True, replica
            self._restore_replica()
            self._adopted_at, sent = self._restored_at, self._sent
        self._confirm(sent, time.monotonic() + timeout_s)
        if self._replica is not replica:
            raise KVStoreError(f"{self.name}: the new replica was lost before it was brought up.")

    def snapshot(self) -> dict[str, Any]:
        """The whole state, the optimizer's included."""
        faults.point("checkpoint")
        with self._changed:
            updater, optimizer = self.shard.updater, None
            if updater is not None:
                optimizer = updater.settings, updater.get_states(), list(updater.pending)
            return {"shard": self.shard.snapshot(), "optimizer": optimizer}

    def describe(self) -> dict[str, Any]:
        """What the shard holds, and what `measures` has counted."""
        with self._changed:
            entries = self.shard.entries
            return {
                "name": self.name,
                "keys": len(entries),
                "ready": self._ready and self._behind is None,
                "applied": self.shard.applied,
                **self.measures.describe(),
                "versions": {key: entry.version for key, entry in entries.items()},
            }

    # ---- events ----

    def _take(self, event: tuple) -> Any:
        """Let the shard take an event in, pass it on, and wake up who waits."""
        taken = (*event[:3], self._read(event[3]), *event[4:]) if event[0] == "push" else event
        with self._changed:
            result = getattr(self, f"_on_{event[0]}")(*taken[1:])
            self._ready = True
            if self._replica is not None:
                self._pass_on(event)
            self._changed.notify_all()
            return result

    def _pass_on(self, event: tuple) -> None:
        self._events += 1
        try:
            self._sent = _Sent(self._events, self._replica.send(event))  # type: ignore[union-attr]
        except Exception:  # it is gone; the supervisor brings another one
            self._replica = self._sent = None

    def _restore_replica(self) -> None:
        """Send the whole state to the replica, if there is one."""
        self._sent = None
        self._restored_at = self._events + 1
        if self._replica is not None:
            self._pass_on(("restore", self.snapshot()))

    def _read(self, payload: Any) -> list[np.ndarray]:
        """The arrays of a push; before anybody is held up by it, as they may lie on another node."""
        faults.point("push:received")
        return self._get(payload)

    def _tell_refused(self, rank: int) -> None:
        if rank in self._refused:
            raise self._refused[rank]

    def _on_create(self, values: Mapping[Key, np.ndarray]) -> None:
        for key, value in values.items():
            self.shard.create(key, value)

    def _on_push(self, rank: int, numbers: Mapping[Key, int], values: list, note: tuple[int, Any] | None) -> None:
        pushes = [Push(key, number, value) for (key, number), value in zip(numbers.items(), values, strict=True)]
        if self._answers:
            self._count(rank, pushes)
        began = trace.begin()
        applied = self.shard.push(rank, pushes)
        if applied:
            trace.end(began, "events", "apply round")
        if self._answers and applied:
            self._time(rank, applied)
        if note is not None:
            self.shard.note(rank, *note)
        faults.point("push:applied")

    def _count(self, rank: int, pushes: Sequence[Push]) -> None:
        entries, now = self.shard.entries, time.monotonic()
        known = [push for push in pushes if push.key in entries]
        self.measures.add("pushes", rank, len(pushes))
        self.measures.add("bytes", rank, sum(push.value.nbytes for push in pushes))
        self.measures.add("dropped", rank, sum(p.number <= entries[p.key].sent.get(rank, 0) for p in known))
        for push in known:
            self._begun.setdefault(push.key, now)
        if not self.shard.sync and known:
            behind = max(entries[p.key].version - self._pulled.get((rank, p.key), 0) for p in known)
            self.measures.sample("staleness", rank, behind)

    def _time(self, rank: int, applied: Sequence[Key]) -> None:
        self.measures.add("applied", rank, len(applied))
        begun = [self._begun.pop(key) for key in applied if key in self._begun]
        if self.shard.sync and begun:
            self.measures.sample("round_seconds", rank, time.monotonic() - min(begun))

    def _on_set_optimizer(self, settings: Any) -> None:
        updater = self._optimizers(settings)
        if self.shard.updater is not None:
            updater.go_on_from(self.shard.updater)
        self.shard.updater, self.shard.changes = updater, []

    def _on_change_optimizer(self, changes: Any, rounds: Mapping[Key, int]) -> None:
        self.shard.change_updater(changes, rounds)

    def _on_order(self, rank: int, number: int, method: str, args: tuple) -> None:
        if self.shard.ordered(rank, number):
            getattr(self, f"_on_{method}")(*args)

    def _on_tell(self, topic: str, value: Any) -> None:
        self.shard.told[topic] = value

    def _on_configure(self, sync: bool) -> None:
        if self._configured not in (None, sync):
            words = {True: "dist_sync", False: "dist_async"}
            raise KVStoreError(f"a worker asks for {words[sync]}, but others for {words[not sync]}.")
        self._configured = self.shard.sync = sync

    def _on_load_optimizer_states(self, states: bytes) -> None:
        if self.shard.updater is None:
            raise KVStoreError("load_optimizer_states: the store has no optimizer; call set_optimizer first.")
        self.shard.updater.set_states(states)

    def _on_leave(self, rank: int) -> None:
        self.shard.leave(rank)

    def _on_come_back(self, rank: int) -> dict[Key, int]:
        return self.shard.come_back(rank)

    def _on_reach(self, rank: int, number: int) -> None:
        now = time.monotonic()
        self._reached[rank] = now
        if self.shard.reach(rank, number):
            for each, since in self._reached.items():
                self.measures.sample("barrier_seconds", each, now - since)
            self._reached.clear()

    def _on_restore(self, state: Mapping[str, Any]) -> None:
        self.shard.restore(state["shard"])
        self.shard.updater = None
        if state["optimizer"] is not None:
            settings, states, pending = state["optimizer"]
            updater = self.shard.updater = self._optimizers(settings)
            updater.set_states(states)
            for changes in pending:
                updater.change(changes)

    # ---- waiting ----

    def _confirm(self, sent: _Sent | None, deadline: float) -> None:
        """Wait until the replica has taken in what was sent. One that is gone holds nobody up, and one that could not
        follow gets the whole state."""
        while sent is not None:
            try:
                if sent.ticket.wait(max(0.0, deadline - time.monotonic())):
                    return
            except ReplicaGone:
                self._drop(sent)
                return
            except Exception as error:
                sent = self._restored(sent, error)
            else:
                raise KVStoreTimeoutError(f"{self.name} still waits for its replica (switch timeout_s).")

    def _restored(self, failed: _Sent, error: Exception) -> _Sent | None:
        """What to wait for instead of what the replica has not followed."""
        with self._changed:
            if failed.number == self._restored_at:
                _log.warning("%s: its replica cannot be restored (%s)", self.name, _words(error))
                self._drop(failed)
            elif failed.number > self._restored_at:
                self._restore_replica()
            return self._sent

    def _drop(self, failed: _Sent) -> None:
        """Feed the replica no more, unless another one has come since."""
        with self._changed:
            if failed.number >= self._adopted_at:
                self._replica = self._sent = None

    def _unequal(self, key: Key, ahead: Sequence[int]) -> KVStoreError:
        return KVStoreError(
            f"{self.name}: round {self.shard.entries[key].version + 1} of key {key!r} would wait for ever for "
            f"{_workers(ahead)}, which waits at a barrier or checkpoint; between two of them all workers must push "
            "equally often: give each the same number of batches (epoch_size, ResizeIter)."
        )

    def _straggling(self, late: Sequence[Key], timeout_s: float) -> KVStoreError:
        key = late[0]
        others = f" and {len(late) - 1} more keys" if len(late) > 1 else ""
        return KVStoreTimeoutError(
            f"{self.name}: round {self.shard.entries[key].version + 1} of key {key!r}{others} still waits for "
            f"{_workers(self.shard.lagging(key))} after {timeout_s:g} s (switch timeout_s)."
        )


def _unread(rank: int, error: Exception) -> KVStoreError:
    refused = KVStoreError(f"push: the values of worker {rank} could not be read ({_words(error)}).")
    refused.__cause__ = error
    return refused


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}".rstrip(". ")


def _workers(ranks: Sequence[int]) -> str:
    return f"worker{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
