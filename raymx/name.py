"""How operators get their names.

with mx.name.Prefix("enc_"):
    net = mx.sym.FullyConnected(data, num_hidden=10)  # enc_fullyconnected0, with enc_fullyconnected0_weight, ...
"""

from __future__ import annotations

import itertools
from contextvars import ContextVar

from raymx._scope import Scope


class NameManager(Scope):
    """Names operators that were not given a name: a hint and a number, counted by hint.

    `NameManager.current` is the innermost manager whose `with` block is open; a fresh one counts from 0. Subclasses
    override `get`.
    """

    _stack: ContextVar[tuple[NameManager, ...]] = ContextVar("name managers", default=())

    def __init__(self):
        self._counters: dict[str, itertools.count] = {}

    def get(self, name: str | None, hint: str) -> str:
        """`name` if there is one, else the next name for `hint` (`fullyconnected0`, `fullyconnected1`, …)."""
        if name:
            return name
        return f"{hint}{next(self._counters.setdefault(hint, itertools.count()))}"


class Prefix(NameManager):
    """Puts `prefix` before every operator's name, given or made. Names of variables stay as they are."""

    def __init__(self, prefix: str):
        super().__init__()
        self._prefix = prefix

    def get(self, name: str | None, hint: str) -> str:
        return self._prefix + super().get(name, hint)


NameManager._default = NameManager()
