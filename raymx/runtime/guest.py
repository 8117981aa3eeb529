"""Lanes for the user's code that a device runs: an operator written in Python.

Such code must not wait for the device that it holds up. So, while it runs, its device and `cpu(0)` are lanes that do
every task at once, in the caller, over the memory of the process in which the code is.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import numpy as np

from raymx.actors import device
from raymx.engine import recorder
from raymx.errors import ContextError
from raymx.runtime import local
from raymx.runtime.lane import DeviceLane

_HOST = "cpu(0)"


class GuestTransport(local.NaiveTransport):
    """Runs tasks in the caller, on arrays of its own and on those that `hold` puts there."""

    def __init__(self, host: device.DeviceRunner):
        self._runner = device.DeviceRunner(host.name, host.xp)
        self._runner.rng, self._runner.empty = host.rng, host.empty

    def hold(self, array: int, memory: Any) -> None:
        """Let the id `array` stand for memory of the device."""
        self._runner.arrays[array] = memory


class Guests:
    """The lanes of one device's visitors."""

    def __init__(self, runner: device.DeviceRunner, engine):
        self.name = runner.name
        self._engine = engine
        self._lock = threading.Lock()
        self._lanes = {runner.name: DeviceLane(runner.name, GuestTransport(runner), engine, at_once=True)}

    def lane(self, name: str) -> DeviceLane:
        """The lane of a context. Raises ContextError for another device's."""
        with self._lock:
            if name == _HOST and name not in self._lanes:
                self._lanes[name] = DeviceLane(name, GuestTransport(device.DeviceRunner(name, np)), self._engine, True)
        if name not in self._lanes:
            raise ContextError(
                f"an operator that runs on {self.name} can use arrays of {self.name} and {_HOST}, not of {name}; hand "
                "them in as inputs."
            )
        return self._lanes[name]

    def settle(self) -> None:
        """Let go of what visitors have let go of."""
        for lane in list(self._lanes.values()):
            lane.flush_freed()


def guests(engine) -> Guests | None:
    """The guests of the device whose work this thread does; None outside of a visit."""
    runner = device.running() if recorder.visit.inside or device.home is not None else None
    if runner is None:
        return None
    if runner.guest is None:
        runner.guest = Guests(runner, engine)
    return runner.guest


@contextlib.contextmanager
def visit(engine):
    """Inside, the user's code runs on the device of this thread: yields its guests."""
    recorder.visit.inside += 1
    try:
        found = guests(engine)
        assert found is not None, "no device runs on this thread"
        yield found
        found.settle()
    finally:
        recorder.visit.inside -= 1
