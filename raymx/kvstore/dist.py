"""Stores over many workers: a group of shards holds the values, each worker talks to all of them.

Keys lie on shards by hash; an array of more than `kvstore_bigarray_bound` elements is cut over all shards. Every worker
counts its pushes of a key, and a pull gives the value after as many rounds as this worker has pushed. Pushes and pulls
return at once: a thread (the courier) waits for the values, sends one call per shard for all that has come together,
and hands what comes back to the devices.
"""

from __future__ import annotations

import queue
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from raymx import config, faults, runtime
from raymx import ndarray as nd
from raymx import optimizer as opt
from raymx.engine.segment import Failure
from raymx.errors import KVStoreError, KVStoreTimeoutError, ShardLostError
from raymx.kvstore import local, updating
from raymx.kvstore.compression import Compression

Key = local.Key


class Part(NamedTuple):
    """What one shard holds of a key: all of it, or `window` of its elements."""

    shard: int
    window: slice | None = None


class Kept(NamedTuple):
    """What a worker knows of a key."""

    shape: tuple[int, ...]
    dtype: np.dtype
    parts: list[Part]


def placed(key: Key, size: int, shards: int, bound: int) -> list[Part]:
    """The parts of a key with `size` elements: one, on a shard by hash, or one on each shard."""
    if size <= bound or shards == 1:
        number = key * 9973 if isinstance(key, int) else zlib.crc32(key.encode())
        return [Part(number % shards)]
    edges = [size * i // shards for i in range(shards + 1)]
    return [Part(i, slice(edges[i], edges[i + 1])) for i in range(shards)]


class DistKVStore(local.KVStore):
    """One worker's view of a distributed store; made by `create("dist_…")`.

    `push` sums a key's values on the device of the first, `pull` fills arrays on any devices. Without an optimizer a
    round's value is the sum over all workers; with one (`set_optimizer`) that is the gradient it applies. Raises
    KVStoreError as a local store does; what a shard refuses is raised by whoever reads a pulled array, or by `barrier`.
    """

    updates_in_store = updates_elsewhere = True
    on_devices = False

    def __init__(self, type: str):
        super().__init__(type)
        self._job = runtime.current_job()
        self.rank, self.num_workers = self._job.rank, self._job.workers
        self.num_shards, self.restarted = self._job.shards, self._job.attempt > 0
        self._kept: dict[Key, Kept] = {}
        self._pushed: dict[Key, int] = {}
        self._barriers = self._orders = 0  # how many there were, for those who count
        self._compression: Compression | None = None
        self._optimized = False  # whether the shards have an optimizer
        self._live: updating.Live | None = None  # that of worker 0
        self._note: tuple[int, Any] | None = None
        self.trainings = 0  # how many loops have begun on this store; see raymx.module.progress
        self._courier = Courier(runtime.shard_links(self._job, "async" not in type, self.close))
        self._noted: dict[Key, int] = {}  # how often each key had been pushed at the step to go on from
        self._counted: Any = 0, 0, None  # barriers, orders and the optimizer's settings at that step
        self.progress: Any = None  # what the worker that was here before noted of that step
        noted = self._courier.come_back() if self.restarted else None
        if noted is not None:
            (self._noted, *self._counted), self.progress = noted[1]

    # ---- values ----

    def init(self, key, value) -> None:
        """Give each key its first value: that of worker 0, whatever the others say. Waits for every worker."""
        values: dict[Key, nd.NDArray] = {}
        for k, given in local.pairs_of("init", key, value):
            if k in self._kept:
                raise KVStoreError(
                    f"init: key {k!r} already has a value of shape {self._kept[k].shape}; "
                    "a key is initialised once, push changes it."
                )
            if len(given) != 1:
                raise KVStoreError(f"init: key {k!r} needs one value, got {len(given)}.")
            self._check_kind(k)
            values[k] = given[0]
        for k, array in values.items():
            parts = placed(k, array.size, self._job.shards, config.get("kvstore_bigarray_bound"))
            self._kept[k] = Kept(array.shape, array.dtype, parts)
            self._pushed[k] = self._noted.get(k, 0)
        if self.rank == 0:
            hosts = {k: v.result() for k, v in zip(values, nd.fetch(list(values.values())), strict=True)}
            self._courier.create({k: (self._kept[k], host) for k, host in hosts.items()})
        self.barrier()

    def push(self, key, value, priority: int = 0) -> None:
        pairs = local.pairs_of("push", key, value)
        for k, values in pairs:
            self._check("push", k, values)
        self._change_optimizer()
        together = [(k, _sum_on_first(values)) for k, values in pairs]
        sends = []
        for k, total in together:
            self._pushed[k] += 1
            sends += [(part, k, self._pushed[k], piece) for part, piece in _cut(total, self._kept[k])]
        pieces = self._compressed(sends)
        note, self._note = self._note, None
        self._courier.push([(p.shard, k, n, v) for (p, k, n, _), v in zip(sends, pieces, strict=True)], note, priority)

    def pull(self, key, out=None, priority: int = 0) -> None:
        if out is None:
            raise KVStoreError(f"pull: out is missing for key {key!r}; give an NDArray or a list of them.")
        pairs = local.pairs_of("pull", key, out)
        for k, targets in pairs:
            self._check("pull", k, targets)
        wanted = []
        for k, targets in pairs:
            arrivals = [runtime.Arrival() for _ in targets]
            for target, arrival in zip(targets, arrivals, strict=True):
                target._refuse_read_only()
                target._lane.arrive(target._id, target._var, arrival)
            wanted.append((k, self._pushed[k], self._kept[k], arrivals))
        self._courier.pull(wanted, priority)

    def row_sparse_pull(self, key, out=None, priority: int = 0, row_ids=None) -> None:
        """Fill the rows `row_ids` of each array with those of the key's value; its other rows stay as they are."""
        if out is None or row_ids is None:
            raise KVStoreError(f"row_sparse_pull: key {key!r} needs out and row_ids.")
        pairs = local.pairs_of("row_sparse_pull", key, out)
        ids = row_ids if isinstance(row_ids, (list, tuple)) else [row_ids] * sum(len(t) for _, t in pairs)
        whole = {k: nd.empty(self._known("row_sparse_pull", k).shape, dtype=self._kept[k].dtype) for k, _ in pairs}
        self.pull(list(whole), list(whole.values()), priority)
        targets = [(k, target) for k, group in pairs for target in group]
        for (k, target), rows in zip(targets, ids, strict=True):
            self._check("row_sparse_pull", k, [target])
            rows = rows.asnumpy().astype("int64") if isinstance(rows, nd.NDArray) else np.asarray(rows, "int64")
            target[rows] = whole[k][rows].as_in_context(target.context)

    # ---- settings ----

    def set_optimizer(self, optimizer: opt.Optimizer) -> None:
        """Let the shards apply `optimizer`, whose pushes are gradients. Waits for every worker: all must call it, but
        only worker 0's counts.

        What the script changes of worker 0's optimizer later (`lr`, `wd`, `set_lr_mult`, its scheduler, …) holds from
        worker 0's next push on. Called again, with another optimizer, states stay if it is of the same class.
        """
        settings = updating.described(optimizer)
        if self._optimized:
            self.barrier()  # rounds under way are those of the optimizer before
        if self.rank == 0:
            self._order("set_optimizer", settings)
            self._live = updating.Live(optimizer)
        self._optimized = True
        self.barrier()

    def _change_optimizer(self) -> None:
        """Tell the shards, before the next push, what the script has changed of the optimizer."""
        changes = None if self._live is None else self._live.changes()
        if changes is not None:
            rounds = {key: number + 1 for key, number in self._pushed.items()}
            self._order("change_optimizer", changes, rounds, wait=False)

    def _set_updater(self, updater) -> None:
        raise KVStoreError(
            f"{self.type}: an updater of the script cannot run on the shards; make it an Optimizer in a "
            "module that they can import, and call set_optimizer."
        )

    set_updater = _set_updater

    def set_gradient_compression(self, compression_params: Mapping[str, Any]) -> None:
        """Send gradients smaller: `{"type": "2bit", "threshold": 0.5}`, with error feedback, or `{"type": "fp16"}`."""
        self._compression = Compression(**dict(compression_params))

    def owed(self) -> dict[str, np.ndarray]:
        """What compressed gradients have not sent yet, for `owe`."""
        owed = {} if self._compression is None else self._compression.owed
        return {f"{shard}:{key}": error for (shard, key), error in owed.items()}

    def owe(self, owed: Mapping[str, np.ndarray]) -> None:
        """Owe what `owed` gave."""
        if self._compression is not None:
            places = [(part.shard, key) for key, kept in self._kept.items() for part in kept.parts]
            known = {f"{shard}:{key}": (shard, key) for shard, key in places}
            self._compression.owed = {known[name]: np.array(error) for name, error in owed.items()}

    def save_optimizer_states(self, fname, dump_optimizer: bool = False) -> None:
        """Write the states that the shards hold, with update counts, to a path or URL."""
        import pickle

        from raymx import storage

        storage.write_bytes(fname, pickle.dumps(self._courier.everywhere("optimizer_states")))

    def load_optimizer_states(self, fname) -> None:
        """Read what `save_optimizer_states` wrote, for as many shards. Unpickles: only for files that you trust."""
        import pickle

        from raymx import storage

        states = pickle.loads(storage.read_bytes(fname))
        if len(states) != self._job.shards:
            raise KVStoreError(f"{fname}: states of {len(states)} shards, but there are {self._job.shards}.")
        self.load_states(dict(enumerate(states)))

    def states(self, shard: int) -> bytes:
        """The states that a shard holds, with update counts; no bytes without an optimizer."""
        return self._courier.one(shard, "optimizer_states") or b""

    def load_states(self, states: Mapping[int, bytes]) -> None:
        """Give shards what `states` gave; no bytes for nothing. Unpickles."""
        for shard, each in states.items():
            if each:
                self._order("load_optimizer_states", each, shards=(shard,))

    # ---- together ----

    def barrier(self) -> None:
        """Wait until every worker is here, and everything this one pushed has been taken."""
        self._barriers += 1
        self._courier.barrier(self._barriers)

    _barrier = barrier

    def tell(self, topic: str, value: Any, wait: bool = True) -> None:
        """Let the others, and a worker that is started anew in this one's place, know something."""
        self._order("tell", topic, value, shards=(0,), wait=wait)

    def told(self, topic: str) -> Any:
        """What was told last on a topic, or None. Does not wait for anybody to tell it."""
        return self._courier.one(0, "told", topic)

    def agree(self, topic: str, decide: Callable[[], Any]) -> Any:
        """What worker 0 decided on a topic, once for the whole job. Waits for every worker."""
        if self.rank == 0:
            self.tell(topic, self.told(topic) or (decide(),))
        self.barrier()
        return self.told(topic)[0]

    def note(self, step: Any, progress: Any) -> None:
        """Say with the next push how far this worker is as `step` begins, should it have to be started anew: it then
        finds this in `progress`, and its pulls give the weights with which the step began. A function is called as the
        push leaves, from another thread, and what it returns is kept."""
        live = None if self._live is None else self._live.noted()
        self._note = step, ((dict(self._pushed), self._barriers, self._orders, live), progress)

    def go_on(self) -> None:
        """Count barriers and orders from where they were when the step began that this worker goes on with, and let the
        optimizer have the settings of then."""
        self._barriers, self._orders, live = self._counted
        if live is not None and self._live is not None:
            self._live.go_on(live)

    def _order(self, method: str, *args, shards: Sequence[int] | None = None, wait: bool = True) -> None:
        """Let shards (all of them) call something that must not be repeated if this worker is started anew."""
        self._orders += 1
        self._courier.order(self._orders, range(self._job.shards) if shards is None else shards, method, args, wait)

    def close(self) -> None:
        """Push no more: rounds go on without this worker."""
        self._courier.close()

    def _compressed(self, sends) -> list[nd.HostValue | Any]:
        pieces = nd.fetch([piece for _, _, _, piece in sends])
        if self._compression is None:
            return pieces
        return [Late(self._compression, (part.shard, k), p) for (part, k, _, _), p in zip(sends, pieces, strict=True)]

    def _known(self, verb: str, key: Key) -> Kept:
        if key not in self._kept:
            known = ", ".join(map(repr, list(self._kept)[:8])) or "none"
            raise KVStoreError(f"{verb}: key {key!r} is unknown; call init first (known keys: {known}).")
        return self._kept[key]

    def _check(self, verb: str, key: Key, values) -> None:
        kept = self._known(verb, key)
        for value in values:
            if (value.shape, value.dtype) != (kept.shape, kept.dtype):
                raise KVStoreError(
                    f"{verb}: key {key!r} holds {kept.dtype} of shape {kept.shape}, got {value.dtype} of "
                    f"shape {value.shape}."
                )

    def _check_kind(self, key: Key) -> None:
        other = next(iter(self._kept), key)
        if type(other) is not type(key):
            raise KVStoreError(
                f"init: the keys of a store are all integers or all strings; it has {other!r}, got {key!r}."
            )


class Late(NamedTuple):
    """A value that is compressed once it is here."""

    compression: Compression
    place: Any
    value: nd.HostValue

    def result(self):
        return self.compression.pack(self.place, self.value.result())


class Courier:
    """The thread that talks to the shards, in the order of the calls."""

    def __init__(self, links):
        self._links = links
        self._failed: BaseException | None = None
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="raymx kvstore", daemon=True)
        self._thread.start()

    # ---- what the store asks ----

    def push(self, values, note, priority: int) -> None:
        self._refuse_failed()
        self._queue.put(("push", values, note))

    def pull(self, wanted, priority: int) -> None:
        self._queue.put(("pull", wanted))

    def create(self, values: Mapping[Key, tuple[Kept, np.ndarray]]) -> None:
        by_shard: list[dict] = [{} for _ in self._links]
        for key, (kept, host) in values.items():
            for part in kept.parts:
                by_shard[part.shard][key] = host if part.window is None else host.reshape(-1)[part.window]
        self._ask(lambda: [link.ask("create", each) for link, each in zip(self._links, by_shard, strict=True)])

    def order(self, number: int, shards: Sequence[int], method: str, args: tuple, wait: bool) -> None:
        links = [self._links[shard] for shard in shards]
        call = partial(self._order, links, number, method, args)
        if wait:
            self._ask(call)
        else:
            self._queue.put(("ask", call, Future()))

    def one(self, shard: int, method: str, *args) -> Any:
        """The answer of one shard."""
        return self._ask(partial(self._links[shard].ask, method, *args))

    def everywhere(self, method: str, *each) -> list:
        """The answers of all shards; `each` holds an argument for each of them."""
        arguments: list[tuple] = [(a,) for a in each] or [()] * len(self._links)
        return self._ask(lambda: [link.ask(method, *a) for link, a in zip(self._links, arguments, strict=True)])

    def come_back(self) -> tuple[int, Any] | None:
        """The latest step that the worker that was here before noted, and what."""
        answers = self._ask(lambda: [link.ask("come_back", link.job.rank) for link in self._links])
        notes = [answer["note"] for answer in answers if answer["note"] is not None]
        return max(notes, key=lambda note: note[0]) if notes else None

    def barrier(self, number: int) -> None:
        def call() -> None:
            for link in self._links:  # after all that was pushed
                link.ask("reach", link.job.rank, number)
            self._links[0].barrier(number)

        self._ask(call)

    def close(self) -> None:
        if not self._thread.is_alive():
            return
        self._ask(lambda: [link.ask("leave", link.job.rank) for link in self._links])
        self._queue.put(None)
        self._thread.join(timeout=5)

    def _ask(self, call: Callable[[], Any]) -> Any:
        """Let the thread make the call after everything before it; its answer."""
        answer: Future = Future()
        self._queue.put(("ask", call, answer))
        return answer.result()

    def _refuse_failed(self) -> None:
        if self._failed is not None:
            raise self._failed

    # ---- the thread ----

    def _work(self) -> None:
        ahead: list = []
        while (item := ahead.pop(0) if ahead else self._queue.get()) is not None:
            kind, *rest = item
            if kind == "ask":
                self._answer(*rest)
                continue
            group = [rest]
            while not ahead and not self._queue.empty():
                following = self._queue.get()
                if following is None or following[0] != kind or _meet(kind, group, following[1]):
                    ahead.append(following)
                else:
                    group.append(following[1:])
            (self._push if kind == "push" else self._pull)(group)

    @staticmethod
    def _order(links, number: int, method: str, args: tuple) -> None:
        for link in links:
            link.ask("order", link.job.rank, number, method, *args)

    def _answer(self, call, answer: Future) -> None:
        try:
            self._refuse_failed()
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    def _push(self, group) -> None:
        if self._failed is not None:
            return
        try:
            by_shard: dict[int, tuple[dict, list]] = {}
            note = _written([note for _, note in group if note is not None])
            for shard, key, number, value in (each for values, _ in group for each in values):
                numbers, values = by_shard.setdefault(shard, ({}, []))
                numbers[key] = number
                values.append(value.result())
            faults.point("push:before")
            for shard, (numbers, values) in by_shard.items():
                self._links[shard].push(numbers, values, note)
                faults.point("push:between")
        except BaseException as error:
            self._failed = error

    def _pull(self, group) -> None:
        items = [each for (wanted,) in group for each in wanted]
        try:
            self._refuse_failed()
            by_shard: dict[int, dict[Key, int]] = {}
            for key, version, kept, _ in items:
                for part in kept.parts:
                    by_shard.setdefault(part.shard, {})[key] = version
            faults.point("pull:before")
            refs = {shard: self._links[shard].pull(wanted) for shard, wanted in by_shard.items()}
            found: dict[tuple[int, Key], np.ndarray] = {}
            for shard, ref in refs.items():
                values = self._links[shard].values(ref, by_shard[shard])
                found.update(((shard, key), v) for key, v in zip(by_shard[shard], values, strict=True))
            faults.point("pull:after")
            for key, _, kept, arrivals in items:
                value = _joined(kept, [found[part.shard, key] for part in kept.parts])
                for arrival in arrivals:
                    arrival.come(value)
        except BaseException as error:
            if isinstance(error, (KVStoreTimeoutError, ShardLostError)):
                self._failed = error  # others would wait as long, one after the other
            failure = Failure("", -1, (0, 0), f"pull: {error}", error)
            for _, _, _, arrivals in items:
                for arrival in arrivals:
                    arrival.come(failure)


def _written(notes: list[tuple]) -> tuple | None:
    """The last note, with what it holds."""
    if not notes:
        return None
    step, (counts, progress) = notes[-1]
    return step, (counts, progress() if callable(progress) else progress)


def _meet(kind: str, group, following) -> bool:
    """Whether the following item names a key that is in the group already."""
    if kind == "push":
        known = {(shard, key) for values, _ in group for shard, key, _, _ in values}
        return any((shard, key) in known for shard, key, _, _ in following)
    known = {key for (wanted,) in group for key, *_ in wanted}
    return any(key in known for key, *_ in following)


def _joined(kept: Kept, parts: list[np.ndarray]) -> np.ndarray:
    return parts[0].reshape(kept.shape) if len(parts) == 1 else np.concatenate(parts).reshape(kept.shape)


def _sum_on_first(values: list[nd.NDArray]) -> nd.NDArray:
    first = values[0]
    if len(values) == 1:
        return first
    return nd.ElementWiseSum(*(v.as_in_context(first.context) for v in values), num_args=len(values))


def _cut(total: nd.NDArray, kept: Kept):
    """(part, its elements) of an array."""
    if len(kept.parts) == 1:
        return [(kept.parts[0], total)]
    flat = total.reshape((-1,))
    return [(part, flat[part.window]) for part in kept.parts]
