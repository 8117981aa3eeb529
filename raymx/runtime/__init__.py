"""Where devices live: `cpu(0)` in this process, all others as Ray actors. Loads Ray only when an actor is needed."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import Any

from raymx import config, trace
from raymx.engine.engine import Engine
from raymx.engine.segment import lost
from raymx.errors import DeviceLostError, MXNetError
from raymx.runtime import guest, local
from raymx.runtime.lane import DeviceLane
from raymx.runtime.local import Arrival, Held

_HERE = "cpu(0)"  # the device in this process

engine = Engine(DeviceLane)
_lock = threading.RLock()
_uses_cluster = False
_seed = 0


def lane(kind: str, index: int) -> DeviceLane:
    """The lane of a device, connected at its first use. Raises ContextError, DeviceStartError."""
    name = _name(kind, index)
    visited = guest.guests(engine)
    if visited is not None:
        return visited.lane(name)
    return engine.lanes.get(name) or engine.lane(name, lambda: _connect(kind, index), lambda new: new.seed(_seed))


def _name(kind: str, index: int) -> str:
    return f"{'gpu' if kind == 'gpu' else 'cpu'}({index})"


def seed(number: int) -> None:
    """Start the random stream of every device anew, of those that start later too."""
    global _seed
    _seed = number
    for each in list(engine.lanes.values()):
        each.seed(number)


def share_cores(contexts) -> None:
    """From now on the CPU devices among these, which work at the same time, divide the cores of their node."""
    lanes = {each.device_id: each.lane for each in contexts if each.device_type != "gpu"}
    nodes = {index: _node(each) for index, each in lanes.items()}
    for index, each in lanes.items():
        each.share_cores(list(nodes.values()).count(nodes[index]))


def _node(lane: DeviceLane) -> str:
    about = getattr(lane.transport, "about", None)  # only of actors
    if about is not None:
        return about["node"]
    return sys.modules["raymx.runtime.cluster"].node() if _uses_cluster else ""


def seeded() -> int:
    """What `seed` was last told."""
    return _seed


def _connect(kind: str, index: int):
    if _name(kind, index) == _HERE:
        return local.connect(_HERE)
    with _cluster() as cluster:
        return cluster.connect(kind, index)


@contextlib.contextmanager
def _cluster():
    """The module that knows Ray; inside, Ray may be joined. Both end with the interpreter, and we have to be first."""
    global _uses_cluster
    from raymx.runtime import cluster

    try:
        yield cluster
    finally:
        if not _uses_cluster:
            _uses_cluster = True
            atexit.unregister(_at_exit)
            atexit.register(_at_exit)


def init(address: str | None = None, virtual_gpus: int | None = None, **ray_options) -> None:
    """Join or start a Ray cluster now, rather than at the first use of a device actor.

    `address` is Ray's (`"auto"`, `"local"`, `"ray://…"`); `virtual_gpus` emulates that many GPUs with CPU actors;
    everything else goes to `ray.init`.
    """
    if virtual_gpus is not None:
        config.set(virtual_gpus=virtual_gpus)
    with _cluster() as cluster:
        cluster.join(address, **ray_options)


def visit():
    """Inside, the user's code runs on the device whose work this thread does; yields what gives it lanes."""
    return guest.visit(engine)


def dump_code(value) -> bytes:
    """A pickle of `value` in which classes and functions that cannot be imported elsewhere are written out."""
    from raymx.runtime import cluster

    return cluster.dump_code(value)


def current_job():
    """The job that this process is a worker of, for a distributed store."""
    with _cluster():
        from raymx.runtime import job

        return job.current()


def shard_links(of, sync: bool, close):
    """The ways to the shards of a job's store; `close()` is called once the worker's code is done."""
    from raymx.runtime import job

    job.at_end(close)
    return job.links(of, sync)


def launch(fn, args: tuple, **options) -> list[Any]:
    """Run a function or script in the workers of a job; see raymx.launch, which checks and documents the options."""
    with _cluster():
        from raymx.runtime import job

        return job.launch(fn, args, **options)


def introduce(lanes) -> None:
    """Let devices that have an address send letters to each other. Waits for them; raises DeviceLostError."""
    transports = [each.transport for each in lanes]
    transports[0].introduce(transports)


def launched() -> bool:
    """Whether this process is a worker of a launched job."""
    job = sys.modules.get("raymx.runtime.job")
    return job is not None and job.is_worker()


def recoveries() -> dict[str, int]:
    """How often the jobs that this process launched have lost and replaced a `worker`, or a process of a `shard`."""
    job = sys.modules.get("raymx.runtime.job")
    return {"worker": 0, "shard": 0, **(job.recoveries if job is not None else {})}


def num_gpus() -> int:
    """How many GPUs `mx.gpu(i)` can name: the cluster's, or the virtual ones. Joins the cluster if need be."""
    if config.get("virtual_gpus"):
        return config.get("virtual_gpus")
    with _cluster() as cluster:
        return cluster.num_gpus()


def describe(context) -> dict[str, Any]:
    """What a device says of itself: its process id `pid`, how many `arrays` and `programs` it holds, how many
    `messages` it has not answered; of an actor also its `node` and `niceness`. Raises DeviceLostError."""
    return context.lane.transport.describe()


def device_pid(context) -> int:
    """The process that runs a device."""
    return describe(context)["pid"]


def wait_all() -> None:
    """Wait until everything pushed so far, on every device, is done; raise the first failure not raised yet."""
    if guest.guests(engine) is not None:
        return  # of what the user's code does on a device, nothing is left
    engine.wait_all()


def restart(context) -> None:
    """End a device, lost or not; the next array on `context` starts it anew, with the switches that hold then. Its
    arrays are gone."""
    name = _name(context.device_type, context.device_id)
    with _lock:
        if name in engine.lanes:
            engine.lanes.pop(name).close()


def shutdown() -> None:
    """End the device actors and leave Ray (which ends if raymx started it). Arrays on actors are gone; those of
    `cpu(0)` stay. Work that was pushed and not waited for may be lost."""
    with _lock:
        try:
            if trace.written_here():
                _write_trace()
        finally:
            _leave()


def _at_exit() -> None:
    """The interpreter ends. Who waits after this, in a handler that runs later, does not wait long."""
    try:
        shutdown()
    finally:
        config.set(timeout_s=1.0)
        here: Any = engine.lanes.get(_HERE)
        if here is not None:
            here.transport.halt()


def _write_trace() -> None:
    for each in list(engine.lanes.values()):
        with contextlib.suppress(MXNetError):  # a lost device has no more events
            each.wait()
    if "raymx.runtime.job" in sys.modules:
        sys.modules["raymx.runtime.job"].gather_trace()
    trace.write()


def _leave() -> None:
    global _uses_cluster
    for name in [name for name in engine.lanes if name != _HERE]:
        engine.lanes.pop(name).close()
    if _HERE in engine.lanes:
        transport: Any = engine.lanes[_HERE].transport
        transport.give_up(lost("raymx was shut down before the value was copied"))
    if _uses_cluster:
        if "raymx.runtime.job" in sys.modules:
            sys.modules["raymx.runtime.job"].leave()
        from raymx.runtime import cluster

        cluster.leave()
        _uses_cluster = False


def _after_fork() -> None:
    """Threads and connections do not survive a fork: the child starts afresh, and old arrays say so."""
    global _lock, _uses_cluster
    _lock, _uses_cluster = threading.RLock(), False
    trace.after_fork()
    engine.after_fork(MXNetError("this array belongs to the parent process; create arrays after the fork."))
    if "raymx.runtime.cluster" in sys.modules:
        sys.modules["raymx.runtime.cluster"].after_fork()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)

__all__ = ["Arrival", "DeviceLostError", "Held", "current_job", "describe", "device_pid", "engine", "init",
           "introduce", "lane", "launch", "num_gpus", "restart", "seed", "shard_links", "share_cores", "shutdown",
           "wait_all"]  # fmt: skip
