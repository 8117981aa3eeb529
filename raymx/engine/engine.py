"""The engine: lanes by device, waiting for all of them, and failures found wherever they began."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from raymx import config
from raymx.engine.recorder import Flusher, Lane, Transport, again
from raymx.engine.segment import Failure
from raymx.errors import MXNetError, TaskError

L = TypeVar("L", bound=Lane)


class Engine(Generic[L]):
    """Variables are integers. Each device has one lane; program order holds within it, and across lanes through the
    values that one exports and another awaits: together, results equal those of running every push one by one."""

    def __init__(self, lane_type: type[L]):
        self._lane_type = lane_type
        self.lanes: dict[str, L] = {}
        self.new_variable: Callable[[], int] = itertools.count(1).__next__
        self._left_behind: list[L] = []  # in a forked process: lanes of the parent
        self._begin()

    def _begin(self) -> None:
        self._flusher = Flusher(lambda: list(self.lanes.values()), config.get("flush_ms") / 1e3)
        self._lock = threading.RLock()

    def lane(self, name: str, connect: Callable[[], Transport], begin: Callable[[L], None] | None = None) -> L:
        """The lane of a device. The first call for a name connects it, and `begin(lane)` pushes what comes before
        everything else."""
        lane = self.lanes.get(name)
        if lane is None:
            with self._lock:
                lane = self.lanes.get(name)
                if lane is None:
                    lane = self._lane_type(name, connect(), self)
                    if begin is not None:
                        begin(lane)
                    self.lanes[name] = lane
        return lane

    def wait_all(self) -> None:
        """Wait for everything pushed so far on every device; raise the first failure that was not raised yet. A device
        that is lost holds up none of the others."""
        lanes = list(self.lanes.values())
        for lane in lanes:
            lane.flush()
        for lane in lanes:
            with lane.noting_loss:
                lane.wait()
        for lane in lanes:
            lane.raise_failure()

    def explain(self, failure: Failure) -> MXNetError:
        """The error to raise for a failure that was met in the place of a value."""
        lane = self.lanes.get(failure.device)
        if lane is None or failure.message < 0:
            return again(failure.cause) if isinstance(failure.cause, MXNetError) else TaskError(failure.text)
        return lane.explain(failure)

    def close(self) -> None:
        """End all devices. What is recorded and not sent is dropped."""
        lanes, self.lanes = list(self.lanes.values()), {}
        for lane in lanes:
            lane.close()

    def after_fork(self, error: MXNetError) -> None:
        """In a child process: threads and connections did not come along. Begin afresh; whatever was there before
        raises `error`. Variables go on being new."""
        lanes, self.lanes = list(self.lanes.values()), {}
        self._left_behind += lanes
        for lane in lanes:
            lane.abandon(error)
        self._begin()

    @property
    def asleep(self) -> bool:
        return self._flusher.asleep

    def wake(self) -> None:
        self._flusher.wake()
