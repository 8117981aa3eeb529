"""The thread of a worker that talks to the shards: what waits goes by `order`, one call per shard for all that may go
together, and nothing waits for the answer of another thing.

Values do not pass through here if they are large: a push takes along the refs under which they lie in the object store,
and a device in another process gets the ref of what was pulled.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import Any

from raymx import config, faults, runtime, trace
from raymx.engine.segment import Failure
from raymx.errors import KVStoreTimeoutError, ShardLostError
from raymx.kvstore.local import Key
from raymx.kvstore.order import chosen
from raymx.runtime import store

ROW = "store"  # of a worker's trace
GRACE_S = 4.0  # that a thread's answer may take longer than those of all it waits for


class Parcel:
    """Values for one shard that leave a device with one message; `transform` makes of their list what travels."""

    def __init__(self, lane, ticket, handle, nbytes: int, transform: Callable[[list], list] | None = None):
        self._lane, self._ticket, self._handle = lane, ticket, handle
        self._by_ref = lane.afar and nbytes >= store.BUNDLED_NBYTES and transform is None
        self._transform = transform

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback()` once when the values are here, or never will be."""
        self._ticket.subscribe(callback)

    def payload(self) -> list | tuple:
        """A list of arrays, or a tuple with the ref of one. Raises what made them fail."""
        if self._by_ref:
            self._ticket.report()  # a lost device is told of here
            return (self._handle.ref,)
        found = self._lane.fetch(self._handle)
        if isinstance(found, Failure):
            raise runtime.engine.explain(found)
        return found if self._transform is None else self._transform(found)

    def look(self) -> None:
        """See whether the device still lives."""
        if self._lane.afar:
            self._lane.transport.look()


class Push:
    """Values of keys on their way: `parts` are, by shard, parcels with the numbers of the pushes in them."""

    kind = "push"
    started = False

    def __init__(
        self, keys, parts: Mapping[int, list[tuple[dict[Key, int], Parcel]]], note, priority: int, nbytes: int
    ):
        self.keys, self.parts, self.note = frozenset(keys), parts, note
        self.priority, self.nbytes, self.step = priority, nbytes, note.number if note is not None else 0
        self.ready = False
        self.since = time.monotonic()

    def parcels(self) -> list[Parcel]:
        return [parcel for parts in self.parts.values() for _, parcel in parts]


class Pull:
    """What is wanted of each shard, in order, and the devices that it goes to."""

    kind = "pull"
    ready, step = True, 0

    def __init__(self, wanted: Mapping[int, dict[Key, int]], rows: Mapping[int, dict], priority: int, nbytes: int):
        self.keys = frozenset(key for each in wanted.values() for key in each)
        self.wanted, self.rows = wanted, rows
        self.priority, self.nbytes = priority, nbytes
        self.arrivals: dict[int, list[tuple[Any, bool]]] = {shard: [] for shard in wanted}  # by shard: (Arrival, afar)
        self.missing = 0  # devices that have not got their values
        self.started = False
        self.whole: Pull | None = None  # of which this asks again for a part


class Ask:
    """A question, after everything before it."""

    kind = "ask"
    keys: frozenset = frozenset()
    priority = nbytes = step = 0
    ready, started = True, False

    def __init__(self, call: Callable[[], Any]):
        self.call, self.answer = call, Future()  # type: ignore[var-annotated]


class Call:
    """A question to one shard for the values of some pulls, each with where its values begin in the answer."""

    def __init__(self, shard: int, pulls: Sequence[Pull]):
        self.shard = shard
        self.wanted: dict[Key, int] = {}
        self.rows: dict[Key, Any] = {}
        self.starts: list[tuple[Pull, slice]] = []
        for pull in pulls:
            start = len(self.wanted)
            self.wanted |= pull.wanted[shard]
            self.rows |= pull.rows.get(shard, {})
            self.starts.append((pull, slice(start, len(self.wanted))))
        self.asked: Any = None
        self.since, self.began = time.monotonic(), trace.begin()


class Courier:
    """`links` are the ways to the shards."""

    def __init__(self, links):
        self._links = links
        self._failed: BaseException | None = None
        self._events: queue.SimpleQueue = queue.SimpleQueue()  # functions for the thread to call; None ends it
        self._waiting: list[Any] = []  # in the order of the calls, until sent (a push) or answered
        self._calls: list[Call] = []  # that shards have not answered
        self._noted: dict[int, Any] = {}  # shard → the note that it got last
        self._doing, self._since = "", time.monotonic()  # what the thread is at, and since when
        self._thread = threading.Thread(target=self._work, name="raymx kvstore", daemon=True)
        self._thread.start()

    # ---- what the store asks ----

    def push(self, item: Push) -> None:
        """Send values as soon as they are here. Raises what made an earlier push fail."""
        self._refuse_failed()
        left = len(item.parcels())
        lock = threading.Lock()

        def here() -> None:
            nonlocal left
            with lock:
                left -= 1
                last = left == 0
            if last:
                self._events.put(partial(self._ready, item))

        self._events.put(partial(self._waiting.append, item))
        for parcel in item.parcels():
            parcel.subscribe(here)

    def pull(self, item: Pull) -> None:
        """Ask for values, which come to the item's arrivals."""
        self._events.put(partial(self._waiting.append, item))

    def create(self, by_shard: Sequence[Mapping[Key, Any]]) -> None:
        self._ask(lambda: [link.ask("create", each) for link, each in zip(self._links, by_shard, strict=True)])

    def order(self, number: int, shards: Sequence[int], method: str, args: tuple, wait: bool) -> None:
        links = [self._links[shard] for shard in shards]
        call = partial(self._order, links, number, method, args)
        if wait:
            self._ask(call)
        else:
            self._events.put(partial(self._waiting.append, Ask(call)))

    def one(self, shard: int, method: str, *args) -> Any:
        """The answer of one shard."""
        return self._ask(partial(self._links[shard].ask, method, *args))

    def everywhere(self, method: str, *each) -> list:
        """The answers of all shards; `each` holds an argument for each of them."""
        arguments: list[tuple] = [(a,) for a in each] or [()] * len(self._links)
        return self._ask(lambda: [link.ask(method, *a) for link, a in zip(self._links, arguments, strict=True)])

    def come_back(self) -> tuple[int, Any] | None:
        """The latest step that the worker that was here before noted, and what."""
        answers = self._ask(lambda: [link.ask("come_back", link.job.rank) for link in self._links])
        notes = [answer["note"] for answer in answers if answer["note"] is not None]
        return max(notes, key=lambda note: note[0]) if notes else None

    def barrier(self, number: int) -> None:
        def call() -> None:
            began = trace.begin()
            for link in self._links:
                link.reach(number)
            self._links[0].barrier(number)
            trace.end(began, ROW, "barrier")

        self._ask(call)

    def close(self) -> None:
        """Send what waits, say that this worker pushes no more, and end the thread; once."""
        if not self._thread.is_alive():
            return
        try:
            self._ask(lambda: [link.ask("leave", link.job.rank) for link in self._links])
        finally:
            self._events.put(None)
            self._thread.join(timeout=5)

    def _ask(self, call: Callable[[], Any]) -> Any:
        """Let the thread make the call after everything before it; its answer. Raises KVStoreTimeoutError when the
        thread has been at one thing for longer than all that it waits for may take."""
        item = Ask(call)
        self._events.put(partial(self._waiting.append, item))
        while True:
            limit = (config.get("timeout_s") or 1e9) + config.get("start_timeout_s") + GRACE_S
            try:
                return item.answer.result(max(0.0, min(self._since + limit - time.monotonic(), threading.TIMEOUT_MAX)))
            except FutureTimeout:
                if item.answer.done():
                    raise
                if time.monotonic() - self._since >= limit:
                    raise KVStoreTimeoutError(
                        f"the store of this worker has been at {self._doing or 'nothing'} for {limit:g} s "
                        "(switches timeout_s and start_timeout_s)."
                    ) from None

    def _refuse_failed(self) -> None:
        if self._failed is not None:
            raise self._failed

    # ---- the thread ----

    def _work(self) -> None:
        while True:
            for event in self._new_events():
                if event is None:
                    return
                event()
            while group := chosen(self._waiting):
                self._go(group)

    def _new_events(self) -> list:
        """What has happened; waits for something, but for not longer than a beat while anything is under way, or than
        it takes to see in time that somebody is late."""
        beat_s = min(config.get("heartbeat_s"), 0.05 * (config.get("timeout_s") or float("inf")))
        self._at("" if not self._waiting else f"waiting for {self._waiting[0].kind}")
        try:
            events = [self._events.get(timeout=beat_s if self._waiting else None)]
        except queue.Empty:
            return [self._look]
        while not self._events.empty():
            events.append(self._events.get())
        return events

    def _at(self, doing: str) -> None:
        self._doing, self._since = doing, time.monotonic()

    def _go(self, group: list) -> None:
        kind = group[0].kind
        self._at(f"a {kind}")
        if kind == "ask":
            self._waiting.remove(group[0])
            self._answer(group[0])
        elif kind == "push":
            for item in group:
                self._waiting.remove(item)
            self._push(group)
        else:
            self._pull(group)

    def _ready(self, item: Push) -> None:
        item.ready = True

    def _look(self) -> None:
        """Nothing has happened for a while: see who is late or gone."""
        now, limit = time.monotonic(), config.get("timeout_s") or float("inf")
        for item in self._waiting:
            if item.kind == "push" and not item.ready:
                for parcel in item.parcels():
                    parcel.look()
                if now - item.since > limit:
                    self._fail(_late(f"push: the values of key {_first(item)!r} are not here", limit))
                    item.ready = True
        for call in list(self._calls):
            if now - call.since > limit * store.ANSWER:
                link = self._links[call.shard]
                words = f"worker {link.job.rank}: {link.name} has not answered"
                self._fail_call(call, _late(words, limit * store.ANSWER))

    def _answer(self, item: Ask) -> None:
        try:
            self._refuse_failed()
            item.answer.set_result(item.call())
        except BaseException as error:
            item.answer.set_exception(error)

    @staticmethod
    def _order(links, number: int, method: str, args: tuple) -> None:
        for link in links:
            link.ask("order", link.job.rank, number, method, *args)

    def _fail(self, error: BaseException) -> None:
        self._failed = self._failed or error

    # ---- pushes ----

    def _push(self, group: Sequence[Push]) -> None:
        if self._failed is not None:
            return
        began = trace.begin()
        try:
            by_shard: dict[int, tuple[dict, list]] = {}
            parts = [(shard, *part) for item in group for shard, some in item.parts.items() for part in some]
            for shard, numbers, parcel in parts:
                known, payload = by_shard.setdefault(shard, ({}, []))
                known |= numbers
                payload.append(parcel.payload())
            note = group[0].note
            faults.point("push:before")
            for shard, (numbers, payload) in by_shard.items():
                self._links[shard].push(numbers, payload, self._news(shard, note))
                faults.point("push:between")
            trace.end(began, ROW, "push")
        except BaseException as error:
            self._fail(error)

    def _news(self, shard: int, note) -> tuple | None:
        """What a shard is told with its first push of a step."""
        if note is None or self._noted.get(shard) is note:
            return None
        self._noted[shard] = note
        return note.written()

    # ---- pulls ----

    def _pull(self, group: Sequence[Pull]) -> None:
        faults.point("pull:before")
        shards = dict.fromkeys(shard for item in group for shard in item.wanted)
        for item in group:
            item.started, item.missing = True, sum(map(len, item.arrivals.values()))
        for shard in shards:
            self._ask_for(Call(shard, [item for item in group if shard in item.wanted]))

    def _ask_for(self, call: Call) -> None:
        try:
            self._refuse_failed()
            call.asked = self._links[call.shard].pull(call.wanted, call.rows)
        except BaseException as error:
            self._fail_call(call, error)
            return
        if call not in self._calls:
            self._calls.append(call)
        ref = call.asked.ref
        ref.future().add_done_callback(lambda _: self._events.put(partial(self._answered, call, ref)))

    def _answered(self, call: Call, ref) -> None:
        if call not in self._calls or call.asked.ref is not ref:
            return
        self._at(f"an answer of {self._links[call.shard].name}")
        try:
            held, values = self._values(call)
        except store.AskAgain:
            self._ask_for(call)
            return
        except BaseException as error:
            self._fail_call(call, error)
            return
        self._calls.remove(call)
        trace.end(call.began, ROW, "pull from shard %d", call.shard)
        faults.point("pull:after")
        for pull, window in call.starts:
            for arrival, afar in pull.arrivals[call.shard]:
                if afar and held is not None:
                    told = partial(self._tell, call, pull, window, arrival)
                    arrival.come(runtime.Held(held, window, told))
                else:
                    arrival.come(values[window])
                    self._got(pull)

    def _values(self, call: Call) -> tuple[Any, Any]:
        """The ref of a shard's answer, if it is large, and, if it is not or a device of this process needs it, the list
        of values."""
        link = self._links[call.shard]
        answer = link.answer(call.asked)
        if faults.planned("pull:answered"):
            link.point("pull:answered")
        near = any(not afar for pull, _ in call.starts for _, afar in pull.arrivals[call.shard])
        if isinstance(answer, tuple):
            return answer[0], link.read(answer) if near else None
        large = sum(value.nbytes for value in answer) >= store.BUNDLED_NBYTES
        return call.asked.ref if large else None, answer

    def _tell(self, call: Call, pull: Pull, window: slice, arrival, error: BaseException | None) -> None:
        """A device has read what it was to get, or could not; any thread."""
        self._events.put(partial(self._read, call, pull, window, arrival, error))

    def _read(self, call: Call, pull: Pull, window: slice, arrival, error: BaseException | None) -> None:
        if not store.lost(error):  # read; or the device is gone, which its lane tells
            self._got(pull)
            return
        keys = list(call.wanted)[window]
        rest = Pull({call.shard: {key: call.wanted[key] for key in keys}},
                    {call.shard: {key: call.rows[key] for key in keys if key in call.rows}}, 0, 0)  # fmt: skip
        rest.arrivals[call.shard].append((arrival, True))
        rest.whole = pull
        self._ask_for(Call(call.shard, [rest]))

    def _got(self, pull: Pull) -> None:
        """One more device has its values."""
        pull = pull.whole or pull
        pull.missing -= 1
        if pull.missing == 0:
            self._waiting.remove(pull)

    def _fail_call(self, call: Call, error: BaseException) -> None:
        if call in self._calls:
            self._calls.remove(call)
        if isinstance(error, (KVStoreTimeoutError, ShardLostError)):
            self._fail(error)  # others would wait as long, one after the other
        failure = Failure("", -1, (0, 0), f"pull: {error}", error)
        for pull, _ in call.starts:
            for arrival, _ in pull.arrivals[call.shard]:
                arrival.come(failure)
                self._got(pull)


class Note:
    """How far a worker is as a step begins; what it holds is asked for once, when the first push of the step leaves."""

    _numbers = itertools.count(1)

    def __init__(self, step: Any, counts: Any, progress: Any):
        self.number = next(self._numbers)
        self._step, self._counts, self._progress = step, counts, progress
        self._written: tuple | None = None

    def written(self) -> tuple:
        if self._written is None:
            progress = self._progress
            self._written = self._step, (self._counts, progress() if callable(progress) else progress)
        return self._written


def _late(words: str, limit_s: float) -> KVStoreTimeoutError:
    return KVStoreTimeoutError(f"{words} within {limit_s:g} s (switch timeout_s).")


def _first(item) -> Key:
    return next(iter(item.keys))
