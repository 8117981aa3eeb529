"""The one file that turns the plain classes of this package into Ray actors."""

from __future__ import annotations

import importlib
import itertools
import os
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.exceptions import RayActorError

from raymx import config, faults, trace
from raymx.actors import device
from raymx.actors.device import DeviceRunner
from raymx.actors.host import DeviceHost
from raymx.actors.keeper import Keeper, ReplicaGone
from raymx.actors.memory import Pool
from raymx.actors.metrics import Metrics
from raymx.actors.shard import Shard, copied
from raymx.actors.transfer import resolve, unpack
from raymx.actors.turns import Turns
from raymx.engine.segment import Failure, Letter, lost
from raymx.errors import KVStoreError
from raymx.ops import backend

REPORT_S = 2.0  # between reports to Ray's metrics
LATER = "later"  # the answer to a call that came before its turn
SHARED_NBYTES = 1 << 20  # of pulled values from which on they lie in the object store once for all workers
INLINE_NBYTES = 100_000  # up to which Ray sends an argument with its call; larger ones go through the object store
CONCURRENT_MESSAGES = 64  # at least; a message under way holds a thread, and the driver bounds how many there are


class DeviceActor:
    """One device of the cluster. `settings` are the driver's configuration switches, `role` is for `faults`."""

    def __init__(self, name: str, kind: str, settings: dict[str, Any], role: str = ""):
        config.set(**settings)
        faults.play(role)
        if kind == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        _full_priority()
        trace.leave_to_launcher()
        runner = DeviceRunner(name, backend.array_module(kind), int(settings["pool_mb"]) << 20, trace.active())
        device.home = runner
        self._host = DeviceHost(
            runner, resolve, settings["check"], lambda sharers: backend.use_threads(_threads(settings, sharers))
        )
        self._mail = Mailroom(name)
        runner.post, self._host.farewell = self._mail.post, self._mail.say_farewell

    def run(self, number: int, data: bytes, buffers, refs, exports: int):
        """Run a packed message and wait for it: `(Report, *exported values)`, or the Report alone.

        A message that cannot be read ends the device: later ones would wait for it for ever.
        """
        faults.point("run")
        try:
            segments = unpack(data, buffers, refs)
        except Exception as error:
            self._host.fail(error)
            raise
        report, values = self._host.submit(number, segments, exports).result()
        faults.point("ran")
        return (report, *values) if exports else report

    def deliver(self, token: int, value) -> None:
        """A value that the driver's process promised under `token`."""
        faults.point("deliver")
        self._host.deliver(token, value)

    def deliver_held(self, token: int, refs: list, window: slice) -> None:
        """The same, of a list in the object store. Raises ObjectLostError if it is there no more."""
        faults.point("deliver")
        (values,) = ray.get(refs)
        self._host.deliver(token, values[window])

    def receive(self, sender: str, number: int, value) -> None:
        """A letter of another device."""
        self._host.deliver(Letter(sender, number), value)

    def introduce(self, me: str, others: Mapping[str, Any]) -> None:
        """The devices that this one may send letters to and get letters from: their handles by address."""
        self._host.expect_letters_of(others)
        self._mail.introduce(me, others)

    def expect_nothing_of(self, address: str, words: str) -> None:
        """Another device is gone: no letter of it will come any more."""
        self._host.expect_nothing_of(address, lost(words))

    def describe(self) -> dict[str, Any]:
        """Process id, node, niceness, and what the device holds; also the sign of life."""
        return {
            "pid": os.getpid(),
            "node": ray.get_runtime_context().get_node_id(),
            "niceness": os.getpriority(os.PRIO_PROCESS, 0),
            "kernels": backend.active(self._host.runner.xp),
            "layouts": backend.layouts(self._host.runner.xp),
            **self._host.describe(),
        }

    def watch(self) -> None:
        """Never returns: the call fails the moment that this process is gone."""
        threading.Event().wait()


class Mailroom:
    """Hands values of a device to other devices, by calls of theirs that a thread makes: the device goes on meanwhile.

    A large value is put into the object store once, however many get it; its ref is this process's, so nothing of it
    passes through the script's."""

    def __init__(self, name: str):
        self._name, self._me = name, ""
        self._receive: dict[str, Any] = {}  # by address
        self._silence: dict[str, Any] = {}
        self._outgoing: queue.SimpleQueue = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def introduce(self, me: str, others: Mapping[str, Any]) -> None:
        self._me = me
        for address, actor in others.items():
            self._receive[address] = actor.receive.options(concurrency_group="mail", num_returns=0)
            self._silence[address] = actor.expect_nothing_of.options(concurrency_group="control", num_returns=0)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="raymx mail", daemon=True)
            self._thread.start()

    def post(self, addresses: Sequence[str], number: int, value) -> None:
        """Send an array, which nobody may change any more, or a Failure."""
        self._outgoing.put((addresses, number, value))

    def say_farewell(self, error: BaseException) -> None:
        """This device sends nothing any more."""
        for silence in self._silence.values():
            silence.remote(self._me, f"{self._name} stopped: {type(error).__name__}: {error}".rstrip("."))

    def _work(self) -> None:
        while True:
            addresses, number, value = self._outgoing.get()
            if isinstance(value, np.ndarray) and value.nbytes > INLINE_NBYTES:
                value = ray.put(value)
            for address in addresses:
                self._receive[address].remote(self._me, number, value)
            del value


class ShardActor:
    """A shard of the key-value store. `optimizers` names the function that makes updaters, as `module:function`."""

    def __init__(self, job: str, name: str, role: str, workers: int, optimizers: str, settings: dict[str, Any]):
        config.set(**{**settings, "engine": "naive"})
        trace.leave_to_launcher()
        faults.play(role)
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        _full_priority()
        self._batches: deque[tuple[Any, list]] = deque(maxlen=2)  # arrays that lie together, and the ref of all
        shard = Shard(workers, freeze=self._freeze, empty=Pool(int(settings["pool_mb"]) << 20).empty)
        self._role = role
        number = int(role.removeprefix("shard ").split(".")[0])
        self._turns = Turns()
        self._late: dict[tuple[str, int], Future] = {}  # calls that came before their turn, and are asked for again
        self._keeper = Keeper(name, shard, partial(_imported(optimizers), shard=number), _values)
        self._metrics = Metrics(job, str(number))
        threading.Thread(target=self._report, name="raymx metrics", daemon=True).start()

    def __repr__(self) -> str:  # Ray writes it before each line of output
        return self._role

    def _report(self) -> None:
        """Let Ray know of what was counted, now and then."""
        while True:
            self._keeper.measures.report(self._metrics.count, self._metrics.observe)
            time.sleep(REPORT_S)

    def take(self, sender: str, number: int, method: str, *args):
        """Call `push`, `call` or `follow` in the order of the sender's numbers, from 0; LATER if that is not now. For
        one thread."""
        result = self._turns.take(sender, number, partial(getattr(self, method), *args))
        if result.done():
            return result.result()
        if method != "push":
            self._late[sender, number] = result
        return LATER

    def taken(self, sender: str, number: int):
        """What a call gave that was to come later; waits for it."""
        return self._late.pop((sender, number)).result()

    def call(self, method: str, *args):
        """What a worker asks that does not wait for others."""
        return getattr(self._keeper, method)(*args)

    def push(self, rank: int, numbers, payload, note=None) -> None:
        self._keeper.push(rank, numbers, payload, note)

    def follow(self, event) -> None:
        self._keeper.follow(event)

    def pull(self, rank: int, wanted, timeout_s: float, rows):
        """A list of the arrays, or a tuple with its ref, if they lie in the object store together."""
        values = self._keeper.pull(rank, wanted, timeout_s, rows)
        for ref, batch in list(self._batches):
            if len(batch) == len(values) and all(a is b for a, b in zip(batch, values, strict=True)):
                return (ref,)
        return values

    def point(self, name: str) -> None:
        """Come to a point of a planned fault that only a worker can tell."""
        faults.point(name)

    def barrier(self, number: int, timeout_s: float) -> None:
        self._keeper.barrier(number, timeout_s)

    def adopt(self, replica, timeout_s: float) -> None:
        """Keep a replica, the handle of an actor, up to date from now on."""
        self._keeper.adopt(None if replica is None else _Follower(replica), timeout_s)

    def describe(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "node": ray.get_runtime_context().get_node_id(), **self._keeper.describe()}

    def events(self) -> list[trace.Event]:
        """What was recorded for the trace since the last time."""
        return trace.taken()

    def watch(self) -> None:
        """Never returns: the call fails the moment that this process is gone."""
        threading.Event().wait()

    def _freeze(self, arrays):
        """Large ones together in the object store, from where every worker reads them without a copy."""
        if sum(a.nbytes for a in arrays) < SHARED_NBYTES:
            return copied(arrays)
        ref = ray.put(list(arrays))
        self._batches.append((ref, ray.get(ref)))
        return self._batches[-1][1]


class WorkerActor:
    """A worker of a launched job: runs the user's function once."""

    def __init__(self, job, settings: dict[str, Any]):
        config.set(**settings)
        trace.leave_to_launcher()
        faults.play(f"worker {job.rank}.{job.attempt}")
        _full_priority()
        self._job = job

    def __repr__(self) -> str:  # Ray writes it before each line of output
        return f"worker {self._job.rank}"

    def run(self, runner: str, *args):
        """Call the function named `module:function` with the job and what else came."""
        return _imported(runner)(self._job, *args)

    def events(self) -> list[trace.Event]:
        """What was recorded for the trace since the last time; while `run` is at work, this waits for its end."""
        return trace.taken()


def start_worker(job, settings: dict[str, Any], **options):
    """Start a worker's actor with the given Ray options; returns its handle at once."""
    options |= {"max_restarts": 0, "max_task_retries": 0}
    return ray.remote(**options)(WorkerActor).remote(job, settings)


class InOrder:
    """The way to a shard's actor for one sender, whose calls are taken in the order in which they are made."""

    def __init__(self, actor):
        self.actor = actor
        self._sender = secrets.token_hex(8)
        self._number = itertools.count()

    def call(self, method: str, *args) -> tuple[Any, int]:
        """Make a call; the ref of its answer, which may be LATER, and its number."""
        number = next(self._number)
        take = self.actor.take.options(concurrency_group="events")
        return take.remote(self._sender, number, method, *args), number

    def later(self, number: int):
        """The ref of an answer that was to come later."""
        return self.actor.taken.remote(self._sender, number)


class _Follower:
    """The way to a replica."""

    def __init__(self, actor):
        self._way = InOrder(actor)

    def send(self, event):
        return _Followed(self._way, *self._way.call("follow", event))


class _Followed(NamedTuple):
    way: InOrder
    ref: Any
    number: int

    def wait(self, timeout_s: float) -> bool:
        ref = self.ref
        try:
            while ray.wait([ref], timeout=timeout_s)[0]:
                if ray.get(ref) != LATER:
                    return True
                ref = self.way.later(self.number)
        except RayActorError as error:
            raise ReplicaGone from error
        return False


def _values(payload) -> list:
    """The arrays of a push, in parcels: lists of arrays, or tuples with the ref of such a list. Raises KVStoreError
    for one that its device could not make."""
    refs = [parcel[0] for parcel in payload if isinstance(parcel, tuple)]
    found = iter(ray.get(refs) if refs else ())
    parcels = [next(found) if isinstance(parcel, tuple) else parcel for parcel in payload]
    for parcel in parcels:
        if isinstance(parcel, Failure):
            raise KVStoreError(f"push: {parcel.text}.")
    return [_unpacked(value) for parcel in parcels for value in parcel]


def _unpacked(value):
    """A gradient that was sent in fewer bytes, as it is meant."""
    return value if isinstance(value, np.ndarray) else value.unpacked()


def _imported(path: str):
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def start_shard(job: str, shard: str, role: str, workers: int, optimizers: str, settings: dict[str, Any], **options):
    """Start a shard's actor with the given Ray options; returns its handle at once."""
    options |= {
        "max_concurrency": 4 * workers + 8,
        "concurrency_groups": {"events": 1, "control": 2, "watch": 1},
        "max_restarts": 0,
        "max_task_retries": 0,
    }
    return ray.remote(**options)(ShardActor).remote(job, shard, role, workers, optimizers, settings)


def _full_priority() -> None:
    """Ray starts workers at niceness 15; take normal priority where the system allows it."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    except PermissionError:
        pass


def _threads(settings: dict[str, Any], sharers: int) -> int:
    """Threads for kernels: as asked, else one per core of this node, divided by virtual GPUs or sharers."""
    cores = len(os.sched_getaffinity(0))
    return settings["device_threads"] or max(1, cores // max(1, settings["virtual_gpus"], sharers))


def start_device(name: str, kind: str, settings: dict[str, Any], **options):
    """Start a device actor with the given Ray options; returns its handle at once."""
    options |= {
        "max_concurrency": max(CONCURRENT_MESSAGES, 2 * settings["inflight_limit"]),
        "concurrency_groups": {"control": 2, "watch": 1, "mail": 1},
        "max_restarts": 0,
        "max_task_retries": 0,
    }
    return ray.remote(**options)(DeviceActor).remote(name, kind, settings, faults.of_device())
