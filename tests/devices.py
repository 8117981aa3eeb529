"""Several devices in one process, without Ray, so that the plain ring tests what crosses devices."""

from __future__ import annotations

import contextlib
import random
import time
from functools import partial

import raymx as mx
from raymx import runtime
from raymx.actors.host import DeviceHost
from raymx.engine.segment import Letter
from raymx.ops import backend
from raymx.runtime import local

MOMENT_S = 0.05  # after which who waits lets go of what has been held since


class LateTransport(local.LocalTransport):
    """A device to which values from other devices may come late and in any order: at the latest when somebody waits.
    It counts as one in another process."""

    afar = True

    def __init__(self, name: str, late: float, held: list, chance: random.Random):
        self.address = name
        self._late, self._held, self._chance = late, held, chance
        self._host = DeviceHost(local._runner(name), self._hold, True, lambda sharers: backend.use_threads(1))

    def _hold(self, awaited, callback) -> None:
        self._held.append((awaited, callback))

    @staticmethod
    def introduce(transports) -> None:
        hosts = {each.address: each._host for each in transports}
        for each in transports:
            each._host.runner.post = partial(each._post, hosts)

    def _post(self, hosts, addresses, number, value) -> None:
        for address in addresses:
            hosts[address].deliver(Letter(self.address, number), value)

    def send(self, number, segments, exports):
        ticket = super().send(number, segments, exports)
        if self._chance.random() >= self._late:
            release(self._held, self._chance)
        return _WaitingTicket(ticket, self)

    def fetch(self, handle, timeout_s):
        deadline = time.monotonic() + timeout_s
        while True:
            release(self._held, self._chance)
            try:
                return super().fetch(handle, MOMENT_S)
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise


class NaiveTransport(local.NaiveTransport):
    """A device that runs each task at once; what its tasks await has to be on its way by then."""

    def __init__(self, name: str, held: list, chance: random.Random):
        super().__init__(name)
        self._held, self._chance = held, chance

    def send(self, number, segments, exports):
        release(self._held, self._chance)
        return super().send(number, segments, exports)


class _WaitingTicket:
    def __init__(self, ticket, transport):
        self._ticket, self._transport, self.exports = ticket, transport, ticket.exports

    def done(self):
        return self._ticket.done()

    def report(self):
        return self._ticket.report()

    def wait(self, timeout_s):
        deadline = time.monotonic() + timeout_s
        while True:
            release(self._transport._held, self._transport._chance)
            if self._ticket.wait(MOMENT_S):
                return True
            if time.monotonic() >= deadline:
                return False


def release(held: list, chance: random.Random) -> None:
    """Let held values arrive, in any order."""
    while held:
        awaited, callback = held.pop(chance.randrange(len(held)))
        local.resolve(awaited, callback)


@contextlib.contextmanager
def in_this_process(seed: int = 0):
    """Inside, every context is a device of this process; with values that come late and out of order, every
    third one naive."""
    chance, held = random.Random(seed), []
    before, lanes = runtime._connect, runtime.engine.lanes
    usual = dict(lanes)
    lanes.clear()  # a device that knows nothing of held values would wait for them for ever

    def connect(kind, index):
        name = f"{kind}({index})"
        if index % 3 == 2:
            return NaiveTransport(name, held, chance)
        return LateTransport(name, 0.9 if index % 3 else 0.3, held, chance)

    runtime._connect = connect
    try:
        yield
    finally:
        runtime._connect = before
        for name in list(lanes):
            release(held, chance)
            lanes.pop(name).close()
        lanes.update(usual)


@contextlib.contextmanager
def ordinary(number: int = 1):
    """A context whose device is one of this process like `cpu(0)`, made with the switches that hold now."""
    context, lanes = mx.cpu(number), runtime.engine.lanes
    before, aside = runtime._connect, lanes.pop(str(context), None)

    def connect(kind, index):
        name = f"{kind}({index})"
        return local.connect(name) if name == str(context) else before(kind, index)

    runtime._connect = connect
    try:
        yield context
    finally:
        runtime._connect = before
        runtime.restart(context)
        if aside is not None:
            lanes[str(context)] = aside
