"""Optimizers as plain settings, which shards make updaters from: a class by its import name, and what it was told.

    settings = described(mx.optimizer.SGD(learning_rate=0.1, momentum=0.9))
    updater(settings)(key, merged, stored)       # NumPy arrays; changes `stored` in place

Nothing is unpickled, but for settings that say so (`pickled`), which only the switch `pickled_optimizers` lets through.
"""

from __future__ import annotations

import importlib
import json
import pickle
import warnings
from typing import Any

import numpy as np

from raymx import config
from raymx import ndarray as nd
from raymx import optimizer as opt
from raymx.errors import KVStoreError
from raymx.lr_scheduler import LRScheduler

_PRIVATE = ("_rules",)  # caches


def described(optimizer: opt.Optimizer) -> str:
    """The optimizer as JSON text. Raises KVStoreError for a class that cannot be imported elsewhere, or settings that
    are no plain values, unless the switch `pickled_optimizers` is on."""
    try:
        return json.dumps(_plain(optimizer, f"optimizer {type(optimizer).__name__}"))
    except KVStoreError:
        if not config.get("pickled_optimizers"):
            raise
        warnings.warn("set_optimizer: a pickled optimizer runs whatever code it holds on the shards", stacklevel=3)
        from raymx import runtime

        return json.dumps({"pickled": runtime.dump_code(optimizer).hex()})


def restored(settings: str) -> opt.Optimizer:
    """The optimizer of which `described` told."""
    found = json.loads(settings)
    if "pickled" not in found:
        return _object(found)
    if not config.get("pickled_optimizers"):
        raise KVStoreError("set_optimizer: a pickled optimizer came, but the switch pickled_optimizers is off here.")
    return pickle.loads(bytes.fromhex(found["pickled"]))


def updater(settings: str) -> ArrayUpdater:
    """What a shard calls after each round."""
    return ArrayUpdater(restored(settings))


class ArrayUpdater:
    """An optimizer with its states, for NumPy arrays. The process runs the engine `naive`: each rule at once."""

    def __init__(self, optimizer: opt.Optimizer):
        self._updater = opt.get_updater(optimizer)
        self._weights: dict[Any, tuple[np.ndarray, nd.NDArray]] = {}  # key → its value and the array over its memory

    def __call__(self, key, merged: np.ndarray, value: np.ndarray) -> None:
        known = self._weights.get(key)
        if known is None or known[0] is not value:
            known = self._weights[key] = value, nd.adopt(value)
        self._updater(key, nd.adopt(merged), known[1])

    def get_states(self) -> bytes:
        """States and update counts."""
        optimizer = self._updater.optimizer
        counts = optimizer.num_update, optimizer._index_update_count
        return pickle.dumps((self._updater.get_states(), counts))

    def set_states(self, states: bytes) -> None:
        """Take over what `get_states` gave."""
        inner, (number, counts) = pickle.loads(states)
        self._updater.set_states(inner)
        optimizer = self._updater.optimizer
        optimizer.num_update, optimizer._index_update_count = number, dict(counts)


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
