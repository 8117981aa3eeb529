"""Planned faults, for tests: a process kills itself when it comes to a named point.

The switch `fault` holds `ROLE at POINT N`, or several of those with semicolons between them: the process that plays
ROLE ends, as by `kill -9`, when it reaches POINT for the N-th time; with `ROLE stops at POINT N` it stops and does not
go on. Roles are `shard 0.0` (shard 0 as it was started first; its first replica is `shard 0.1`), `worker 1.0` (worker 1
as it was started first), `device 1.0` (any device of that worker; at `checkpoint:device` its worker is at the point,
and ends the first one).
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable

from raymx import config
from raymx.errors import ParameterError

_OF_ITS_WORKER = "checkpoint:device"
POINTS = {
    "worker": ("push:before", "push:between", "pull:before", "pull:after", "checkpoint:writing", "checkpoint:written",
               "checkpoint:described"),
    "shard": ("push:received", "push:applied", "pull:answering", "pull:answered", "checkpoint", "states"),
    "device": ("run", "ran", "deliver", _OF_ITS_WORKER),
}  # fmt: skip
_PLAN = re.compile(r"(shard|worker|device) (\d+\.\d+) (at|stops at) ([a-z:]+) (\d+)")

_role = ""  # that this process plays
_left: dict[str, int] = {}  # point → how often it may still be passed; empty where no fault is planned
_signals: dict[str, int] = {}  # point → what is sent there


def play(role: str) -> None:
    """Say which role this process plays. Raises ParameterError for a plan that cannot be read."""
    global _role
    _role = role
    _left.clear()
    for plan in filter(None, config.get("fault").split(";")):
        _plan(role, plan.strip())


def _plan(role: str, plan: str) -> None:
    found = _PLAN.fullmatch(plan)
    if found is None or found[4] not in POINTS[found[1]]:
        raise ParameterError(
            f"config fault must be like 'shard 0.0 at push:applied 3' (points: {POINTS}), got {plan!r}."
        )
    if role == f"{'worker' if found[4] == _OF_ITS_WORKER else found[1]} {found[2]}":
        _left[found[4]] = int(found[5])
        _signals[found[4]] = signal.SIGKILL if found[3] == "at" else signal.SIGSTOP


def planned(name: str) -> bool:
    """Whether some process is planned to end at this point."""
    return f" at {name} " in config.get("fault")


def of_device() -> str:
    """The role of the devices that this process starts; empty if it is no worker of a launched job."""
    return _role.replace("worker", "device") if _role.startswith("worker") else ""


def point(name: str, victim: Callable[[], int] = os.getpid) -> None:
    """This process is at a point where it, or the one that `victim` gives, may be planned to end."""
    if _left and name in _left:
        _left[name] -= 1
        if _left[name] == 0:
            os.kill(victim(), _signals[name])
