"""What a key-value shard knows and decides: values by key, the rounds under way, and what each worker has sent.

A plain class without thread, clock or Ray: events in, answers out. Whatever is fed with the same events in the same
order has the same state, bit for bit; a replica is a second shard that is fed with the first one's events.

Each worker counts its pushes of a key from 1: that is the push's *number*. A push whose number was seen before is
dropped, so a worker may send again what it is not sure of.

- `sync`: push n of all workers make round n of the key. A round is applied when the last of them is here, and sums
  them in the order of ranks, however they came. The value after n rounds is *version* n.
- otherwise each push is applied at once, and a version is the number of pushes applied.

The version before the current one is kept: a worker that died between its pushes to two shards comes back and
computes its step once more, from weights that one shard may have left behind already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from raymx.errors import KVStoreError

Key = int | str
NO_ROWS: Mapping[Key, Any] = {}  # all of each value


class Push(NamedTuple):
    """One key's part of a push."""

    key: Key
    number: int  # counts this worker's pushes of the key, from 1
    value: np.ndarray


class Rows(NamedTuple):
    """Which rows of a value are asked for, where a row has `width` elements."""

    numbers: np.ndarray
    width: int


@dataclass
class Entry:
    """One key. `frozen` holds copies that never change: of the version before, and of the current one once asked."""

    value: np.ndarray  # the current version; changed in place
    version: int = 0
    frozen: dict[int, np.ndarray] = field(default_factory=dict)
    sent: dict[int, int] = field(default_factory=dict)  # rank → number of its last push
    waiting: dict[int, dict[int, np.ndarray]] = field(default_factory=dict)  # round → rank → value, rounds not applied
    failed: dict[int, BaseException] = field(default_factory=dict)  # version, or ~rank → why an update changed nothing


def copied(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Copies that cannot be written."""
    copies = [array.copy() for array in arrays]
    for copy in copies:
        copy.flags.writeable = False
    return copies


class Shard:
    """State of one shard for workers 0 … `workers` - 1.

    `freeze(arrays)` makes copies that will not change, `empty(shape, dtype)` the memory for sums.
    `updater(key, merged, value)`, if set, changes `value` in place by what a round summed; without one the sum becomes
    the value.
    """

    def __init__(
        self,
        workers: int,
        sync: bool = True,
        freeze: Callable[[Sequence[np.ndarray]], list[np.ndarray]] = copied,
        empty: Callable[..., np.ndarray] = np.empty,
    ):
        self.workers, self.sync = workers, sync
        self.entries: dict[Key, Entry] = {}
        self.updater: Any = None
        self.changes: list[Mapping[Key, int]] = []  # of the updater's settings: the round of each key that is the first
        self.notes: dict[int, tuple[Any, Any]] = {}  # rank → its last step, and what it noted when that began
        self.told: dict[str, Any] = {}  # topic → what a worker lets the others know of it
        self.applied = 0  # rounds, or pushes where they are applied one by one
        self._gone: set[int] = set()  # ranks that will push no more
        self._barriers: dict[int, int] = {}  # rank → how many barriers it has reached
        self._orders: dict[int, int] = {}  # rank → number of the last order that it gave
        self._freeze, self._empty = freeze, empty

    # ---- events ----

    def create(self, key: Key, value: np.ndarray) -> None:
        """Give a key its first value; nothing if it has one of this shape and type already. Raises KVStoreError."""
        entry = self.entries.get(key)
        if entry is None:
            self.entries[key] = Entry(np.array(value))
        else:
            _check("init", key, entry.value, value)

    def push(self, rank: int, pushes: Sequence[Push]) -> list[Key]:
        """Take in one worker's values; the keys that have a new version now. Raises KVStoreError for unknown keys and
        values that do not fit, before anything changes."""
        self._check_rank(rank)
        last: dict[Key, int] = {}
        for key, number, value in pushes:
            entry = self._entry("push", key)
            _check("push", key, entry.value, value)
            before = last.get(key, entry.sent.get(rank, 0))
            if number > before + 1:
                raise KVStoreError(
                    f"push: key {key!r}: worker {rank} sends push {number}, but its last one here was "
                    f"{before}; those between are missing."
                )
            last[key] = max(before, number)
        fresh = [push for push in pushes if self._take(rank, push)]
        return [key for key in dict.fromkeys(p.key for p in fresh) if self._apply_complete(key)]

    def change_updater(self, changes: Any, rounds: Mapping[Key, int]) -> None:
        """Let the updater have other settings from round `rounds[key]` of each key on; in all rounds of keys that are
        not there, or where pushes are applied one by one. Raises KVStoreError without an updater."""
        if self.updater is None:
            raise KVStoreError("the store has no optimizer whose settings could change; call set_optimizer first.")
        while self.changes and all(e.version + 1 >= self.changes[0].get(k, 0) for k, e in self.entries.items()):
            self.updater.fold()
            del self.changes[0]
        self.updater.change(changes)
        self.changes.append(dict(rounds) if self.sync else {})

    def leave(self, rank: int) -> list[Key]:
        """This worker pushes no more: rounds it has not pushed for go on without it. The keys that have a new version
        now."""
        self._check_rank(rank)
        self._gone.add(rank)
        return [key for key in self.entries if self._apply_complete(key)]

    def come_back(self, rank: int) -> dict[Key, int]:
        """A worker that was started anew takes part again; how often it has pushed each key."""
        self._check_rank(rank)
        self._gone.discard(rank)
        return {key: entry.sent[rank] for key, entry in self.entries.items() if rank in entry.sent}

    def note(self, rank: int, step: Any, progress: Any) -> None:
        """Keep what a worker says of its progress at the beginning of a step, for the day when it is started anew."""
        self._check_rank(rank)
        if rank not in self.notes or step >= self.notes[rank][0]:
            self.notes[rank] = step, progress

    def ordered(self, rank: int, number: int) -> bool:
        """Whether a worker's order of this number, counted from 1, is new; one that was started anew repeats them."""
        self._check_rank(rank)
        fresh = number > self._orders.get(rank, 0)
        self._orders[rank] = max(number, self._orders.get(rank, 0))
        return fresh

    def reach(self, rank: int, number: int) -> bool:
        """A worker is at its barrier `number`, counted from 1; whether all are there."""
        self._check_rank(rank)
        self._barriers[rank] = max(number, self._barriers.get(rank, 0))
        return self.passed(number)

    # ---- questions ----

    def passed(self, number: int) -> bool:
        """Whether every worker has reached barrier `number` or left."""
        return not self.absent(number)

    def absent(self, number: int) -> list[int]:
        """The workers that have not reached barrier `number`."""
        return [r for r in range(self.workers) if r not in self._gone and self._barriers.get(r, 0) < number]

    def has(self, rank: int, key: Key, version: int) -> bool:
        """Whether `version` of the key is there, or, where pushes are applied one by one, so many of this worker's.
        Raises KVStoreError for an unknown key."""
        entry = self._entry("pull", key)
        return (entry.version if self.sync else entry.sent.get(rank, 0)) >= version

    def lagging(self, key: Key) -> list[int]:
        """The workers for whose push the next round of the key waits."""
        entry = self._entry("pull", key)
        return self._missing(entry, entry.version + 1)

    def ahead(self, rank: int, key: Key) -> list[int]:
        """Of the workers for whose push the next round waits, those at a later barrier than this one: they push no more
        before it comes there, too."""
        reached = self._barriers.get(rank, 0)
        return self.sync * [r for r in self.lagging(key) if self._barriers.get(r, 0) > reached]

    def get(self, rank: int, wanted: Mapping[Key, int], rows: Mapping[Key, Rows] = NO_ROWS) -> list[np.ndarray]:
        """Each key's value, or some rows of it, in the version that is wanted, if that is the one before the current,
        else the current one; copies that never change. Raises KVStoreError if the updater failed there, or, where
        pushes are applied one by one, at one of this worker's since it last asked."""
        entries = {key: self._entry("pull", key) for key in wanted}
        for key, entry in entries.items():
            failure = entry.failed.get(wanted[key]) if self.sync else entry.failed.pop(~rank, None)
            if failure is not None:
                raise failure
        self._freeze_current(key for key, e in entries.items() if wanted[key] not in e.frozen and key not in rows)
        found = {k: e.frozen.get(wanted[k], e.frozen.get(e.version, e.value)) for k, e in entries.items()}
        return [_rows(value, rows[key]) if key in rows else value for key, value in found.items()]

    # ---- the whole state ----

    def snapshot(self) -> dict[str, Any]:
        """Everything, for a new replica or a file; shares memory with this shard only where nothing changes."""
        self._freeze_current(self.entries)
        return {
            "workers": self.workers,
            "sync": self.sync,
            "entries": {
                key: (e.version, dict(e.frozen), dict(e.sent), {n: dict(r) for n, r in e.waiting.items()})
                for key, e in self.entries.items()
            },
            "changes": list(self.changes),
            "notes": dict(self.notes),
            "told": dict(self.told),
            "applied": self.applied,
            "gone": sorted(self._gone),
            "barriers": dict(self._barriers),
            "orders": dict(self._orders),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `snapshot` gave."""
        self.workers, self.sync, self.applied = state["workers"], state["sync"], state["applied"]
        self._gone, self._barriers = set(state["gone"]), dict(state["barriers"])
        self._orders, self.notes, self.told = dict(state["orders"]), dict(state["notes"]), dict(state["told"])
        self.changes = list(state["changes"])
        self.entries = {
            key: Entry(
                np.array(frozen[version]), version, dict(frozen), dict(sent), {n: dict(r) for n, r in rounds.items()}
            )
            for key, (version, frozen, sent, rounds) in state["entries"].items()
        }

    # ---- rounds ----

    def _take(self, rank: int, push: Push) -> bool:
        """Whether the push is new; a new one waits for its round."""
        entry = self.entries[push.key]
        if push.number <= entry.sent.get(rank, 0):
            return False
        entry.sent[rank] = push.number
        place = push.number if self.sync else entry.version + len(entry.waiting) + 1
        entry.waiting.setdefault(place, {})[rank] = push.value
        return True

    def _apply_complete(self, key: Key) -> bool:
        entry, before = self.entries[key], self.entries[key].version
        while (values := entry.waiting.get(entry.version + 1)) and self._complete(entry):
            del entry.waiting[entry.version + 1]
            self._apply(key, entry, dict(sorted(values.items())))
        return entry.version > before

    def _complete(self, entry: Entry) -> bool:
        return not self.sync or not self._missing(entry, entry.version + 1)

    def _missing(self, entry: Entry, number: int) -> list[int]:
        here = entry.waiting.get(number, {})
        return [r for r in range(self.workers) if r not in here and r not in self._gone]

    def _apply(self, key: Key, entry: Entry, values: Mapping[int, np.ndarray]) -> None:
        merged = total(list(values.values()), self._empty)
        old = entry.frozen.get(entry.version)
        if old is None:  # a value that is not changed in place needs no copy
            (old,) = copied([entry.value]) if self.updater is not None else [_read_only(entry.value)]
        entry.version += 1
        entry.frozen = {entry.version - 1: old}
        entry.failed = {v: e for v, e in entry.failed.items() if v < 0 or v >= entry.version - 1}
        self.applied += 1
        if self.updater is None:
            entry.value = merged if merged.flags.writeable else np.array(merged)
            return
        try:
            if self.changes:
                self.updater.at(sum(rounds.get(key, 0) <= entry.version for rounds in self.changes))
            self.updater(key, merged, entry.value)
        except Exception as error:
            entry.value[...] = old
            place = entry.version if self.sync else ~min(values)
            entry.failed[place] = _update_failed(key, entry.version, error)

    def _freeze_current(self, keys: Iterable[Key]) -> None:
        """Make copies of these keys' current versions where there are none."""
        entries = [e for e in (self.entries[k] for k in keys) if e.version not in e.frozen]
        for entry, copy in zip(entries, self._freeze([e.value for e in entries]), strict=True):
            entry.frozen[entry.version] = copy

    # ---- checks ----

    def _entry(self, verb: str, key: Key) -> Entry:
        entry = self.entries.get(key)
        if entry is None:
            known = ", ".join(map(repr, list(self.entries)[:8])) or "none"
            raise KVStoreError(f"{verb}: key {key!r} is unknown; call init first (known keys: {known}).")
        return entry

    def _check_rank(self, rank: int) -> None:
        if not 0 <= rank < self.workers:
            raise KVStoreError(f"worker {rank} is none of this store's {self.workers} (0 to {self.workers - 1}).")


def total(values: Sequence[np.ndarray], empty: Callable[..., np.ndarray] = np.empty) -> np.ndarray:
    """The sum from first to last; the only value itself."""
    if len(values) == 1:
        return values[0]
    merged = np.add(values[0], values[1], out=empty(values[0].shape, values[0].dtype))
    for value in values[2:]:
        np.add(merged, value, out=merged)
    return merged


def _read_only(value: np.ndarray) -> np.ndarray:
    view = value.view()
    view.flags.writeable = False
    return view


def _rows(value: np.ndarray, rows: Rows) -> np.ndarray:
    return value.reshape(-1, rows.width)[rows.numbers]


def _check(verb: str, key: Key, stored: np.ndarray, value: np.ndarray) -> None:
    if value.shape != stored.shape or value.dtype != stored.dtype:
        raise KVStoreError(
            f"{verb}: key {key!r} holds {stored.dtype} of shape {stored.shape}, got {value.dtype} of "
            f"shape {value.shape}."
        )


def _update_failed(key: Key, version: int, error: Exception) -> KVStoreError:
    failure = KVStoreError(
        f"the updater failed at round {version} of key {key!r}, whose value is left as it was: "
        f"{type(error).__name__}: {error}"
    )
    failure.__cause__ = error
    return failure
