"""How messages are packed, and how values that will never come are told. Refs are plain objects here."""

import pickle
from concurrent.futures import Future

import numpy as np
import pytest

from raymx.actors.transfer import Remote, pack, resolve, unpack
from raymx.engine.segment import Failure, Segment
from raymx.errors import DeviceLostError


class Ref:
    """Gives a future, and must not be pickled: Ray has to see it."""

    def __init__(self):
        self.answer: Future = Future()

    def future(self):
        return self.answer

    def __reduce__(self):
        raise AssertionError("a ref was pickled")


def segment(*tasks, awaits=None):
    return Segment(list(tasks), frozenset({1}), frozenset({2, 3}), awaits)


def test_a_message_survives_the_way():
    refs = [Ref(), Ref()]
    segments = [
        segment(("task", 1)),
        segment(("import", 2), awaits=Remote("gpu(1)", refs[0])),
        segment(("import", 3), awaits=7),
        segment(("import", 4), awaits=Remote("gpu(2)", refs[1])),
    ]
    data, buffers, sent = pack(segments)
    assert sent == refs
    assert unpack(data, buffers, sent) == segments


@pytest.mark.parametrize("order", ["C", "F"])
def test_host_arrays_are_not_copied(order):
    host = np.asarray(np.arange(6.0).reshape(2, 3), order=order)
    data, buffers, refs = pack([segment(("put", host)), segment(("write", host.T))])
    assert len(data) < 1000 and len(buffers) == 2
    assert all(isinstance(b, pickle.PickleBuffer) for b in buffers), "what Ray ships beside the message"
    (_, arrived), (_, transposed) = (s.tasks[0] for s in unpack(data, buffers, refs))
    assert np.shares_memory(arrived, host) and np.shares_memory(transposed, host)
    np.testing.assert_array_equal(arrived, host)
    np.testing.assert_array_equal(transposed, host.T)


def test_a_value_arrives():
    ref, told = Ref(), []
    resolve(Remote("gpu(1)", ref), told.append)
    assert told == []
    ref.answer.set_result("value")
    assert told == ["value"]


def test_a_failure_travels_like_a_value():
    ref, told = Ref(), []
    failure = Failure("gpu(1)", 3, (0, 0), "no", None)
    resolve(Remote("gpu(1)", ref), told.append)
    ref.answer.set_result(failure)
    assert told == [failure]


def test_a_lost_device_is_named():
    ref, told = Ref(), []
    resolve(Remote("gpu(1)", ref), told.append)
    ref.answer.set_exception(ConnectionError("died"))
    (failure,) = told
    assert isinstance(failure.cause, DeviceLostError) and failure.message == -1
    assert str(failure.cause) == "gpu(1) was lost before its value was copied (ConnectionError)."
    assert pickle.loads(pickle.dumps(failure)).text == failure.text
