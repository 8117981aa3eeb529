"""Optimizers as plain settings, which shards make updaters from: a class by its import name, and what it was told.

    settings = described(mx.optimizer.SGD(learning_rate=0.1, momentum=0.9))
    updater(settings)(key, merged, stored)       # NumPy arrays; changes `stored` in place

What the script changes of an optimizer later (`Live`) follows as settings of their own, which hold from a round on.
Nothing is unpickled, but for settings that say so (`pickled`), which only the switch `pickled_optimizers` lets through.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import pickle
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from raymx import config, runtime
from raymx import ndarray as nd
from raymx import optimizer as opt
from raymx.context import cpu
from raymx.errors import KVStoreError
from raymx.lr_scheduler import LRScheduler

_PRIVATE = ("_rules",)  # caches


def described(optimizer: opt.Optimizer) -> str:
    """The optimizer as JSON text. Raises KVStoreError for a class that cannot be imported elsewhere, or settings that
    are no plain values, unless the switch `pickled_optimizers` is on."""
    try:
        words = _plain(optimizer, f"optimizer {type(optimizer).__name__}")
    except KVStoreError:
        if not config.get("pickled_optimizers"):
            raise
        warnings.warn("set_optimizer: a pickled optimizer runs whatever code it holds on the shards", stacklevel=3)
        words = {"pickled": runtime.dump_code(optimizer).hex()}
    return json.dumps({"optimizer": words, "changes": {}, "seed": runtime.seeded()})


def restored(settings: str) -> opt.Optimizer:
    """The optimizer of which `described` told."""
    found = json.loads(settings)
    words = found["optimizer"]
    optimizer = _unpickled(words["pickled"]) if "pickled" in words else _object(words)
    _set(optimizer, found["changes"])
    return optimizer


def _unpickled(code: str) -> opt.Optimizer:
    if not config.get("pickled_optimizers"):
        raise KVStoreError("set_optimizer: a pickled optimizer came, but the switch pickled_optimizers is off here.")
    return pickle.loads(bytes.fromhex(code))


def loaded(body: str | bytes) -> opt.Optimizer:
    """The optimizer of a pickle that the script made. Raises KVStoreError for anything else."""
    try:
        found = pickle.loads(body.encode("latin-1") if isinstance(body, str) else body)
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        raise KVStoreError(f"command 0: its body must be a pickled Optimizer ({words}).") from error
    if not isinstance(found, opt.Optimizer):
        raise KVStoreError(f"command 0: its body must be a pickled Optimizer, got {type(found).__name__}.")
    return found


def updater(settings: str, shard: int = 0) -> ArrayUpdater:
    """What shard number `shard` calls after each round."""
    return ArrayUpdater(settings, shard)


class Live:
    """An optimizer in the script's hands: what it has changed of it since the shards were told."""

    def __init__(self, optimizer: opt.Optimizer):
        self._optimizer = optimizer
        self._told = _seen(optimizer)
        self._names: set[str] = set()  # of all settings that were ever changed

    def changes(self) -> str | None:
        """What is not as it was when this was last asked, as JSON; None if nothing is. Raises KVStoreError for settings
        that are no plain values."""
        now = _seen(self._optimizer)
        names = _differing(now, self._told)
        if not names:
            return None
        words = self._words(names)
        self._told = now
        self._names |= names
        return json.dumps(words)

    def noted(self) -> tuple[dict, dict]:
        """For `go_on`: all that the shards have been told of changes, and all changes."""
        told = {name: self._told[name] for name in self._names}
        names = self._names | _differing(_seen(self._optimizer), self._told)
        return told, {name: vars(self._optimizer)[name] for name in names}

    def go_on(self, noted: tuple[dict, dict]) -> None:
        """Let the optimizer be as it was when this was noted, and know what the shards knew."""
        told, now = noted
        vars(self._optimizer).update(now)
        self._told |= told
        self._names |= set(told)

    def _words(self, names) -> dict[str, Any]:
        who = f"optimizer {type(self._optimizer).__name__}"
        return {name: _plain(vars(self._optimizer)[name], f"{who}.{name}") for name in sorted(names)}


def _seen(value) -> dict[str, Any]:
    """The settings of an optimizer or scheduler as they are now, whatever becomes of it."""
    return {name: _copied(each) for name, each in vars(value).items() if name not in _PRIVATE}


def _copied(value):
    if isinstance(value, LRScheduler):
        return type(value), _seen(value)
    return value.copy() if isinstance(value, (dict, list)) else value


def _differing(now: Mapping[str, Any], before: Mapping[str, Any]) -> set[str]:
    """The names whose values are not equal."""
    with contextlib.suppress(Exception):  # of values that cannot be compared
        if now == before:
            return set()
    return {name for name, value in now.items() if name not in before or not _equal(value, before[name])}


def _equal(a, b) -> bool:
    try:
        return a is b or bool(a == b)
    except Exception:
        return False


class ArrayUpdater:
    """An optimizer with its states, for NumPy arrays. The process runs the engine `naive`: each rule at once.

    `settings` is what it was told; `pending` are changes that do not hold for every round to come, the oldest first,
    and `at(n)` lets the first n of them hold.
    """

    def __init__(self, settings: str, shard: int = 0):
        self.settings, self.pending = settings, []  # type: str, list[str]
        self._undo: list[dict[str, Any]] = []  # for each change that holds, what was before
        self._updater = opt.get_updater(restored(settings))
        self._told = _seen(self._updater.optimizer)
        self._weights: dict[Any, tuple[np.ndarray, nd.NDArray]] = {}  # key → its value and the array over its memory
        runtime.seed(json.loads(settings)["seed"] + shard)

    def __call__(self, key, merged: np.ndarray, value: np.ndarray) -> None:
        known = self._weights.get(key)
        if known is None or known[0] is not value:
            known = self._weights[key] = value, nd.adopt(value)
        self._updater(key, nd.adopt(merged), known[1])

    # ---- settings ----

    def change(self, changes: str) -> None:
        """Take in what `Live.changes` gave; it holds as `at` says."""
        self.pending.append(changes)

    def at(self, count: int) -> None:
        """Let the first `count` pending changes hold, and no others."""
        settings = vars(self._updater.optimizer)
        while len(self._undo) < count:
            changes = json.loads(self.pending[len(self._undo)])
            self._undo.append({name: settings[name] for name in changes if name in settings})
            _set(self._updater.optimizer, changes)
        while len(self._undo) > count:
            settings.update(self._undo.pop())

    def fold(self) -> None:
        """The oldest pending change holds from now on, for every round."""
        self.at(max(1, len(self._undo)))
        changes = json.loads(self.pending.pop(0))
        undo = self._undo.pop(0)
        told = json.loads(self.settings)
        told["changes"].update(changes)
        self.settings = json.dumps(told)
        for name in undo:  # whoever goes back to the time before the next change finds this one's value
            self._told[name] = _copied(_value(changes[name]))

    def go_on_from(self, other: ArrayUpdater) -> None:
        """Take over the states of an updater before this one, if it was of the same kind."""
        if type(other._updater.optimizer) is type(self._updater.optimizer):
            self.set_states(other.get_states())

    # ---- states ----

    def get_states(self) -> bytes:
        """States of the weights, what else the optimizer has learnt (its counts), and where its random numbers are."""
        self.at(0)
        optimizer = self._updater.optimizer
        learnt = {name: vars(optimizer)[name] for name in _differing(_seen(optimizer), self._told)}
        lane = cpu().lane
        return pickle.dumps((self._updater.get_states(), learnt, nd.HostValue(lane, lane.stream()).result()))

    def set_states(self, states: bytes) -> None:
        """Take over what `get_states` gave."""
        self.at(0)
        inner, learnt, stream = pickle.loads(states)
        self._updater.set_states(inner)
        vars(self._updater.optimizer).update(learnt)
        cpu().lane.seed(stream)


def _set(optimizer: opt.Optimizer, changes: Mapping[str, Any]) -> None:
    """Let settings be what their plain values say."""
    vars(optimizer).update({name: _value(plain) for name, plain in changes.items()})


# ---- plain values ----


def _plain(value, who: str) -> Any:
    """`value` in JSON's words; what those lack is a list that begins with a word."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *(_plain(v, who) for v in value)]
    if isinstance(value, dict):
        return ["dict", *([_plain(k, who), _plain(v, who)] for k, v in value.items())]
    if isinstance(value, (opt.Optimizer, LRScheduler)):
        cls = type(value)
        if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
            raise KVStoreError(
                f"set_optimizer: {cls.__qualname__} of {cls.__module__} cannot be imported on the shards; put the "
                "class in a module that they have, or set the switch pickled_optimizers (RAYMX_PICKLED_OPTIMIZERS=1)."
            )
        state = {k: _plain(v, f"{who}.{k}") for k, v in vars(value).items() if k not in _PRIVATE}
        return {"class": f"{cls.__module__}:{cls.__qualname__}", "state": state}
    raise KVStoreError(
        f"set_optimizer: {who} must be a number, a text, or a list or dict of those, got {type(value).__name__}; or "
        "set the switch pickled_optimizers (RAYMX_PICKLED_OPTIMIZERS=1)."
    )


def _value(plain) -> Any:
    if isinstance(plain, dict):
        return _object(plain)
    if not isinstance(plain, list):
        return plain
    kind, *rest = plain
    if kind == "dict":
        return {_key(_value(k)): _value(v) for k, v in rest}
    return {"list": list, "tuple": tuple}[kind](map(_value, rest))


def _key(key):
    return tuple(key) if isinstance(key, list) else key


def _object(plain: dict) -> Any:
    module, _, name = plain["class"].partition(":")
    cls: Any = importlib.import_module(module)
    for part in name.split("."):
        cls = getattr(cls, part)
    if not (isinstance(cls, type) and issubclass(cls, (opt.Optimizer, LRScheduler))):
        raise KVStoreError(f"set_optimizer: {plain['class']} is no Optimizer.")
    made = cls.__new__(cls)
    made.__dict__.update({k: _value(v) for k, v in plain["state"].items()}, _rules={})
    return made
