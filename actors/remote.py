"""The one file that turns the plain classes of this package into Ray actors."""

from __future__ import annotations

import os
from typing import Any

import ray

from raymx import config
from raymx.actors import device
from raymx.actors.device import DeviceRunner
from raymx.actors.host import DeviceHost
from raymx.actors.transfer import resolve, unpack
from raymx.ops import backend

CONCURRENT_MESSAGES = 64  # at least; a message under way holds a thread, and the driver bounds how many there are


class DeviceActor:
    """One device of the cluster. `settings` are the driver's configuration switches."""

    def __init__(self, name: str, kind: str, settings: dict[str, Any]):
        config.set(**settings)
        if kind == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        _full_priority()
        trace, pool_nbytes = bool(settings["trace"]), int(settings["pool_mb"]) << 20
        runner = DeviceRunner(name, backend.array_module(kind), pool_nbytes, trace)
        device.home = runner
        self._host = DeviceHost(runner, resolve, settings["check"], lambda: backend.use_threads(_threads(settings)))

    def run(self, number: int, data: bytes, buffers, refs, exports: int):
        """Run a packed message and wait for it: `(Report, *exported values)`, or the Report alone.

        A message that cannot be read ends the device: later ones would wait for it for ever.
        """
        try:
            segments = unpack(data, buffers, refs)
        except Exception as error:
            self._host.fail(error)
            raise
        report, values = self._host.submit(number, segments, exports).result()
        return (report, *values) if exports else report

    def deliver(self, token: int, value) -> None:
        """A value that the driver's process promised under `token`."""
        self._host.deliver(token, value)

    def describe(self) -> dict[str, Any]:
        """Process id, node, niceness, and what the device holds; also the sign of life."""
        return {
            "pid": os.getpid(),
            "node": ray.get_runtime_context().get_node_id(),
            "niceness": os.getpriority(os.PRIO_PROCESS, 0),
            "kernels": backend.active(self._host.runner.xp),
            **self._host.describe(),
        }

    def watch(self) -> None:
        """Never returns: the call fails the moment that this process is gone."""
        import threading

        threading.Event().wait()


def _full_priority() -> None:
    """Ray starts workers at niceness 15; take normal priority where the system allows it."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    except PermissionError:
        pass


def _threads(settings: dict[str, Any]) -> int:
    """Threads for kernels: as asked, else this node's cores but one, which is left to the script, cut over the virtual
    GPUs. A kernel with a thread on every core waits whenever somebody else needs one."""
    cores = len(os.sched_getaffinity(0))
    return settings["device_threads"] or max(1, (cores - 1) // max(1, settings["virtual_gpus"]))


def start_device(name: str, kind: str, settings: dict[str, Any], **options):
    """Start a device actor with the given Ray options; returns its handle at once."""
    options |= {
        "max_concurrency": max(CONCURRENT_MESSAGES, 2 * settings["inflight_limit"]),
        "concurrency_groups": {"control": 2, "watch": 1},
        "max_restarts": 0,
        "max_task_retries": 0,
    }
    return ray.remote(**options)(DeviceActor).remote(name, kind, settings)
