"""Where devices live: `cpu(0)` in this process, all others as Ray actors. Loads Ray only when an actor is needed."""

from __future__ import annotations

import atexit
import os
import threading
from typing import Any

from raymx import config, trace
from raymx.engine.engine import Engine
from raymx.errors import DeviceError, DeviceLostError, MXNetError
from raymx.runtime import local
from raymx.runtime.lane import DeviceLane

_lock = threading.RLock()
_uses_cluster = False


engine = Engine(DeviceLane)
_seed = 0


def lane(kind: str, index: int) -> DeviceLane:
    """The lane of a device, connected at its first use. Raises ContextError, DeviceStartError."""
    name = f"{kind}({index})"
    known = engine.lanes.get(name)
    if known is None:
        known = engine.lane(name, lambda: _connect(kind, index))
        known.seed(_seed)
    return known


def seed(number: int) -> None:
    """Start the random stream of every device anew, of those that start later too."""
    global _seed
    _seed = number
    for each in list(engine.lanes.values()):
        each.seed(number)


def _connect(kind: str, index: int):
    global _uses_cluster
    if kind == "cpu" and index == 0:
        return local.connect("cpu(0)")
    from raymx.runtime import cluster

    _uses_cluster = True
    return cluster.connect(kind, index)


def init(address: str | None = None, virtual_gpus: int | None = None, **ray_options) -> None:
    """Join or start a Ray cluster now, rather than at the first use of a device actor.

    `address` is Ray's (`"auto"`, `"local"`, `"ray://…"`); `virtual_gpus` emulates that many GPUs with CPU actors;
    everything else goes to `ray.init`.
    """
    global _uses_cluster
    from raymx.runtime import cluster

    if virtual_gpus is not None:
        config.set(virtual_gpus=virtual_gpus)
    _uses_cluster = True
    cluster.join(address, **ray_options)


def num_gpus() -> int:
    """How many GPUs `mx.gpu(i)` can name: the cluster's, or the virtual ones. Joins the cluster if need be."""
    global _uses_cluster
    if config.get("virtual_gpus"):
        return config.get("virtual_gpus")
    from raymx.runtime import cluster

    _uses_cluster = True
    return cluster.num_gpus()


def device_pid(context) -> int:
    """The process that runs a device."""
    transport: Any = lane(context.device_type, context.device_id).transport
    return transport.about["pid"] if hasattr(transport, "about") else os.getpid()


def wait_all() -> None:
    """Wait until everything pushed so far, on every device, is done; raise the first failure not raised yet."""
    engine.wait_all()


def shutdown() -> None:
    """End the device actors and leave Ray (which ends if raymx started it). Arrays on actors are gone; those of `cpu(0)`
    stay. Work that was pushed and not waited for may be lost."""
    global _uses_cluster
    with _lock:
        if trace.active():
            _write_trace()
        actors = [name for name in engine.lanes if name != "cpu(0)"]
        for name in actors:
            engine.lanes.pop(name).close()
        if _uses_cluster:
            from raymx.runtime import cluster

            cluster.leave()
            _uses_cluster = False


def _write_trace() -> None:
    for each in list(engine.lanes.values()):
        try:
            each.wait()
        except DeviceError:
            pass  # a lost device has no more events
    trace.write()


def _after_fork() -> None:
    """Threads and connections do not survive a fork: the child starts afresh, and old arrays say so."""
    global engine
    for each in engine.lanes.values():
        each.abandon(MXNetError("this array belongs to the parent process; create arrays after the fork."))
    engine = Engine(DeviceLane)


os.register_at_fork(after_in_child=_after_fork)
atexit.register(shutdown)

__all__ = ["DeviceLostError", "device_pid", "engine", "init", "lane", "num_gpus", "seed", "shutdown", "wait_all"]
