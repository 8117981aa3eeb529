"""The training loop: batches through executors, updates with or without a store, metrics one batch behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from raymx import kvstore as kvs
from raymx import optimizer as opt
from raymx.errors import MXNetError, ParameterError
from raymx.executor_manager import DataParallelExecutorGroup, Snapshot, Stretch
from raymx.metric import EvalMetric

_JOINED = 1024 * 1024  # elements side by side up to which a store on devices handles them as one
_SMALL_MODEL = 16 * 1024 * 1024  # elements of the largest array up to which `local` updates in the store


class BatchEndParam(NamedTuple):
    """What a batch-end callback gets: the epoch, how many batches of it are done, the metric (which lacks the newest
    batch) and the loop's variables."""

    epoch: int
    nbatch: int
    eval_metric: EvalMetric | None
    locals: Any


# ---- updating parameters, with and without a store ----


def create_kvstore(kvstore, num_device: int, arg_params: Mapping) -> tuple[kvs.KVStore | None, bool]:
    """The store that `kvstore` (a store, a type or None) means, and whether it keeps the weights and updates them."""
    if isinstance(kvstore, str):
        if num_device == 1 and "dist" not in kvstore:
            return None, False
        if kvstore == "local":
            largest = max((array.size for array in arg_params.values()), default=0)
            kvstore = "local_update_cpu" if largest < _SMALL_MODEL else "local_allreduce_cpu"
        kvstore = kvs.create(kvstore)
    if kvstore is None:
        return None, False
    if not isinstance(kvstore, kvs.KVStore):
        raise ParameterError(f"kvstore must be a KVStore, the name of a type, or None, got {kvstore!r}.")
    return kvstore, kvstore.updates_in_store


def updating(group: DataParallelExecutorGroup, optimizer: opt.Optimizer, store: kvs.KVStore | None, in_store: bool,
             private: bool = True) -> Callable[[], None]:  # fmt: skip
    """A function that pushes one update of the group's parameters by their gradients.

    With `in_store` the store keeps the weights: gradients are pushed and weights pulled. Otherwise each device updates
    its own by the gradients, which the store has summed if there is one; parameter i then has index i * devices + k
    for the optimizer on device k. In a store that is `private`, parameters that lie side by side have one key.
    """
    stretches = group.stretches(_joining(store, private), _alike(optimizer))
    if store is not None:
        for stretch in stretches:
            store.init(stretch.key, stretch.values[0])
            if in_store:
                store.pull(stretch.key, stretch.values, priority=-stretch.key)
        if in_store:
            _let_update(store, stretches, optimizer)
            return lambda: _update_in_store(stretches, store)
    updater = opt.get_updater(optimizer)
    return lambda: _update_on_devices(stretches, updater, len(group.execs), store)


def _joining(store: kvs.KVStore | None, private: bool) -> Callable[[int], bool]:
    """Whether so many elements side by side may be handled as one; large ones are better spread over devices."""
    if store is None:
        return lambda size: True
    return lambda size: private and (size <= _JOINED or not store.on_devices)


def _alike(optimizer: opt.Optimizer) -> Callable[[str], Any]:
    """What must be equal for parameters that `optimizer` is to update as one: their multipliers, where the rule is
    elementwise and the multipliers go by name."""
    if not opt.is_elementwise(optimizer) or any(isinstance(n, int) for n in (*optimizer.lr_mult, *optimizer.wd_mult)):
        return lambda name: name
    decays = optimizer.wd != 0
    return lambda name: (optimizer.lr_mult.get(name, 1.0), decays and optimizer.wd_mult.get(name, 1.0))


def _let_update(store: kvs.KVStore, stretches: Sequence[Stretch], optimizer: opt.Optimizer) -> None:
    """Make the store apply `optimizer` to what is pushed, part by part."""
    if all(part.place is None for stretch in stretches for part in stretch.parts):
        store.set_optimizer(optimizer)
        return
    updater = opt.get_updater(optimizer)
    parts = {stretch.key: stretch.parts for stretch in stretches}

    def update(key, merged, stored):
        for number, values, _, place in parts[key]:
            if place is None:
                updater(number, merged, stored)
            else:
                shape = values[0].shape
                updater(number, merged[place].reshape(shape), stored[place].reshape(shape))

    store._set_updater(update)


def _update_in_store(stretches: Sequence[Stretch], store: kvs.KVStore) -> None:
    for key, values, grads, _ in stretches:
        store.push(key, grads, priority=-key)
        store.pull(key, values, priority=-key)


def _update_on_devices(stretches: Sequence[Stretch], updater, devices: int, store: kvs.KVStore | None) -> None:
    for key, _, grads, parts in stretches:
        if store is not None:
            store.push(key, grads, priority=-key)
            store.pull(key, grads, priority=-key)
        for part in parts:
            for k, (weight, grad) in enumerate(zip(part.values, part.grads, strict=True)):
                updater(part.number * devices + k, grad, weight)


# ---- executors ----


class Groups:
    """Executors for each symbol and shape that training meets; all use the parameters of the first group, `main`.

    - symbol_of: bucket key → symbol; the key is None without buckets.
    """

    def __init__(self, symbol_of: Callable, contexts, work_load_list, param_names: Sequence[str], monitor=None):
        self._symbol_of, self._contexts, self._work_load_list = symbol_of, contexts, work_load_list
        self._param_names, self._monitor = param_names, monitor
        self._groups: dict[Any, DataParallelExecutorGroup] = {}
        self.main: Any = None

    def for_iterator(self, data, for_training: bool = True) -> DataParallelExecutorGroup:
        """The group for batches of the shapes that an iterator provides."""
        key = getattr(data, "default_bucket_key", None)
        return self.find(data.provide_data, data.provide_label or (), key, for_training)

    def for_batch(self, batch, default: DataParallelExecutorGroup, for_training: bool = True):
        """The group for a batch: `default` unless the batch brings its own shapes."""
        if getattr(batch, "provide_data", None) is None:
            return default
        return self.find(batch.provide_data, batch.provide_label or (), batch.bucket_key, for_training)

    def find(self, data_shapes, label_shapes, bucket_key, for_training: bool) -> DataParallelExecutorGroup:
        shapes = tuple((name, tuple(shape)) for name, shape in (*data_shapes, *label_shapes))
        key = bucket_key, shapes
        if key not in self._groups:
            self._groups[key] = self._bind(self._symbol_of(bucket_key), data_shapes, label_shapes, for_training)
            self.main = self.main or self._groups[key]
        return self._groups[key]

    def _bind(self, symbol, data_shapes, label_shapes, for_training: bool) -> DataParallelExecutorGroup:
        arguments = set(symbol.list_arguments())
        names = [name for name in self._param_names if name in arguments]
        group = DataParallelExecutorGroup(symbol, self._contexts, self._work_load_list, data_shapes, label_shapes,
                                          names, for_training, self.main)  # fmt: skip
        if self._monitor is not None:
            group.install_monitor(self._monitor)
        return group


# ---- passes over the data ----


def train_epoch(groups: Groups, update: Callable[[], None], epoch: int, data, epoch_size: int | None, eval_metric,
                callbacks, monitor=None) -> None:  # fmt: skip
    """Train with the batches of one epoch. At its end the metric knows all of them."""
    pending: Snapshot | None = None
    for nbatch, batch in enumerate(_epoch(data, epoch_size), start=1):
        group = groups.for_batch(batch, groups.main)
        group.load(batch.data, batch.label)
        if monitor is not None:
            monitor.tic()
        group.forward(is_train=True)
        group.backward()
        update()
        if monitor is not None:
            monitor.toc_print()
        if eval_metric is not None:
            newest = group.snapshot(batch.label)
            if pending is not None:
                pending.feed(eval_metric)
            pending = newest
        if callbacks is not None:
            call(callbacks, BatchEndParam(epoch, nbatch, eval_metric, locals()))
    if pending is not None:
        pending.feed(eval_metric)


def score(group_of: Callable, epoch: int, data, eval_metric, callbacks, num_batch: int | None = None) -> None:
    """Feed the metric with the outputs for `data`, padding left out; `group_of(batch)` has the executors."""
    eval_metric.reset()
    pending: tuple[Snapshot, int] | None = None
    for nbatch, batch in enumerate(data):
        if nbatch == num_batch:
            break
        group = group_of(batch)
        group.load(batch.data, batch.label)
        group.forward(is_train=False)
        newest = group.snapshot(batch.label), batch.pad or 0
        if pending is not None:
            pending[0].feed(eval_metric, pending[1])
        pending = newest
        if callbacks is not None:
            call(callbacks, BatchEndParam(epoch, nbatch, eval_metric, locals()))
    if pending is not None:
        pending[0].feed(eval_metric, pending[1])


def predict(group: DataParallelExecutorGroup, data, num_batch: int | None = None) -> Iterator:
    """(batch, outputs on the host without padding) for each batch of `data`, one batch behind the device."""
    pending: tuple[Any, Snapshot] | None = None
    for nbatch, batch in enumerate(data):
        if nbatch == num_batch:
            break
        group.load(batch.data)
        group.forward(is_train=False)
        newest = batch, group.snapshot(None)
        if pending is not None:
            yield pending[0], pending[1].outputs(pending[0].pad or 0)
        pending = newest
    if pending is not None:
        yield pending[0], pending[1].outputs(pending[0].pad or 0)


def call(callbacks, *args) -> None:
    """Call one callback or a list of them; None is none."""
    if callbacks is None:
        return
    for callback in callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]:
        callback(*args)


def _epoch(data, epoch_size: int | None) -> Iterator:
    """Batches until `data` ends, which is then reset; or exactly `epoch_size` of them, over resets."""
    count = passes_without = 0
    while passes_without < 2:
        before = count
        for batch in data:
            yield batch
            count += 1
            if count == epoch_size:
                return
        data.reset()
        if epoch_size is None and count:
            return
        passes_without = passes_without + 1 if count == before else 0
    raise MXNetError("fit: the training iterator gives no batches.")
