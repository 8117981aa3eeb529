"""Devices in the cluster: joining Ray, counting GPUs, starting device actors, noticing that one is gone."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import signal
import site
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raymx import config
from raymx.actors.device import WRITE
from raymx.actors.remote import start_device
from raymx.actors.transfer import Remote, pack
from raymx.engine.recorder import again
from raymx.engine.segment import Failure, Report, Segment
from raymx.errors import ContextError, DeviceError, DeviceLostError, DeviceStartError, DeviceTimeoutError
from raymx.runtime.local import Held, Promise, stopped
from raymx.runtime.placement import in_bundle, on_node

SOON_S = 0.0003  # less than a Ray call costs
_started_ray = False  # whether this process started Ray, and so ends it
_orphaned = False  # whether this process was forked from one that uses Ray


def join(address: str | None = None, **options) -> None:
    """Join the Ray cluster at `address`, or the one that the switch, RAY_ADDRESS or a running job names, or start one
    on this machine. Does nothing where Ray is running in this process already."""
    global _started_ray
    if _orphaned:
        raise DeviceError(
            "device actors cannot be used in a process that was forked from one that uses Ray; start it afresh "
            "instead, as multiprocessing.get_context('spawn') does."
        )
    if ray.is_initialized():
        return
    address = address or config.get("address") or None
    defaults: dict[str, Any] = {"include_dashboard": False, "logging_level": "warning"}
    if address == "local":
        os.environ.setdefault("RAY_worker_niceness", "0")
    else:
        defaults.pop("include_dashboard")
    with _handlers_kept():
        try:
            ray.init(address=address, **{**defaults, **options})
        except ConnectionError:
            if address is not None or os.environ.get("RAY_ADDRESS"):
                raise
            ray.init(address="local", **{**defaults, "include_dashboard": False, **options})  # the noted one is dead
    _started_ray = True


@contextlib.contextmanager
def _handlers_kept():
    """Ray sets a handler for SIGTERM; inside, one that the process has already stays."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if callable(before) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def dump_code(value) -> bytes:
    """A pickle of `value` in which classes and functions are written out, but for those of installed packages, which
    every process of the cluster has."""
    with _by_value([module for module in list(sys.modules.values()) if _is_the_user_s(module)]):
        return cloudpickle.dumps(value)


@contextlib.contextmanager
def _by_value(modules: Sequence):
    registered = []
    try:
        for module in modules:
            if module.__name__ not in cloudpickle.list_registry_pickle_by_value():
                cloudpickle.register_pickle_by_value(module)
                registered.append(module)
        yield
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


_PLACES = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
_INSTALLED = tuple(f"{place}{os.sep}" for place in {*_PLACES, *site.getsitepackages(), site.getusersitepackages()})


def _is_the_user_s(module) -> bool:
    """Whether a module lies outside of where packages are installed, and is not raymx itself."""
    name, path = getattr(module, "__name__", ""), getattr(module, "__file__", None)
    if not isinstance(path, str) or sys.modules.get(name) is not module or name.split(".")[0] in ("raymx", "__main__"):
        return False
    return not os.path.abspath(path).startswith(_INSTALLED)


def node() -> str:
    """The node that this process is on; empty where Ray is not running."""
    return ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""


def leave() -> None:
    """Leave the cluster; end it if this process started it."""
    global _started_ray
    _gpus.clear()
    if _started_ray and ray.is_initialized():
        ray.shutdown()
    _started_ray = False


def after_fork() -> None:
    """In a child process: the connection to Ray belongs to the parent."""
    global _started_ray, _orphaned
    _started_ray, _orphaned = False, ray.is_initialized()
    _live.clear()


_gpus: list[tuple[str, int]] = []  # (node id, index on the node) of every GPU seen; numbers never change


_launched = False  # whether this process is a worker of a launched job: its devices then stay on its node
_reserved = 0  # GPUs that are this worker's own, at the end of its placement group


def settle(devices: int) -> None:
    """This process is a launched job's worker, with so many devices of its own."""
    global _launched, _reserved
    _launched, _reserved = True, 0 if config.get("virtual_gpus") else devices


def num_gpus() -> int:
    """GPUs of the cluster, or this worker's own, or the virtual ones."""
    return config.get("virtual_gpus") or _reserved or len(_real_gpus())


def _real_gpus() -> list[tuple[str, int]]:
    join()
    nodes = sorted((n for n in ray.nodes() if n["Alive"]), key=lambda n: (n["NodeManagerAddress"], n["NodeID"]))
    known = set(_gpus)
    for node in nodes:
        for index in range(int(node["Resources"].get("GPU", 0))):
            if (node["NodeID"], index) not in known:
                _gpus.append((node["NodeID"], index))
    return _gpus


def connect(kind: str, index: int) -> RayTransport:
    """Start the actor of `cpu(index)` or `gpu(index)` and wait for its first sign of life.

    Raises ContextError for a GPU that the cluster lacks, DeviceStartError when the actor does not start.
    """
    name = f"{kind}({index})"
    join()
    here = ray.get_runtime_context().get_node_id() if _launched else None
    options: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": on_node(here)}
    backend = "cpu"
    if kind == "gpu":
        count = num_gpus()
        if index >= count:
            raise ContextError(
                f"{name}: there {'is' if count == 1 else 'are'} {count} GPU{'' if count == 1 else 's'} "
                f"({_kind_of_gpus()}); use a smaller number, or "
                f"emulate more with RAYMX_VIRTUAL_GPUS={index + 1} or raymx.init(virtual_gpus={index + 1})."
            )
        if not config.get("virtual_gpus"):
            backend = "gpu"
            options = {"num_cpus": 0, "num_gpus": 1, "scheduling_strategy": _place_of_gpu(index)}
    actor = start_device(name, backend, config.snapshot(), **options)
    transport = RayTransport(name, actor)
    transport.wait_until_started(config.get("start_timeout_s"))
    return transport


def _kind_of_gpus() -> str:
    if config.get("virtual_gpus"):
        return "virtual"
    return "this worker's own, of devices_per_worker" if _reserved else "in the Ray cluster"


def _place_of_gpu(index: int):
    """The scheduling strategy for the actor of a real GPU."""
    if not _reserved:
        return NodeAffinitySchedulingStrategy(_real_gpus()[index][0], False)
    group = get_current_placement_group()
    assert group is not None, "a worker with devices is in a placement group"
    return in_bundle(group, group.bundle_count - _reserved + index)


class RayTicket:
    """A message under way on an actor."""

    __slots__ = ("transport", "ref", "exports", "_here")

    def __init__(self, transport: RayTransport, ref, exports: Sequence):
        self.transport, self.ref = transport, ref
        self._here = ref.future()  # to look at it costs nothing, where asking Ray costs 0.1 ms
        self.exports = [Remote(transport.name, each) for each in exports]

    def subscribe(self, callback: Callable[[], None]) -> None:
        self._here.add_done_callback(lambda _: callback())

    def done(self) -> bool:
        return self._here.done() or self.transport.unreachable()

    def wait(self, timeout_s: float) -> bool:
        return self.transport.wait_for(self.ref, timeout_s)

    def report(self) -> Report:
        return self.transport.get(self.ref)


_live: dict[str, RayTransport] = {}  # every device actor of this process that is not known to be gone


class RayTransport:
    """The way to one device actor."""

    afar = True
    _tokens = itertools.count(1)

    def __init__(self, name: str, actor):
        self.name, self.actor = name, actor
        self.about: dict[str, Any] = {}  # what the actor said of itself when it started
        self.address: str = actor._actor_id.hex()  # by which other devices know it
        self._known: list[RayTransport] = []  # the devices that get letters of this one, or wait for them
        self._lost: DeviceLostError | None = None
        self._closed = False
        self._pulse = Pulse(self)
        self._run = {n: actor.run.options(num_returns=1 + n) for n in range(2)}

    def wait_until_started(self, timeout_s: float) -> None:
        """Wait for the actor's first answer. Raises DeviceStartError."""
        try:
            self.about = ray.get(self.ask(), timeout=timeout_s)
        except GetTimeoutError:
            ray.kill(self.actor)
            free = {k: v for k, v in ray.available_resources().items() if k in ("CPU", "GPU", "memory")}
            raise DeviceStartError(
                f"{self.name} did not start within {timeout_s:g} s; free in the cluster: {free}. Free a device, add a "
                "node, or raise the switch start_timeout_s (RAYMX_START_TIMEOUT_S)."
            ) from None
        except RayError as error:
            last_line = str(error).strip().splitlines()[-1]  # before it come frames of both processes
            raise DeviceStartError(f"{self.name} could not start: {last_line}") from error
        watch = self.actor.watch.options(concurrency_group="watch").remote()
        watch.future().add_done_callback(lambda f: self._gone(f.exception()))
        _live[self.name] = self

    @property
    def kernels(self) -> tuple[str, ...]:
        """The libraries of special kernels that the actor has."""
        return self.about["kernels"]

    @property
    def layouts(self) -> tuple[str, ...]:
        """The layouts in which its kernels are faster than in C order."""
        return self.about["layouts"]

    def send(self, number: int, segments: Sequence[Segment], exports: int) -> RayTicket:
        self._refuse_lost()
        try:
            data, buffers, refs = pack([self._promised(s) for s in segments])
            run = self._run.get(exports) or self.actor.run.options(num_returns=1 + exports)
            answer = run.remote(number, data, buffers, refs, exports)
        except Exception as error:
            raise DeviceError(f"{self.name} was lost: its work could not be sent ({_words(error)}).") from error
        return RayTicket(self, answer[0], answer[1:]) if exports else RayTicket(self, answer, ())

    def fetch(self, handle: Remote, timeout_s: float) -> Any:
        if not self.wait_for(handle.ref, timeout_s):
            raise TimeoutError
        return self.get(handle.ref)

    def look(self) -> None:
        """A beat of those who wait for this device elsewhere: see whether it, and the others, still live."""
        for transport in list(_live.values()):
            transport._pulse.check(config.get("heartbeat_s"))

    def wait_for(self, ref, timeout_s: float) -> bool:
        """Wait for a ref, at most so long; whether it is there. Raises DeviceLostError when the device is gone or two
        signs of life in a row do not come. Meanwhile the other devices are asked, too: the value may wait for one."""
        deadline = time.monotonic() + timeout_s
        beat_s = config.get("heartbeat_s")
        while not self.unreachable():
            if ray.wait([ref], timeout=min(beat_s, max(0.0, deadline - time.monotonic())))[0]:
                return True
            self._refuse_lost()
            if time.monotonic() >= deadline:
                return False
            self.look()
            self._refuse_lost()
        raise self._gone(None)

    def get(self, ref) -> Any:
        """The value of a ref that is there. Raises DeviceLostError, DeviceError."""
        if self.unreachable():
            raise self._gone(None)
        try:
            return ray.get(ref)
        except RayActorError as error:
            raise self._gone(error) from error
        except RayError as error:
            raise stopped(self.name, _cause(error)) from error

    def describe(self) -> dict[str, Any]:
        """What the actor says of itself: process id, node, niceness, and what it holds."""
        return self._answer(self.ask())

    @staticmethod
    def introduce(transports: Sequence[RayTransport]) -> None:
        """Let these devices send letters to each other. Raises DeviceLostError, DeviceTimeoutError."""
        answers = []
        for each in transports:
            others = [other for other in transports if other is not each and other not in each._known]
            if others:
                people = {other.address: other.actor for other in others}
                answers.append((each, each._control("introduce", each.address, people)))
                each._known += others
        for each, answer in answers:
            each._answer(answer)

    def _answer(self, ref) -> Any:
        """What a ref brings, when it is there. Raises DeviceLostError, DeviceTimeoutError."""
        if not self.wait_for(ref, config.get("timeout_s") or float("inf")):
            raise DeviceTimeoutError(f"{self.name} has not answered within the switch timeout_s.")
        return self.get(ref)

    def ask(self):
        """The ref of a sign of life."""
        return self._control("describe")

    def silent(self) -> None:
        """The actor does not answer: end it, so that whoever waits for its values is told."""
        self._gone(None)
        ray.kill(self.actor)

    def close(self) -> None:
        self._closed = True
        _live.pop(self.name, None)
        self._lost = self._lost or DeviceLostError(f"{self.name} was shut down; its arrays are gone.")
        if ray.is_initialized():
            ray.kill(self.actor)

    def _control(self, method: str, *args):
        return getattr(self.actor, method).options(concurrency_group="control").remote(*args)

    def _promised(self, segment: Segment) -> Segment:
        """A value of this process travels in the message if it is there, or comes within a moment; otherwise it follows
        under a token, which costs a call of its own."""
        if not isinstance(segment.awaits, Promise):
            return segment
        value = segment.awaits.value(SOON_S)  # None if it comes from a store
        if value is not None and not isinstance(value, Failure):
            return segment._replace(tasks=[(WRITE, segment.tasks[0][1], value)], awaits=None)
        token = next(self._tokens)
        segment.awaits.subscribe(lambda value: self._deliver(token, value))
        return segment._replace(awaits=token)

    def _deliver(self, token: int, value) -> None:
        if self._lost is not None or self.unreachable():
            return
        if isinstance(value, Held):
            read = self.actor.deliver_held.remote(token, [value.ref], value.window)
            read.future().add_done_callback(lambda read: value.told(read.exception()))
        else:
            self._control("deliver", token, value)

    def unreachable(self) -> bool:
        """Whether Ray must not be asked: it would start anew, knowing nothing of this actor."""
        return self._closed or not ray.is_initialized()

    def _refuse_lost(self) -> None:
        if self._lost is not None or self.unreachable():
            raise self._gone(None)

    def _gone(self, error: BaseException | None) -> DeviceLostError:
        _live.pop(self.name, None)
        known, self._known = self._known, []
        for other in known:  # nobody else tells them, and they may be waiting for its letters
            if other._lost is None and not other.unreachable():
                other._control("expect_nothing_of", self.address, f"{self.name} was lost before its value was copied")
        if self._lost is None:
            if not ray.is_initialized():
                why = "Ray was shut down"
            else:
                why = f"its process ended ({type(error).__name__})" if error else "it does not answer"
            self._lost = DeviceLostError(
                f"{self.name} was lost: {why}; it was process {self.about.get('pid', '?')} on node "
                f"{str(self.about.get('node', '?'))[:8]}. Its arrays are gone; load a checkpoint and go on with "
                "another device, or start it anew with raymx.runtime.restart(context)."
            )
            self._lost.__cause__ = error
        return again(self._lost)


class Pulse:
    """Signs of life of one actor. Any thread that waits for a device checks all of them at each beat."""

    def __init__(self, transport: RayTransport):
        self._transport = transport
        self._sign: Any = None  # the ref of the last question's answer
        self._missed = 0  # beats since it was asked
        self._checked = -math.inf

    def check(self, beat_s: float) -> None:
        """See whether the last question was answered, and ask the next one; two beats without an answer mean lost."""
        now = time.monotonic()
        if now - self._checked < beat_s * 0.9:
            return  # another thread has been here
        self._checked = now
        if self._sign is None or ray.wait([self._sign], timeout=0)[0]:
            self._sign, self._missed = self._transport.ask(), 0
            return
        self._missed += 1
        if self._missed >= 2:
            self._transport.silent()


def _cause(error: BaseException) -> BaseException:
    """What went wrong in the other process, if Ray's error says so."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else error


def _words(error: BaseException) -> str:
    cause = _cause(error)
    return f"{type(cause).__name__}: {cause}"
