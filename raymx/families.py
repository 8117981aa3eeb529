"""Operators by family: `mx.nd.linalg.gemm2` and `mx.sym.linalg.gemm2` are the operator `_linalg_gemm2`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raymx.errors import did_you_mean
from raymx.ops.op import REGISTRY

PREFIXES = {
    "contrib": "_contrib_",
    "image": "_image_",
    "linalg": "_linalg_",
    "op": "",
    "sparse": "",  # all arrays are dense, those that its functions give and take, too
}


class Family:
    """The operators whose names begin with a prefix, as functions without it; without a prefix, all public ones.

    `function(operator, name)` makes the function that is called `name`; `more` holds functions that are no operators.
    """

    def __init__(self, title: str, prefix: str, function: Callable[[str, str], Any], more: Mapping[str, Any]):
        self._title, self._prefix, self._function = title, prefix, function
        self.__dict__.update(more)

    def __getattr__(self, name: str):
        if name.startswith("_") or self._prefix + name not in REGISTRY:
            raise AttributeError(f"{self._title} has no operator {name!r}{did_you_mean(name, dir(self))}")
        made = self._function(self._prefix + name, name)
        setattr(self, name, made)
        return made

    def __dir__(self):
        found = {n.removeprefix(self._prefix) for n in REGISTRY if n.startswith(self._prefix)}
        return sorted(n for n in {*found, *self.__dict__} if not n.startswith("_"))

    def __repr__(self):
        return f"<operators of {self._title}>"


def families(title: str, function: Callable[[str, str], Any], **more: Mapping[str, Any]) -> dict[str, Family]:
    """All families by name; `more` holds further functions by family."""
    return {n: Family(f"{title}.{n}", prefix, function, more.get(n, {})) for n, prefix in PREFIXES.items()}
