"""Stores within one script: values that several devices push sums to and pull from.

    kv = mx.kv.create("local")
    kv.init(3, mx.nd.zeros(shape))
    kv.push(3, [gradient_of_gpu0, gradient_of_gpu1])    # summed in this order
    kv.pull(3, out=[weight_of_gpu0, weight_of_gpu1])

Without an updater a push replaces the stored value by the sum; with one, `updater(key, sum, stored)` changes `stored`.
Every push and pull only records work for the devices and returns. Sums are made in the order given, so equal pushes
give equal bits. Between device actors a large value of a `device` store is cut: each sums its share, see shares.py.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from raymx import ndarray as nd
from raymx import optimizer as opt
from raymx import runtime, storage
from raymx.context import Context, cpu
from raymx.errors import KVStoreError
from raymx.kvstore import shares
from raymx.kvstore.shares import Shares

ON_CPU = ("local", "local_update_cpu", "local_allreduce_cpu")
ON_DEVICES = ("device", "local_allreduce_device")
Key = int | str


class KVStore:
    """A store within one script. `local` types keep values and sum on cpu(0); `device` types on the devices that push:
    small values spread by size, large ones cut over all of them.

    Keys are integers, or all strings. A method that takes a key also takes a list of keys, with a list of values (each
    an NDArray, or for push and pull a list of them) of the same length. Keys are served in ascending order, whatever
    order they are given in; a key that stands twice in a push has its values summed. `priority` is accepted and has no
    effect. Raises KVStoreError, with the key, for unknown keys and values that do not fit.
    """

    updates_elsewhere = False  # whether an optimizer runs in other processes, and a function of the script cannot
    rank = 0
    num_workers = 1

    def __init__(self, type: str = "local"):
        self.type = type
        self._stored: dict[Key, nd.NDArray | Shares] = {}
        self._homes: dict[Key, Context] = {}  # where a key's value lies; device types decide at the first push
        self._updater: Callable[[Key, nd.NDArray, nd.NDArray], Any] | None = None

    @property
    def on_devices(self) -> bool:
        """Whether values lie and are summed on the devices that push, rather than on cpu(0)."""
        return self.type in ON_DEVICES

    @property
    def updates_in_store(self) -> bool:
        """Whether training lets a store of this type keep and update the weights, rather than sum gradients only."""
        return self.type in ("local", "local_update_cpu")

    def init(self, key, value) -> None:
        """Give each key its first value, an NDArray of any device; once per key."""
        for k, values in pairs_of("init", key, value):
            check_new(self._stored, k, values)
            self._stored[k] = values[0].copyto(values[0].context if self.on_devices else cpu())
            if not self.on_devices:
                self._homes[k] = cpu()

    def push(self, key, value, priority: int = 0) -> None:
        """Sum each key's values, in the order given, into the store: by the updater if there is one, else in place of
        the stored value."""
        pairs = pairs_of("push", key, value)
        for k, values in pairs:
            self._check("push", k, values)
        between = self.on_devices and self._updater is None
        cut = {k: values for k, values in pairs if between and shares.possible(values)}
        shares.push([(self._cut(k, [v.context for v in values]), values) for k, values in cut.items()])
        pairs = [(k, values) for k, values in pairs if k not in cut]
        for k, values in pairs:
            self._settle(k, [v.context for v in values])
        for (k, _), values in zip(pairs, self._at_home(pairs), strict=True):
            self._update(k, values)

    def pull(self, key, out=None, priority: int = 0) -> None:
        """Copy each key's value into one or many arrays on any devices."""
        if out is None:
            raise KVStoreError(f"pull: out is missing for key {key!r}; give an NDArray or a list of them.")
        pairs = pairs_of("pull", key, out)
        for k, targets in pairs:
            self._check("pull", k, targets)
        between: list[tuple[Shares, list[nd.NDArray]]] = []
        copies: list[tuple[nd.NDArray, nd.NDArray]] = []
        for k, targets in pairs:
            stored = self._stored[k]
            if isinstance(stored, Shares) and stored.serves(targets):
                between.append((stored, targets))
            else:
                whole = stored.whole(targets[0].context) if isinstance(stored, Shares) else stored
                copies += [(whole, target) for target in targets]
        shares.pull(between)
        nd.copy_all([source for source, _ in copies], [target for _, target in copies])

    def _set_updater(self, updater: Callable[[Key, nd.NDArray, nd.NDArray], Any]) -> None:
        """From now on a push calls `updater(key, merged, stored)`, here and before it returns, for each key; it changes
        `stored` in place and may do what it likes with `merged`."""
        self._updater = updater

    set_updater = _set_updater

    def set_optimizer(self, optimizer: opt.Optimizer) -> None:
        """Let the store keep weights: a push is a gradient, which `optimizer` applies."""
        self._set_updater(opt.get_updater(optimizer))

    def save_optimizer_states(self, fname) -> None:
        """Write the optimizer's states to a path or URL; raises KVStoreError without an optimizer."""
        storage.write_bytes(fname, self._optimizer_of("save_optimizer_states").get_states())

    def load_optimizer_states(self, fname) -> None:
        """Read what `save_optimizer_states` wrote. The file is unpickled: only for files that you trust."""
        self._optimizer_of("load_optimizer_states").set_states(storage.read_bytes(fname))

    def _barrier(self) -> None:
        """Wait for all workers: there is one."""

    def _send_command_to_servers(self, head: int, body: str) -> None:
        """Nothing: there are no servers."""

    def _update(self, key: Key, values: list[nd.NDArray]) -> None:
        stored: Any = self._stored[key]
        if self._updater is None:
            _sum(values, out=stored)
        elif len(values) == 1 and isinstance(self._updater, opt.Updater):  # it only reads the gradient: spare a copy
            self._updater(key, values[0], stored)
        else:
            self._updater(key, _sum(values), stored)

    def _at_home(self, pairs) -> list[list[nd.NDArray]]:
        """The values to push, each on its key's home: what lies elsewhere is copied, in one go for all keys."""
        there: list[list[nd.NDArray]] = []
        away: list[tuple[nd.NDArray, nd.NDArray]] = []
        for key, values in pairs:
            home = self._stored[key].context
            there.append([v if v.context == home else nd.empty(v.shape, home, v.dtype) for v in values])
            away += [(v, t) for v, t in zip(values, there[-1], strict=True) if v is not t]
        nd.copy_all([v for v, _ in away], [t for _, t in away])
        return there

    def _cut(self, key: Key, devices: list[Context]) -> Shares:
        """The value of `key`, cut over these devices; a small one lies on its home among them."""
        stored = self._stored[key]
        if isinstance(stored, Shares) and stored.devices == tuple(devices):
            return stored
        runtime.introduce([device.lane for device in devices])
        self._settle(key, devices)
        owners, home = devices[: shares.count(stored.nbytes, len(devices))], self._homes[key]
        whole: Any = self._stored[key]
        if len(owners) == 1:
            owners = [home if home in devices else devices[0]]
        self._stored[key] = cut = Shares(whole, devices, owners)
        return cut

    def _settle(self, key: Key, devices: list[Context]) -> None:
        """Decide where `key`, and with it every key without a home, lives, and move it there. A value that was cut is
        put together."""
        stored = self._stored[key]
        if isinstance(stored, Shares):
            self._stored[key] = stored.whole(self._homes[key])
        if key in self._homes:
            return
        new = {k: v.nbytes for k, v in self._stored.items() if k not in self._homes}
        loads = dict.fromkeys(devices, 0)
        for k, home in self._homes.items():
            if home in loads:
                loads[home] += self._stored[k].nbytes
        for k, home in spread(new, loads).items():
            self._homes[k] = home
            whole: Any = self._stored[k]
            self._stored[k] = whole.as_in_context(home)

    def _check(self, verb: str, key: Key, values: list[nd.NDArray]) -> None:
        check(self._stored, verb, key, values)

    def _optimizer_of(self, verb: str) -> opt.Updater:
        if not isinstance(self._updater, opt.Updater):
            raise KVStoreError(f"{verb}: the store has no optimizer; call set_optimizer first.")
        return self._updater


def spread(sizes: Mapping[Key, int], loads: Mapping[Context, int]) -> dict[Key, Context]:
    """A device for each key: the largest first, each to the device with the least bytes so far (`loads`). Ties go to
    the first in order."""
    loads = dict(loads)
    homes = {}
    for key in sorted(sizes, key=lambda k: -sizes[k]):
        homes[key] = min(loads, key=loads.__getitem__)
        loads[homes[key]] += sizes[key]
    return homes


def _sum(values: list[nd.NDArray], out: nd.NDArray | None = None) -> nd.NDArray:
    """The sum of arrays of one device, from first to last, in `out` or in a new array."""
    if len(values) == 1:
        return values[0].copyto(values[0].context if out is None else out)
    return nd.ElementWiseSum(*values, num_args=len(values), out=out)


def pairs_of(verb: str, keys, values) -> list[tuple[Key, list[nd.NDArray]]]:
    """[(key, its values)] by ascending key, from one key or a list of them."""
    if not isinstance(keys, (list, tuple)):
        keys, values = [keys], [values]
    if not isinstance(values, (list, tuple)) or len(values) != len(keys):
        found = f"a list of {len(values)}" if isinstance(values, (list, tuple)) else type(values).__name__
        raise KVStoreError(f"{verb}: {len(keys)} keys need a list of {len(keys)} values, got {found}.")
    grouped: dict[Key, list[nd.NDArray]] = {}
    for key, value in zip(keys, values, strict=True):
        grouped.setdefault(_key(verb, key), []).extend(_arrays(verb, key, value))
    if len({type(key) for key in grouped}) > 1:
        raise KVStoreError(f"{verb}: keys are all integers or all strings, got {_shorten(str(list(keys)))}.")
    return sorted(grouped.items(), key=operator.itemgetter(0))


class Shaped(Protocol):
    """What is known of a key's value."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...


def check(known: Mapping[Key, Shaped], verb: str, key: Key, values: Iterable[nd.NDArray] = ()) -> None:
    """Raise KVStoreError for a key that is not known, or values that do not fit it."""
    if key not in known:
        names = ", ".join(map(repr, sorted(known))) or "none"
        raise KVStoreError(f"{verb}: key {key!r} is unknown; call init first (known keys: {_shorten(names)}).")
    stored = known[key]
    for value in values:
        if value.shape != stored.shape or value.dtype != stored.dtype:
            raise KVStoreError(
                f"{verb}: key {key!r} holds {stored.dtype} of shape {stored.shape}, got {value.dtype} of shape "
                f"{value.shape}."
            )


def check_new(known: Mapping[Key, Shaped], key: Key, values: list[nd.NDArray]) -> None:
    """Raise KVStoreError for a key that is known already, is of another kind than those, or has not one value."""
    if key in known:
        raise KVStoreError(
            f"init: key {key!r} already has a value of shape {known[key].shape}; a key is initialised once, push "
            "changes it."
        )
    if len(values) != 1:
        raise KVStoreError(f"init: key {key!r} needs one value, got {len(values)}.")
    other = next(iter(known), key)
    if type(other) is not type(key):
        raise KVStoreError(f"init: the keys of a store are all integers or all strings; it has {other!r}, got {key!r}.")


def _key(verb: str, key) -> Key:
    if isinstance(key, str):
        return key
    try:
        return operator.index(key)
    except TypeError:
        raise KVStoreError(f"{verb}: a key is an integer or a string, got {key!r}.") from None


def _arrays(verb: str, key, value) -> Iterable[nd.NDArray]:
    arrays = value if isinstance(value, (list, tuple)) else [value]
    for array in arrays:
        if not isinstance(array, nd.NDArray):
            raise KVStoreError(
                f"{verb}: the value of key {key!r} must be an NDArray or a list of them, got {type(array).__name__}."
            )
    if not arrays:
        raise KVStoreError(f"{verb}: key {key!r} has an empty list of values.")
    return arrays


def _shorten(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[:limit] + " ..."
