"""The device in this process: promises that are kept, broken, or late, and what its tickets say."""

import numpy as np
import pytest

import raymx as mx
from raymx import runtime
from raymx.actors import device
from raymx.engine.segment import Failure, Segment
from raymx.errors import DeviceError, DeviceLostError
from raymx.runtime.local import LocalTransport
from tests import devices
from tests.faults import within

F32 = np.dtype("float32")
DEADLINE_S = 20


@pytest.fixture
def transport():
    transport = LocalTransport("dev(0)")
    yield transport
    transport.close()


def segment(*tasks, writes=(), awaits=None):
    return Segment(list(tasks), frozenset(), frozenset(writes), awaits)


def put(number, *values):
    return (device.PUT, number, np.array(values, F32))


def test_a_promise_is_kept(transport):
    ticket = transport.send(0, [segment(put(1, 2.0), (device.EXPORT, 1, 0))], 1)
    (promise,) = ticket.exports
    told = []
    promise.subscribe(told.append)
    np.testing.assert_array_equal(transport.fetch(promise, DEADLINE_S), [2])
    np.testing.assert_array_equal(promise.value(0), [2])
    assert ticket.wait(DEADLINE_S) and ticket.done()
    assert ticket.report().failures == [] and len(told) == 1


def test_a_promise_that_is_late(transport):
    ticket = transport.send(0, [segment(put(1, 2.0), (device.EXPORT, 1, 0), awaits=1)], 1)
    (promise,) = ticket.exports
    assert promise.value(0.001) is None
    assert not ticket.wait(0.001) and not ticket.done()
    with pytest.raises(TimeoutError):
        transport.fetch(promise, 0.001)


def test_a_promise_that_is_broken_tells_whoever_waits(transport):
    """A device that awaits the value must get something in its place: nobody else would ever tell it."""
    ticket = transport.send(0, [segment(put(1, 2.0), (device.EXPORT, 1, 0), awaits=1)], 1)
    (promise,) = ticket.exports
    told = []
    promise.subscribe(told.append)
    transport._host.fail(SystemError("planned"))
    promise.subscribe(told.append)
    for failure in (*told, promise.value(0)):
        assert isinstance(failure, Failure)
        assert str(failure.cause) == "dev(0) ended before its value was copied (SystemError: planned)."
    assert len(told) == 2
    text = r"^dev\(0\) stopped: SystemError: planned\. Its arrays are gone; raymx.runtime.restart\(context\) starts it"
    with pytest.raises(DeviceError, match=text):
        ticket.report()
    with pytest.raises(DeviceError, match=text):
        transport.fetch(promise, DEADLINE_S)


def test_a_closed_device_says_so(transport):
    transport.close()
    with pytest.raises(DeviceLostError, match=r"dev\(0\) was shut down; its arrays are gone\."):
        transport.send(0, [segment(put(1, 2.0))], 0).report()


def test_a_fault_of_the_device_is_noticed_by_every_wait():
    with devices.ordinary() as context, within(DEADLINE_S):
        a = mx.nd.ones((2,), context)
        a.wait_to_read()
        a._lane.transport._host.runner.run = None  # calling it is a fault that no task can have
        a += 1
        for wait in (a.wait_to_read, a.asnumpy, (a + 1).asnumpy):
            with pytest.raises(DeviceError, match=r"cpu\(1\) stopped: TypeError: 'NoneType' object is not callable"):
                wait()
        mx.nd.waitall()
        assert mx.nd.ones((2,)).asnumpy().sum() == 2


def test_what_a_device_of_this_process_says_of_itself():
    with devices.ordinary() as context:
        a = mx.nd.ones((2,), context)
        a.wait_to_read()
        before = runtime.describe(context)["arrays"]
        b = [a + 1 for _ in range(10)]
        b[0].wait_to_read()
        assert runtime.describe(context)["arrays"] == before + 10
        del b
        a._lane.send()
        a.wait_to_read()
        assert runtime.describe(context)["arrays"] == before
