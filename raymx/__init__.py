"""raymx: MXNet's programming model on a Ray cluster. `import raymx as mx`.

Public names are loaded when they are first used, so that importing raymx costs next to nothing and a script that
stays on `mx.cpu()` never loads Ray.
"""

from __future__ import annotations

import importlib
import types
from typing import TYPE_CHECKING, Any

from raymx.errors import MXNetError, did_you_mean

__version__ = "0.1.0"

_MODULES = {
    name: f"raymx.{module}"
    for module, aliases in {
        "attribute": (), "autograd": (), "base": (), "callback": (), "config": (), "context": (), "contrib": (),
        "errors": (), "executor": (), "executor_manager": (), "initializer": ("init",), "io": (),
        "kvstore": ("kv",), "kvstore_server": (),
        "lr_scheduler": (), "metric": (), "model": (), "module": ("mod",), "monitor": ("mon",), "name": (),
        "ndarray": ("nd",), "operator": (), "optimizer": (), "random": ("rnd",), "recordio": (), "rnn": (),
        "runtime": (), "storage": (), "symbol": ("sym",), "test_utils": (), "trace": (), "visualization": ("viz",),
    }.items()
    for name in (module, *aliases)
}  # fmt: skip
_MODULES_OF_OLD = {"_ndarray_internal": "raymx.ndarray", "_symbol_internal": "raymx.symbol"}  # not in `__all__`
_OBJECTS = {
    name: f"raymx.{module}"
    for module, names in {
        "attribute": ("AttrScope",),
        "context": ("Context", "cpu", "cpu_pinned", "current_context", "gpu", "num_gpus"),
        "executor": ("Executor",),
        "launcher": ("launch",),
        "runtime": ("shutdown",),
    }.items()
    for name in names
}

if TYPE_CHECKING:
    from raymx import (
        attribute,
        autograd,
        base,
        callback,
        config,
        context,
        contrib,
        errors,
        executor,
        executor_manager,
        initializer,
        io,
        kvstore,
        kvstore_server,
        lr_scheduler,
        metric,
        model,
        module,
        monitor,
        name,
        ndarray,
        operator,
        optimizer,
        random,
        recordio,
        rnn,
        runtime,
        storage,
        symbol,
        test_utils,
        trace,
        visualization,
    )
    from raymx import kvstore as kv
    from raymx import module as mod
    from raymx import monitor as mon
    from raymx import ndarray as nd
    from raymx import random as rnd
    from raymx import symbol as sym
    from raymx import visualization as viz
    from raymx.attribute import AttrScope
    from raymx.context import Context, cpu, cpu_pinned, current_context, gpu, num_gpus
    from raymx.executor import Executor
    from raymx.launcher import launch
    from raymx.runtime import shutdown

    init: Any  # the module `initializer`, and callable: see _InitModule

# fmt: off
__all__ = [
    "AttrScope", "Context", "Executor", "MXNetError", "attribute", "autograd", "base", "callback", "config",
    "context", "contrib", "cpu", "cpu_pinned", "current_context", "errors", "executor", "executor_manager", "gpu",
    "init", "initializer", "io", "kv", "kvstore", "kvstore_server", "launch", "lr_scheduler", "metric", "mod",
    "model", "module", "mon", "monitor", "name", "nd", "ndarray", "num_gpus", "operator", "optimizer", "random",
    "recordio", "rnd", "rnn", "runtime", "shutdown", "storage", "sym", "symbol", "test_utils", "trace",
    "visualization", "viz",
]
# fmt: on


class _InitModule(types.ModuleType):
    """The initializers as `mx.init.Xavier()`, and `mx.init(...)` to join or start Ray: two users of one name."""

    def __call__(self, address: str | None = None, virtual_gpus: int | None = None, **ray_options):
        """Join the Ray cluster at `address`, or start one here; see `raymx.runtime.init`."""
        runtime = importlib.import_module("raymx.runtime")
        return runtime.init(address=address, virtual_gpus=virtual_gpus, **ray_options)


def __getattr__(name: str):
    if name in _OBJECTS:
        value = getattr(importlib.import_module(_OBJECTS[name]), name)
    elif module := _MODULES.get(name) or _MODULES_OF_OLD.get(name):
        value = importlib.import_module(module)
    else:
        raise AttributeError(f"raymx has no attribute {name!r}{did_you_mean(name, __all__)}.")
    if name in ("init", "initializer"):
        value.__class__ = _InitModule
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
