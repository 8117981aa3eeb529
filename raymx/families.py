"""Operators under the family's name that their own begins with: `mx.nd.contrib.box_nms`, `mx.sym.linalg.gemm2`."""

from __future__ import annotations

from raymx.errors import did_you_mean
from raymx.ops.op import REGISTRY

PREFIXES = {"contrib": ("_contrib_",), "linalg": ("_linalg_", "linalg_"), "image": ("_image_",)}


class Family:
    """The operators of a family as functions of `module`, which is raymx.ndarray or raymx.symbol."""

    def __init__(self, module, name: str):
        self._module, self._name = module, name

    def __getattr__(self, name: str):
        for prefix in PREFIXES[self._name]:
            if prefix + name in REGISTRY:
                return getattr(self._module, prefix + name)
        known = did_you_mean(name, dir(self))
        raise AttributeError(f"{self._module.__name__}.{self._name} has no operator {name!r}{known}.")

    def __dir__(self):
        prefixes = PREFIXES[self._name]
        return sorted({op.removeprefix(p) for op in REGISTRY for p in prefixes if op.startswith(p)})
