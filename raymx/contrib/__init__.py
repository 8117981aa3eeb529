"""What MXNet keeps apart as not settled: `autograd` of 0.9, and operators called `_contrib_<name>` as `nd.<name>` and
`sym.<name>`."""

from __future__ import annotations

import importlib
from typing import Any

_OPERATORS = {"nd": "ndarray", "ndarray": "ndarray", "sym": "symbol", "symbol": "symbol"}


class _Operators:
    """The operators whose names begin with `_contrib_`, without that."""

    def __init__(self, module: str):
        self._module = importlib.import_module(f"raymx.{module}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, f"_contrib_{name}")

    def __dir__(self):
        return sorted(name.removeprefix("_contrib_") for name in dir(self._module) if name.startswith("_contrib_"))


def __getattr__(name: str):
    if name == "autograd":
        return importlib.import_module("raymx.contrib.autograd")
    if name in _OPERATORS:
        return globals().setdefault(name, _Operators(_OPERATORS[name]))
    raise AttributeError(f"raymx.contrib has no attribute {name!r}.")


def __dir__():
    return sorted({*globals(), "autograd", *_OPERATORS})
