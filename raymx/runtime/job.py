"""Launched jobs: workers that run a function each, the shards of their store, and a watch over all of them.

The process that launches supervises: it starts a worker anew when its process or one of its devices is gone, and a
replica of a shard when one is missing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import runpy
import secrets
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from raymx import config, trace
from raymx.actors.metrics import Metrics
from raymx.actors.remote import start_worker
from raymx.errors import DeviceLostError, KVStoreTimeoutError, MXNetError, ShardLostError, WorkerLostError
from raymx.runtime import cluster, placement, store
from raymx.runtime.store import Job, ShardLink

_log = logging.getLogger("raymx")
_RUNNER = "raymx.runtime.job:run"
_LOOK_S = 1.0  # between looks at what has ended
_ENDED_S = 5.0  # that processes may take to end
_EVENTS_S = 2.0  # that they may take to tell what they recorded for the trace
_TOGETHER_S = 0.5  # between the error of a worker and the loss of the shard that caused it

recoveries: Counter[str] = Counter()  # of the jobs that this process has launched: workers, and processes of shards
_current: Job | None = None  # of which this process is a worker
_at_end: list[Callable[[], Any]] = []  # what a worker calls when the user's code is done
_own: Supervisor | None = None  # of a script that was not launched


def current() -> Job:
    """The job of which this process is a worker. A script that was not launched is the only worker of a job of its own,
    with as many shards as the switch `kvstore_servers` says."""
    global _own
    if _current is not None:
        return _current
    if _own is None:
        cluster.join()
        _own = Supervisor(workers=1, shards=config.get("kvstore_servers"), replicas=0)
        _own.start_shards()
    return _own.job(0)


def is_worker() -> bool:
    """Whether this process is a worker of a launched job."""
    return _current is not None


def at_end(call: Callable[[], Any]) -> None:
    """Let this worker call something once the user's code is done."""
    _at_end.append(call)


def links(job: Job, sync: bool) -> list[ShardLink]:
    """The ways to all shards, told how rounds go."""
    found = [ShardLink(job, shard) for shard in range(job.shards)]
    for link in found:
        link.ask("configure", sync)
    return found


def leave() -> None:
    """End the shards of this script's own job."""
    global _own
    if _own is not None:
        _own.stop()
        _own = None


def gather_trace() -> None:
    """Take over what the shards of this script's own job have recorded."""
    if _own is not None:
        _own.gather_trace()


def launch(fn: Callable | str, args: tuple, **options) -> list[Any]:
    """Run `fn(*args)`, or the script at the path `fn` with these arguments, in the workers of a job; the results in the
    order of ranks. See raymx.launch; the options are Supervisor's."""
    code = fn if isinstance(fn, str) else cloudpickle.dumps(fn)
    cluster.join()
    supervisor = Supervisor(**options)
    began = trace.begin()
    try:
        supervisor.start(code, args)
        return supervisor.results()
    finally:
        trace.end(began, "job", "launch")
        try:
            supervisor.gather_trace()
        finally:
            supervisor.stop()
        if trace.written_here():
            with contextlib.suppress(OSError):  # it is told when this process ends
                trace.write()


def run(job: Job, code: bytes | str, args: tuple) -> Any:
    """What a worker's process does: the user's function or script."""
    global _current
    _current = job
    cluster.settle(job.devices)
    result = None
    try:
        if isinstance(code, bytes):
            result = cloudpickle.loads(code)(*args)
        else:
            _run_script(code, args)
    except Exception as error:
        error.add_note(_users_frames(error, job.rank))
        raise
    from raymx import runtime

    runtime.wait_all()
    for close in _at_end:
        close()
    return result


_OURS = (os.path.dirname(os.path.dirname(__file__)) + os.sep, os.path.dirname(str(ray.__file__)) + os.sep)


def _users_frames(error: BaseException, rank: int) -> str:
    """Where in the user's code a worker was, in the words of a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    users = [f for f in frames if not f.filename.startswith(_OURS) and "runpy" not in f.filename]
    return f"Traceback of worker {rank} (most recent call last):\n{''.join(traceback.format_list(users)).rstrip()}"


def _run_script(path: str, args: tuple) -> None:
    before, sys.argv = sys.argv, [path, *args]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        if end.code not in (None, 0):
            raise MXNetError(f"{path} ended with status {end.code!r}.") from None
    finally:
        sys.argv = before
        sys.path.pop(0)


class Supervisor:
    """Starts the processes of a job and replaces those that are lost."""

    def __init__(self, workers: int, shards: int, replicas: int, devices: int = 0,
                 resources: Mapping[str, float] = {}, max_restarts: int = 0):  # fmt: skip
        self.name = f"raymx-{secrets.token_hex(4)}"
        self._workers, self._shards, self._replicas, self._devices = workers, shards, replicas, devices
        self._restarts_left = max_restarts
        self._places = placement.Places(self.name, resources, 0 if config.get("virtual_gpus") else devices)
        self._actors: dict[int, list] = {shard: [] for shard in range(shards)}  # by incarnation; None for a lost one
        self._nodes: dict[Any, str | None] = {}  # where each of these actors was told to go
        self._whole: set = set()  # those that have their shard's state
        self._code: dict[int, tuple[bytes | str, tuple]] = {}
        self._attempts: dict[int, int] = {}
        self._running: dict[Any, tuple[str, int, Any]] = {}  # ref of a call → what ends with it
        self._events: dict[Any, str] = {}  # ref of what a process recorded for the trace → the name of the process

    def job(self, rank: int, attempt: int = 0) -> Job:
        """The job as worker `rank` sees it."""
        return Job(self.name, rank, self._workers, self._shards, self._replicas, attempt, self._devices)

    def start(self, code: bytes | str, args: tuple) -> None:
        """Start the job's processes, which run the user's code. Raises PlacementError, KVStoreTimeoutError."""
        self._places.reserve(self._workers)
        self.start_shards()
        for rank in range(self._workers):
            self.start_worker(rank, code, args)

    def start_shards(self) -> None:
        """Start every shard and its replica; wait until they are there. Raises KVStoreTimeoutError."""
        for shard in range(self._shards):
            for _ in range(1 + self._replicas):
                self._start_shard(shard)
        started = [actor.describe.remote() for actors in self._actors.values() for actor in actors]
        timeout_s = config.get("start_timeout_s")
        try:
            ray.get(started, timeout=timeout_s)
        except GetTimeoutError:
            late = len(ray.wait(started, num_returns=len(started), timeout=0)[1])
            raise KVStoreTimeoutError(
                f"launch: {late} of {len(started)} processes of shards and replicas have not started within "
                f"{timeout_s:g} s (switch start_timeout_s)."
            ) from None
        self._whole.update(actor for actors in self._actors.values() for actor in actors)
        if self._replicas:
            with contextlib.suppress(RayError):  # a loss: it is seen by its watch
                ray.get([first.adopt.remote(second, timeout_s) for first, second in self._actors.values()])

    def start_worker(self, rank: int, code: bytes | str, args: tuple) -> None:
        """Let worker `rank` run the user's code."""
        attempt = self._attempts[rank] = self._attempts.get(rank, -1) + 1
        self._code[rank] = code, args
        settings = config.snapshot()
        if settings["virtual_gpus"] and self._devices:
            settings["virtual_gpus"] = self._devices
        actor = start_worker(self.job(rank, attempt), settings, **self._places.options(rank))
        self._running[actor.run.remote(_RUNNER, code, args)] = "worker", rank, actor

    def results(self) -> list[Any]:
        """Wait for all workers; what each returned. Raises WorkerLostError, or what a worker raised, naming it."""
        found: dict[int, Any] = {}
        while len(found) < self._workers:
            for ref in ray.wait(list(self._running), timeout=_LOOK_S)[0]:
                kind, number, actor = self._running.pop(ref)
                if kind == "shard":
                    self._replace_shard(number, actor)
                elif kind == "replica":
                    self._brought_up(ref, actor)
                else:
                    self._ask_worker(number, actor)
                    self._ended(ref, number, found)
        return [found[rank] for rank in range(self._workers)]

    def gather_trace(self) -> None:
        """Take over what was recorded by workers that have come to their end, and by shards. Those that were killed, or
        are still at work, have nothing to tell."""
        if not trace.active() or not ray.is_initialized():
            return
        workers = {ref: each[1:] for ref, each in self._running.items() if each[0] == "worker"}
        for ref in ray.wait(list(workers), num_returns=len(workers), timeout=0)[0] if workers else ():
            self._ask_worker(*workers[ref])
        for shard, actors in self._actors.items():
            for number, actor in enumerate(actors):
                if actor is not None:
                    ref = actor.events.options(concurrency_group="control").remote()
                    self._events[ref] = _process_of(self._shards, shard, number)
        refs = list(self._events)
        for ref in ray.wait(refs, num_returns=len(refs), timeout=_EVENTS_S)[0] if refs else ():
            with contextlib.suppress(RayError):
                trace.adopt(self._events[ref], ray.get(ref))
        self._events.clear()

    def _ask_worker(self, rank: int, actor) -> None:
        """Ask a worker whose run has ended, however, for what it recorded."""
        if trace.active():
            attempt = self._attempts[rank]
            self._events[actor.events.remote()] = f"worker {rank}{f', restart {attempt}' if attempt else ''}"

    def stop(self) -> None:
        """End every process of the job, and wait until they are gone."""
        if not ray.is_initialized():
            return
        actors = [actor for actors in self._actors.values() for actor in actors if actor is not None]
        actors += [actor for kind, _, actor in self._running.values() if kind == "worker"]
        for actor in actors:
            ray.kill(actor)
        refs = list(self._running)
        if refs:
            ray.wait(refs, num_returns=len(refs), timeout=_ENDED_S)
        self._running.clear()
        self._places.remove()

    # ---- what ends before its time ----

    def _ended(self, ref, rank: int, found: dict[int, Any]) -> None:
        try:
            found[rank] = ray.get(ref)
            return
        except RayActorError as error:
            cause: BaseException = error
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, BaseException) else error
            if not isinstance(cause, DeviceLostError):
                self._look_at_shards()  # what the worker raised may be the smaller part of the truth
                raise _of_worker(rank, cause) from error
        if self._restarts_left == 0:
            raise WorkerLostError(
                f"worker {rank} was lost ({type(cause).__name__}: {_line(cause)}), and no restarts are "
                "left (max_restarts)."
            ) from cause
        self._restarts_left -= 1
        self._recovered("worker", rank)
        _log.warning("%s: worker %d was lost (%s); it is started anew", self.name, rank, type(cause).__name__)
        code, args = self._code[rank]
        self.start_worker(rank, code, args)

    def _look_at_shards(self) -> None:
        refs = [ref for ref, (kind, _, _) in self._running.items() if kind == "shard"]
        for ref in ray.wait(refs, timeout=_TOGETHER_S)[0] if refs else ():
            _, shard, actor = self._running.pop(ref)
            self._survivor(shard, actor)

    def _start_shard(self, shard: int):
        actors = self._actors[shard]
        taken = [self._nodes[actor] for actor in actors if actor is not None]
        node = placement.chosen(shard, taken, placement.nodes())
        actor = store.start(self.job(0), shard, len(actors), scheduling_strategy=placement.on_node(node))
        self._nodes[actor] = node
        actors.append(actor)
        self._running[actor.watch.options(concurrency_group="watch").remote()] = "shard", shard, actor
        return actor

    def _replace_shard(self, shard: int, lost) -> None:
        survivor = self._survivor(shard, lost)
        _log.warning("%s: shard %d lost a process; a new replica is brought up", self.name, shard)
        self._recovered("shard", shard)
        replica = self._start_shard(shard)
        self._running[survivor.adopt.remote(replica, config.get("start_timeout_s"))] = "replica", shard, replica

    def _survivor(self, shard: int, lost) -> Any:
        """The actor that has the state of a shard that lost another one. Raises ShardLostError."""
        actors = self._actors[shard]
        actors[actors.index(lost)] = None
        self._whole.discard(lost)
        survivors = [actor for actor in actors if actor in self._whole]
        if not survivors:
            raise ShardLostError(
                f"shard {shard} of {self._shards} was lost{' with its replica' if self._replicas else ''}; "
                f"{store.GONE}."
            )
        return survivors[0]

    def _recovered(self, kind: str, number: int) -> None:
        recoveries[kind] += 1
        shard, rank = ("", number) if kind == "worker" else (str(number), "")
        Metrics(self.name, shard).count("recoveries", rank, 1)

    def _brought_up(self, ref, replica) -> None:
        with contextlib.suppress(RayError):  # a loss: it is seen by its watch
            ray.get(ref)
            self._whole.add(replica)


def _process_of(shards: int, shard: int, number: int) -> str:
    """The name in a trace of the process that was started as the `number`-th of a shard."""
    return f"shard {shard} of {shards}{', replica' if number else ''}{f' {number}' if number > 1 else ''}"


def _of_worker(rank: int, cause: BaseException) -> BaseException:
    """The worker's error, with a word about which one it was."""
    cause.add_note(f"raised by worker {rank}")
    return cause


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]
