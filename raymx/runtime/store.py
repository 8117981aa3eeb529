"""The way from a worker to the shards of the key-value store, also when a shard's process is gone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.exceptions import GetTimeoutError, ObjectLostError, RayActorError, RayTaskError

from raymx import config
from raymx.actors.remote import LATER, InOrder, start_shard
from raymx.actors.shard import NO_ROWS
from raymx.errors import KVStoreTimeoutError, ShardLostError

NAMESPACE = "raymx"
OPTIMIZERS = "raymx.kvstore.updating:updater"
BUNDLED_NBYTES = 1 << 16  # of a call's values from which on they are put into the object store, once for replicas too
UNCONFIRMED = 256  # pushes without a pull after which a worker waits until they are safe
GONE = "its state is gone: start again from a checkpoint (fit(checkpoint=…, resume='auto')), or launch with replicas=1"
GRACE_S = 2.0  # that a barrier may take longer than the shard is to wait
_PULL, ANSWER = 0.8, 0.9  # of timeout_s: a shard gives up a pull, then the worker, then the device that waits for both
_NUMBERS, _RETRY_S = 16, 0.1  # a shard's processes that are looked for after the one that is lost; and how often


class Job(NamedTuple):
    """The store of a launched job, as a worker sees it."""

    name: str
    rank: int
    workers: int
    shards: int
    replicas: int
    attempt: int = 0  # how many workers of this rank died before
    devices: int = 0  # that are this worker's own: gpu(0), gpu(1), …; none are where it is 0


def shard_name(job: str, shard: int, incarnation: int) -> str:
    """Under which a shard's actor is found: primaries and replicas of a shard are numbered as they are started."""
    return f"{job}-shard-{shard}-{incarnation}"


def start(job: Job, shard: int, incarnation: int, **options):
    """Start a shard's actor, found by `shard_name`, with these Ray options; its handle."""
    who = f"shard {shard} of {job.shards}"
    options |= {"name": shard_name(job.name, shard, incarnation), "namespace": NAMESPACE, "num_cpus": 0}
    role = f"shard {shard}.{incarnation}"
    return start_shard(job.name, who, role, job.workers, OPTIMIZERS, config.snapshot(), **options)


class Asked(NamedTuple):
    """A pull under way."""

    wanted: Mapping[Any, int]
    rows: Mapping[Any, Any]
    ref: Any
    incarnation: int  # of the process that was asked


class ShardLink:
    """One shard, wherever it lives at the moment. Used by one thread.

    What was pushed is kept until a pull or a barrier has shown that it is safe; when the shard's process is gone, the
    replica that takes its place gets it again. Raises ShardLostError when there is none.
    """

    def __init__(self, job: Job, shard: int):
        self.job, self.shard = job, shard
        self._incarnation = 0
        self._unconfirmed: list[tuple] = []  # arguments of pushes, in order
        self._safe: dict[Any, int] = {}  # key → the last of this worker's pushes that cannot be lost
        self._actor: Any = None
        self._way: Any = None  # to it, for what has an order
        try:
            self._turn_to(ray.get_actor(shard_name(job.name, shard, 0), NAMESPACE))
        except ValueError as error:  # it is gone already
            self._fail_over(error)

    @property
    def name(self) -> str:
        return f"shard {self.shard} of {self.job.shards}"

    def push(self, numbers: Mapping[Any, int], payload: list, note=None) -> None:
        """Send values, in parcels as `kept` makes them, on their way; returns at once."""
        if len(self._unconfirmed) >= UNCONFIRMED:
            self.ask("settle", _limit())
        self._unconfirmed.append((self.job.rank, dict(numbers), payload, note))
        self._send(*self._unconfirmed[-1])

    def pull(self, wanted: Mapping[Any, int], rows: Mapping[Any, Any] = NO_ROWS) -> Asked:
        """Ask for values; what `answer` takes, once its ref is ready."""
        ref = self._actor.pull.remote(self.job.rank, dict(wanted), _limit(), dict(rows))
        return Asked(wanted, rows, ref, self._incarnation)

    def answer(self, asked: Asked) -> list[np.ndarray] | tuple:
        """The answer: a list of values, or a tuple with the ref of one; what was pushed for it is safe then. Raises
        AskAgain when the shard's process has died with it."""
        try:
            found = self._answer(asked.ref)
        except RayActorError as error:
            if asked.incarnation == self._incarnation:
                self._fail_over(error)
            raise AskAgain from error
        safe = self._safe
        safe.update({key: version for key, version in asked.wanted.items() if version > safe.get(key, 0)})
        self._unconfirmed = [p for p in self._unconfirmed if any(safe.get(k, 0) < n for k, n in p[1].items())]
        return found

    def read(self, answer: list[np.ndarray] | tuple) -> list[np.ndarray]:
        """The values of an answer. Raises AskAgain if they died with the shard's process."""
        try:
            return self._answer(answer[0]) if isinstance(answer, tuple) else answer
        except (ObjectLostError, RayActorError) as error:
            raise AskAgain from error

    def ask(self, method: str, *args) -> Any:
        """Call a method of the keeper and wait for its answer."""
        answer = self._again(lambda: self._in_order("call", method, *args))
        if method in ("reach", "settle"):
            self._unconfirmed.clear()
        return answer

    def reach(self, number: int) -> None:
        """Say that this worker is at its barrier `number`; everything pushed before is safe then."""
        self.ask("reach", self.job.rank, number, _limit())

    def barrier(self, number: int) -> None:
        """Wait until every worker is at its barrier `number`."""
        timeout_s = config.get("timeout_s") or 1e9
        self._again(lambda: self._actor.barrier.remote(number, timeout_s), timeout_s + GRACE_S)

    def describe(self) -> dict[str, Any]:
        """What the shard says of itself."""
        return self._again(lambda: self._actor.describe.options(concurrency_group="control").remote())

    def point(self, name: str) -> None:
        """Let the shard come to a planned fault."""
        with contextlib.suppress(RayActorError):
            ray.get(self._actor.point.remote(name))

    def _send(self, *push) -> None:
        self._way.call("push", *push)

    def _in_order(self, method: str, *args) -> Any:
        """The ref of the answer to a call that is taken after those before."""
        ref, number = self._way.call(method, *args)
        return self._way.later(number) if self._answer(ref) == LATER else ref

    def _again(self, call, limit_s: float | None = None) -> Any:
        while True:
            try:
                return self._answer(call(), limit_s)
            except RayActorError as error:
                self._fail_over(error)

    def _answer(self, ref, limit_s: float | None = None) -> Any:
        limit_s = limit_s or (config.get("timeout_s") or 1e9) * ANSWER
        try:
            return ray.get(ref, timeout=limit_s)
        except GetTimeoutError:
            raise KVStoreTimeoutError(
                f"worker {self.job.rank}: {self.name} has not answered within {limit_s:g} s (switch timeout_s)."
            ) from None
        except RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, BaseException) else error from None

    def _fail_over(self, error: Exception) -> None:
        """Turn to the process that has the shard's state now, and send it again what may be lost."""
        deadline = time.monotonic() + config.get("start_timeout_s")
        found: tuple[bool, tuple[int, Any] | None] = False, None
        while found[1] is None:
            found = self._successor()
            if found == (False, None) or time.monotonic() > deadline:
                raise self._lost(error) from error
            if found[1] is None:
                time.sleep(_RETRY_S)
        self._incarnation = found[1][0]
        self._turn_to(found[1][1])
        for push in self._unconfirmed:
            self._send(*push)

    def _turn_to(self, actor) -> None:
        self._actor, self._way = actor, InOrder(actor)

    def _successor(self) -> tuple[bool, tuple[int, Any] | None]:
        """Whether a later process of the shard is alive; its number and actor, once it has the state."""
        alive = False
        for number in range(self._incarnation + 1, self._incarnation + 1 + _NUMBERS):
            try:
                actor = ray.get_actor(shard_name(self.job.name, self.shard, number), NAMESPACE)
                about = self._answer(actor.describe.options(concurrency_group="control").remote())
            except (ValueError, RayActorError):
                continue
            alive = True
            if about["ready"]:
                return True, (number, actor)
        return alive, None

    def _lost(self, error: Exception) -> ShardLostError:
        return ShardLostError(f"worker {self.job.rank}: {self.name} was lost ({type(error).__name__}); {GONE}.")


class AskAgain(Exception):
    """The process that had the answer is gone; another one has the same."""


def lost(error: BaseException | None) -> bool:
    """Whether a device could not read what a shard had for it, because that is gone."""
    cause = getattr(error, "cause", None)
    return isinstance(error, ObjectLostError) or isinstance(cause, ObjectLostError)


def kept(values: list) -> list | tuple:
    """A parcel for a shard: copies of small arrays, or a tuple with the ref under which large ones lie together in the
    object store, once for replicas too."""
    if sum(each.nbytes for each in values) >= BUNDLED_NBYTES:
        return (ray.put(values),)
    return [each.copy() for each in values]


def _limit() -> float:
    """Seconds that a shard may wait before it answers."""
    return (config.get("timeout_s") or 1e9) * _PULL
