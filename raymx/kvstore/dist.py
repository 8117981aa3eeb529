"""Stores over many workers: a group of shards holds the values, each worker talks to all of them.

Keys lie on shards by hash; an array of more than `kvstore_bigarray_bound` elements is cut over all shards, between rows
if it has enough of them. Every worker counts its pushes of a key, and a pull gives the value after as many rounds as
this worker has pushed. Pushes and pulls return at once: the values of all keys of one device leave it in one parcel for
each shard and come in one, and a thread (see courier.py) does the rest.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from raymx import config, runtime
from raymx import ndarray as nd
from raymx import optimizer as opt
from raymx.actors.shard import Rows
from raymx.errors import KVStoreError
from raymx.kvstore import local, updating
from raymx.kvstore.compression import Compression
from raymx.kvstore.courier import Courier, Note, Parcel, Pull, Push
from raymx.runtime.store import kept

Key = local.Key


SET_OPTIMIZER, STOP, SYNC_MODE = 0, -1, -2  # MXNet's commands to servers


class Part(NamedTuple):
    """What one shard holds of a key: all of it, or `window` of its elements."""

    shard: int
    window: slice | None = None


class Kept(NamedTuple):
    """What a worker knows of a key."""

    shape: tuple[int, ...]
    dtype: np.dtype
    parts: list[Part]


def placed(key: Key, shape: Sequence[int], shards: int, bound: int) -> list[Part]:
    """The parts of a key: one, on a shard by hash, or, of an array with more than `bound` elements, one on each."""
    size = math.prod(shape)
    if size <= bound or shards == 1:
        number = key * 9973 if isinstance(key, int) else zlib.crc32(key.encode())
        return [Part(number % shards)]
    unit = size // shape[0] if shape[0] >= shards else 1
    edges = [size // unit * i // shards * unit for i in range(shards + 1)]
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
        self._note: Note | None = None
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
            local.check_new(self._kept, k, given)
            values[k] = given[0]
        for k, array in values.items():
            parts = placed(k, array.shape, self._job.shards, config.get("kvstore_bigarray_bound"))
            self._kept[k] = Kept(array.shape, array.dtype, parts)
            self._pushed[k] = self._noted.get(k, 0)
        if self.rank == 0:
            self._courier.create(self._first_values(values))
        self.barrier()

    def push(self, key, value, priority: int = 0) -> None:
        """Send the sum of each key's values, made on the device of the first. Higher priorities leave first."""
        pairs = local.pairs_of("push", key, value)
        for k, values in pairs:
            local.check(self._kept, "push", k, values)
        self._change_optimizer()
        leaving: dict[Any, dict[int, _Leaving]] = {}  # by lane and shard
        totals = [(k, _sum_on_first(values)) for k, values in pairs]
        for k, total in totals:
            self._pushed[k] += 1
            for part in self._kept[k].parts:
                leaving.setdefault(total._lane, {}).setdefault(part.shard, _Leaving()).add(k, part, total)
        parts: dict[int, list] = {}
        for lane, by_shard in leaving.items():
            for shard, parcel in self._parcels(lane, by_shard):
                parts.setdefault(shard, []).append(({k: self._pushed[k] for k in by_shard[shard].keys}, parcel))
        nbytes = sum(total.nbytes for _, total in totals)
        self._courier.push(Push([k for k, _ in pairs], parts, self._note, priority, nbytes))

    def pull(self, key, out=None, priority: int = 0) -> None:
        """Fill arrays with each key's value after the rounds that this worker has pushed. High priorities go first."""
        if out is None:
            raise KVStoreError(f"pull: out is missing for key {key!r}; give an NDArray or a list of them.")
        pairs = local.pairs_of("pull", key, out)
        for k, targets in pairs:
            self._check("pull", k, targets)
        wanted = [(part, k, target, part.window, None)
                  for k, targets in pairs for target in targets for part in self._kept[k].parts]  # fmt: skip
        self._pull(wanted, priority)

    def row_sparse_pull(self, key, out=None, priority: int = 0, row_ids=None) -> None:
        """Fill the rows `row_ids` of each array with those of the key's value; its other rows stay as they are. Only
        those rows travel, but for an array over the bound with fewer rows than there are shards."""
        if out is None or row_ids is None:
            raise KVStoreError(f"row_sparse_pull: key {key!r} needs out and row_ids.")
        pairs = local.pairs_of("row_sparse_pull", key, out)
        targets = [(k, target) for k, group in pairs for target in group]
        ids = row_ids if isinstance(row_ids, (list, tuple)) and _holds_arrays(row_ids) else [row_ids] * len(targets)
        if len(ids) != len(targets):
            raise KVStoreError(f"row_sparse_pull: {len(targets)} arrays need as many row_ids, got {len(ids)}.")
        for k, target in targets:
            self._check("row_sparse_pull", k, [target])
        for (k, target), numbers in zip(targets, ids, strict=True):
            rows = _checked_rows(k, numbers, target.shape[0])
            if self._cut_within_rows(k):
                whole = nd.empty(target.shape, target.context, target.dtype)
                self.pull(k, whole, priority)
                target[rows] = whole[rows]
            else:
                found = self._parts_of_rows(k, rows)
                self._pull([(part, k, target, here, some) for part, here, some in found], priority)

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

    def describe(self) -> list[dict[str, Any]]:
        """What each shard holds and has counted: keys, rounds, pushes, bytes, times; docs/guide.md says what."""
        return self._courier.everywhere("describe")

    def _send_command_to_servers(self, head: int, body: str | bytes) -> None:
        """MXNet's commands: head 0 is an optimizer, pickled, which is sent on as plain settings, as `set_optimizer`
        does, but nobody waits for the others; -2 is synchronous mode, which the store's type says. Raises KVStoreError
        for all others. Unpickles `body`."""
        if head == SET_OPTIMIZER:
            self._order("set_optimizer", updating.described(updating.loaded(body)))
        elif head == SYNC_MODE and "async" not in self.type:
            return
        else:
            raise KVStoreError(_refused(self.type, head))

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
        self._note = Note(step, (dict(self._pushed), self._barriers, self._orders, live), progress)

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

    # ---- inside ----

    def _first_values(self, values: Mapping[Key, nd.NDArray]) -> list[dict[Key, np.ndarray]]:
        """By shard, what each holds of the keys in the beginning."""
        by_shard: list[dict[Key, np.ndarray]] = [{} for _ in range(self._job.shards)]
        for k, value in zip(values, nd.fetch(list(values.values())), strict=True):
            host = value.result()
            for part in self._kept[k].parts:
                by_shard[part.shard][k] = host if part.window is None else host.reshape(-1)[part.window]
        return by_shard

    def _parcels(self, lane, by_shard: Mapping[int, _Leaving]) -> Iterable[tuple[int, Parcel]]:
        """Let values leave a device in one message; a parcel for each shard."""
        packed, each = self._compression, by_shard.values()
        keep = None if packed or lane.afar else kept
        ticket = lane.pack([some.places for some in each], [tuple(some.variables) for some in each], keep)
        for (shard, leaving), handle in zip(by_shard.items(), ticket.exports, strict=True):
            transform = None if packed is None else packed.of([(shard, k) for k in leaving.keys])
            yield shard, Parcel(lane, ticket, handle, leaving.nbytes, transform)

    def _pull(self, parts: Iterable[tuple[Part, Key, nd.NDArray, Any, Rows | None]], priority: int) -> None:
        """Let parts of keys come into windows of arrays, or rows of them."""
        wanted: dict[int, dict[Key, int]] = {}
        rows: dict[int, dict[Key, Rows]] = {}
        coming: dict[tuple[int, Any], tuple[list, dict]] = {}  # by shard and lane: places, and their variables
        position: dict[tuple[int, Key], int] = {}  # in what a shard answers
        nbytes = 0
        for part, key, target, window, some in parts:
            target._refuse_read_only()
            known = wanted.setdefault(part.shard, {})
            number = position.setdefault((part.shard, key), len(known))
            known[key] = self._pushed[key]
            if some is not None:
                rows.setdefault(part.shard, {})[key] = some
            places, variables = coming.setdefault((part.shard, target._lane), ([], {}))
            places.append((number, target._id, window))
            variables[target._var] = None
            nbytes += target.nbytes
        pull = Pull(wanted, rows, priority, nbytes)
        for (shard, lane), (places, variables) in coming.items():
            arrival = runtime.Arrival()
            lane.unpack(places, tuple(variables), arrival)
            pull.arrivals[shard].append((arrival, lane.afar))
        if wanted:
            self._courier.pull(pull)

    def _check(self, verb: str, key: Key, values: list[nd.NDArray]) -> None:
        local.check(self._kept, verb, key, values)

    def _cut_within_rows(self, key: Key) -> bool:
        return len(self._kept[key].parts) > self._kept[key].shape[0]

    def _parts_of_rows(self, key: Key, rows: np.ndarray) -> Iterable[tuple]:
        """(part, rows of the whole array that it has, the same as the shard counts them)."""
        width = math.prod(self._kept[key].shape[1:])
        for part in self._kept[key].parts:
            if part.window is None:
                here, first = rows, 0
            else:
                first = part.window.start // width
                here = rows[(rows >= first) & (rows < part.window.stop // width)]
            if len(here):
                yield part, here, Rows(here - first, width)


class _Leaving:
    """What leaves one device for one shard."""

    def __init__(self):
        self.keys: list[Key] = []
        self.places: list[tuple] = []  # (array, window)
        self.variables: dict[int, None] = {}
        self.nbytes = 0

    def add(self, key: Key, part: Part, array: nd.NDArray) -> None:
        self.keys.append(key)
        self.places.append((array._id, part.window))
        self.variables[array._var] = None
        window = part.window
        self.nbytes += array.nbytes if window is None else (window.stop - window.start) * array.dtype.itemsize


def _sum_on_first(values: list[nd.NDArray]) -> nd.NDArray:
    first = values[0]
    if len(values) == 1:
        return first
    return nd.ElementWiseSum(*(v.as_in_context(first.context) for v in values), num_args=len(values))


def _holds_arrays(values: Sequence) -> bool:
    return any(isinstance(each, (nd.NDArray, np.ndarray, list, tuple)) for each in values)


def _checked_rows(key: Key, given, count: int) -> np.ndarray:
    host = given.asnumpy() if isinstance(given, nd.NDArray) else np.asarray(given)
    rows = np.unique(host.astype("int64"))
    if len(rows) and not 0 <= rows[0] <= rows[-1] < count:
        raise KVStoreError(f"row_sparse_pull: key {key!r} has rows 0 to {count - 1}, got {rows[0]} to {rows[-1]}.")
    return rows


def _refused(type: str, head: int) -> str:
    why = {
        STOP: "the shards end with the job",
        SYNC_MODE: f"a store of the type {type!r} has no rounds; create one of the type 'dist_sync'",
    }.get(head, "shards run no code of the script; what is to happen there must be an Optimizer, see set_optimizer")
    return f"_send_command_to_servers: no shard takes the command {head!r}: {why}."
