"""Devices by name. `cpu(0)` is this process; every other context is a device actor of the Ray cluster."""

from __future__ import annotations

import operator
import threading
from typing import ClassVar

from raymx import runtime
from raymx.errors import ContextError


class _WithDefault(type):
    """Gives `Context` the attribute `default_ctx`, which is what `current_context()` returns on this thread."""

    @property
    def default_ctx(cls) -> Context:
        return current_context()

    @default_ctx.setter
    def default_ctx(cls, context: Context) -> None:
        Context._default.context = context


class Context(metaclass=_WithDefault):
    """A device: `device_type` is `cpu`, `gpu` or `cpu_pinned` (which is `cpu`), `device_id` counts from 0.

    Naming a context starts nothing; its device starts with the first array on it. `with ctx:` makes it the default of
    this thread. Contexts are equal by type and number. Raises ContextError for an unknown type or number.
    """

    devtype2str: ClassVar = {1: "cpu", 2: "gpu", 3: "cpu_pinned"}
    devstr2type: ClassVar = {"cpu": 1, "gpu": 2, "cpu_pinned": 3}
    _default: ClassVar = threading.local()

    __slots__ = ("device_type", "device_id")
    device_type: str
    device_id: int

    def __init__(self, device_type: str | Context, device_id: int = 0):
        if isinstance(device_type, Context):
            device_id, device_type = device_type.device_id, device_type.device_type
        if device_type not in self.devstr2type:
            raise ContextError(f"Context: device_type must be 'cpu', 'gpu' or 'cpu_pinned', got {device_type!r}.")
        try:
            device_id = operator.index(device_id)
        except TypeError:
            raise ContextError(f"Context: device_id must be an integer, got {device_id!r}.") from None
        if device_id < 0:
            raise ContextError(f"Context: device_id must be at least 0, got {device_id}.")
        self.device_type, self.device_id = str(device_type), device_id

    @property
    def device_typeid(self) -> int:
        """1 for cpu, 2 for gpu, 3 for cpu_pinned, as `.params` files have it."""
        return self.devstr2type[self.device_type]

    @property
    def lane(self):
        """The device's stream of tasks; connects the device. Raises ContextError, DeviceStartError."""
        return runtime.lane("gpu" if self.device_type == "gpu" else "cpu", self.device_id)

    def __enter__(self) -> Context:
        Context._default.__dict__.setdefault("before", []).append(current_context())
        Context._default.context = self
        return self

    def __exit__(self, *exc_info) -> None:
        Context._default.context = Context._default.before.pop()

    def __eq__(self, other) -> bool:
        return (
            isinstance(other, Context)
            and self.device_type == other.device_type
            and self.device_id == other.device_id
        )

    def __hash__(self) -> int:
        return hash((self.device_type, self.device_id))

    def __reduce__(self):
        return Context, (self.device_type, self.device_id)

    def __str__(self) -> str:
        return f"{self.device_type}({self.device_id})"

    __repr__ = __str__


def cpu(device_id: int = 0) -> Context:
    """`cpu(0)`, this process, or a CPU device actor."""
    return Context("cpu", device_id)


def gpu(device_id: int = 0) -> Context:
    """The cluster's GPU of that number, counted by node and then by index on the node."""
    return Context("gpu", device_id)


def cpu_pinned(device_id: int = 0) -> Context:
    """The same memory as `cpu(device_id)`; kept for scripts that name it."""
    return Context("cpu_pinned", device_id)


def num_gpus() -> int:
    """How many GPUs `gpu(i)` can name; joins the Ray cluster unless GPUs are virtual."""
    return runtime.num_gpus()


_CPU = Context("cpu", 0)


def current_context() -> Context:
    """The context of the innermost `with ctx:` of this thread, `cpu(0)` outside."""
    return getattr(Context._default, "context", _CPU)
