"""Special kernels: faster ways to run an operator on one backend, built once over fixed arrays and run many times.

    @register("FullyConnected", "forward", "onednn")
    def fully_connected(op, xp, ins, outs, extras):
        ...
        return run  # a function without arguments, or None: this case is left to the operator's own kernel

`ins` and `outs` are arrays by name: inputs, aux states and outputs of `op`; for "backward" `g`, what the operator's
backward reads, and the wanted `d_<input>`. `extras` holds what the kernel takes of `is_train`, `rng`
and scratch arrays. An operator's own kernel, written against `xp`, always exists.
"""

from __future__ import annotations

from collections.abc import Callable

from raymx.errors import MXNetError
from raymx.ops.layout import Blocked

Run = Callable[[], None]
Builder = Callable[..., Run | None]

_builders: dict[tuple[str, str, str], Builder] = {}  # (operator, direction, backend)


def register(op_name: str, direction: str, backend: str):
    """Decorate the builder of `op_name`'s special kernel for `direction` ("forward" or "backward") on `backend`."""

    def keep(build: Builder) -> Builder:
        _builders[op_name, direction, backend] = build
        return build

    return keep


def prepare(op, direction: str, xp, ins, outs, extras) -> Run | None:
    """The first special kernel of an active backend that takes this case; None when there is none."""
    from raymx.ops import backend

    for name in backend.active(xp):
        build = _builders.get((op.name, direction, name))
        run = build(op, xp, ins, outs, extras) if build else None
        if run is not None:
            return run
        if build and not op.elementwise and any(isinstance(a, Blocked) for a in (*ins.values(), *outs.values())):
            raise MXNetError(f"{op!r}: no kernel here takes channels in blocks; set layouts=0, and report this.")
    return None
