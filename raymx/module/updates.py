"""Updating parameters by their gradients: on the devices or in a store, by an optimizer whose states can be kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from raymx import kvstore as kvs
from raymx import ndarray as nd
from raymx import optimizer as opt
from raymx.context import cpu
from raymx.errors import FormatError, MXNetError, ParameterError
from raymx.module.executor_group import DataParallelExecutorGroup, Part, Stretch

_SMALL_MODEL = 16 * 1024 * 1024  # elements of the largest array up to which `local` updates in the store
_COUNT = "count"  # in a file of states: how many updates a parameter has had


def opened(kvstore):
    """`kvstore`, made at once if it is the type of a distributed store."""
    return kvs.create(kvstore) if isinstance(kvstore, str) and kvstore in kvs.DISTRIBUTED else kvstore


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


class Updates:
    """Calling it pushes one update of a group's parameters by their gradients.

    With `in_store` the store keeps the weights: gradients are pushed and weights pulled. Otherwise each device updates
    its own by the gradients, which the store has summed if there is one; parameter i then has index i * devices + k
    for the optimizer on device k. In a store that is `private`, parameters that lie side by side have one key.

    `updater` has the optimizer's states; None where a store keeps them elsewhere.
    """

    def __init__(self, group: DataParallelExecutorGroup, optimizer: opt.Optimizer, store: kvs.KVStore | None,
                 in_store: bool, private: bool = True):  # fmt: skip
        self.optimizer, self._in_store = optimizer, in_store
        self._store: Any = store
        self._devices = len(group.execs)
        self._layout = _joining(store, private), _alike(optimizer)
        self._stretches = group.stretches(*self._layout)
        self.updater: Any = None
        if store is not None:
            store.init([each.key for each in self._stretches], [each.values[0] for each in self._stretches])
        if store is not None and in_store:
            self.pull()
            self.updater = _let_update(store, self._stretches, optimizer)
        else:
            self.updater = opt.get_updater(optimizer)

    def __call__(self) -> None:
        store = self._store
        if store is not None and (store.on_devices or store.updates_elsewhere):
            keys = [each.key for each in self._stretches]  # all at once: one message of a device, one call to a shard
            store.push(keys, [each.grads for each in self._stretches])
            store.pull(keys, [each.values if self._in_store else each.grads for each in self._stretches])
        elif store is not None:
            for key, values, grads, _ in self._stretches:
                store.push(key, grads, priority=-key)
                store.pull(key, values if self._in_store else grads, priority=-key)
        if not self._in_store:
            for stretch in self._stretches:
                self._update(stretch.parts)

    def _update(self, parts: Sequence[Part]) -> None:
        for part in parts:
            for k, (weight, grad) in enumerate(zip(part.values, part.grads, strict=True)):
                self.updater(part.number * self._devices + k, grad, weight)

    def move_to(self, group: DataParallelExecutorGroup) -> None:
        """From now on update the same parameters in the arrays of another group; states stay."""
        self._stretches = group.stretches(*self._layout)
        self.pull()

    def pull(self) -> None:
        """Take over the weights as the store has them, if it has."""
        for stretch in self._stretches if self._in_store else ():
            self._store.pull(stretch.key, stretch.values, priority=-stretch.key)

    # ---- states ----

    def save_states(self, fname) -> None:
        """Write the optimizer's states to a path or URL, a name for each parameter, so that they can be read with any
        number of devices and any store."""
        if self.updater is None:
            self._store.save_optimizer_states(fname)
        else:
            nd.save(fname, dict(self._states(self.updater)))

    def load_states(self, fname) -> None:
        """Read what `save_states` wrote. Raises FormatError for a file of another kind or another optimizer's."""
        if self.updater is None:
            self._store.load_optimizer_states(fname)
            return
        with cpu():
            found = nd.load(fname)
        if not isinstance(found, dict):
            raise FormatError(f"{fname}: no optimizer states: its arrays have no names.")
        for part, weight, index in self._indices():
            self._fill(fname, found, part, weight, index)

    def _indices(self) -> Iterator[tuple[Part, nd.NDArray, Any]]:
        """Each part with a weight and the index that the updater knows it by."""
        for stretch in self._stretches:
            for part in stretch.parts:
                if self._in_store:
                    yield part, part.values[0], part.number
                else:
                    for k, weight in enumerate(part.values):
                        yield part, weight, part.number * self._devices + k

    def _states(self, updater) -> Iterator[tuple[str, nd.NDArray]]:
        seen = set()
        for part, _, index in self._indices():
            if part.number in seen or index not in updater.states:
                continue
            seen.add(part.number)
            counts = self.optimizer._index_update_count
            for name, window in zip(part.names, part.windows, strict=True):
                for slot, state in enumerate(_slots(updater.states[index])):
                    if not isinstance(state, nd.NDArray):
                        raise MXNetError(f"save_optimizer_states: {type(self.optimizer).__name__} has the state "
                                         f"{state!r} of {name!r}; only NDArrays can be saved.")
                    yield f"{name}:{slot}", (state if window is None else state[window]).as_in_context(cpu())
                yield f"{name}:{_COUNT}", nd.array([counts.get(index, 0)], cpu(), "int32")

    def _fill(self, fname, found: Mapping, part: Part, weight, index) -> None:
        state = self.optimizer.create_state(index, weight)
        slots = _slots(state)
        for name, window in zip(part.names, part.windows, strict=True):
            count = found.get(f"{name}:{_COUNT}")
            if count is None:
                return  # it has had no update
            for slot, target in enumerate(slots):
                value = found.get(f"{name}:{slot}")
                target = target if window is None else target[window]
                if value is None or value.size != target.size:
                    got = "nothing" if value is None else f"shape {value.shape}"
                    raise FormatError(f"{fname}: the state of {name!r} must have {target.size} elements for "
                                      f"{type(self.optimizer).__name__}, got {got}; it is another optimizer's.")
                target[:] = value.reshape(target.shape)
            self.optimizer._index_update_count[index] = int(count.asscalar())
        self.optimizer.num_update = max(self.optimizer.num_update, self.optimizer._index_update_count[index])
        self.updater.states[index] = state


def make_optimizer(optimizer, group: DataParallelExecutorGroup, store, copies: int, settings) -> opt.Optimizer:
    """An optimizer as `optimizer` (a name or an Optimizer) says, for `copies` of each parameter, with the index
    i * copies + k; `rescale_grad` is 1 / batch size of all workers unless `settings` has another."""
    names = {i * copies + k: name for i, name in enumerate(group.param_names) for k in range(copies)}
    if isinstance(optimizer, opt.Optimizer):
        if not optimizer.idx2name:
            optimizer.idx2name = names
        return optimizer
    if not isinstance(optimizer, str):
        raise ParameterError(f"optimizer must be a name or an Optimizer, got {optimizer!r}.")
    batch_size = group.batch_size
    if store is not None and "dist" in store.type and "async" not in store.type:
        batch_size *= store.num_workers
    return opt.create(optimizer, **{"rescale_grad": 1.0 / batch_size, "param_idx2name": names, "sym": group.symbol,
                                    **dict(settings)})  # fmt: skip


def _joining(store: kvs.KVStore | None, private: bool) -> Callable[[int], bool]:
    """Whether so many elements side by side may be handled as one."""
    if store is None:
        return lambda size: True
    if store.updates_elsewhere:
        return lambda size: False  # its optimizer knows a parameter by its number
    return lambda size: private


def _alike(optimizer: opt.Optimizer) -> Callable[[str], Any]:
    """What must be equal for parameters that `optimizer` is to update as one: their multipliers, where the rule is
    elementwise and the multipliers go by name."""
    if not opt.is_elementwise(optimizer) or any(isinstance(n, int) for n in (*optimizer.lr_mult, *optimizer.wd_mult)):
        return lambda name: name
    decays = optimizer.wd != 0
    return lambda name: (optimizer.lr_mult.get(name, 1.0), decays and optimizer.wd_mult.get(name, 1.0))


def _let_update(store: kvs.KVStore, stretches: Sequence[Stretch], optimizer: opt.Optimizer) -> opt.Updater | None:
    """Make the store apply `optimizer` to what is pushed, part by part; the updater, if it is in this process."""
    if all(part.place is None for stretch in stretches for part in stretch.parts):
        store.set_optimizer(optimizer)
        updater = getattr(store, "_updater", None)
        return updater if isinstance(updater, opt.Updater) else None
    updater = opt.get_updater(optimizer)
    parts = {stretch.key: stretch.parts for stretch in stretches}

    def update(key, merged, stored):
        for part in parts[key]:
            if part.place is None:
                updater(part.number, merged, stored)
            else:
                shape = part.values[0].shape
                updater(part.number, merged[part.place].reshape(shape), stored[part.place].reshape(shape))

    store._set_updater(update)
    return updater


def _slots(state) -> list[Any]:
    """A state's arrays, in order."""
    if state is None:
        return []
    return [each for part in state for each in _slots(part)] if isinstance(state, (tuple, list)) else [state]
