"""Actors from the driver's side: starting, numbering, signs of life, values of this process that travel to them."""

import threading

import numpy as np
import pytest

import raymx as mx
from raymx import config
from raymx.actors.device import WRITE
from raymx.errors import ContextError, DeviceLostError, DeviceStartError
from tests import devices
from tests.faults import NOTICED_S, actors, within

pytestmark = pytest.mark.ray

DEADLINE_S = 30


@pytest.fixture
def cluster():
    from raymx.runtime import cluster

    return cluster


# ---- signs of life ----


class Silent:
    """A transport that is asked for signs of life and gives none, unless `answers`."""

    def __init__(self):
        self.asked, self.answers, self.is_silent = 0, False, 0

    def ask(self):
        self.asked += 1
        return self

    def silent(self):
        self.is_silent += 1


@pytest.fixture
def pulse(cluster, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(cluster.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(cluster.ray, "wait", lambda refs, timeout: ([r for r in refs if r.answers], []))
    transport = Silent()
    pulse = cluster.Pulse(transport)

    def beat(seconds=1.0):
        clock[0] += seconds
        pulse.check(1.0)
        return transport.asked, transport.is_silent

    pulse.transport, pulse.beat = transport, beat
    return pulse


def test_two_beats_without_an_answer_are_silence(pulse):
    assert [pulse.beat() for _ in range(3)] == [(1, 0), (1, 0), (1, 1)]


def test_each_answer_is_followed_by_a_question(pulse):
    pulse.transport.answers = True
    assert [pulse.beat() for _ in range(4)] == [(1, 0), (2, 0), (3, 0), (4, 0)]


def test_an_answer_after_one_missed_beat_is_in_time(pulse):
    assert [pulse.beat() for _ in range(2)] == [(1, 0), (1, 0)]
    pulse.transport.answers = True
    assert pulse.beat() == (2, 0)
    pulse.transport.answers = False
    assert [pulse.beat() for _ in range(2)] == [(2, 0), (2, 1)]


def test_several_threads_that_wait_make_one_beat(pulse):
    assert [pulse.beat(0.25) for _ in range(8)][-1] == (1, 0)


def test_a_driver_that_slept_for_long_asks_again_before_it_judges(pulse):
    pulse.beat()
    assert pulse.beat(3600.0) == (1, 0)


# ---- starting ----


def test_an_actor_that_asks_for_what_no_node_has(cluster):
    actor = cluster.start_device("gpu(0)", "cpu", config.snapshot(), num_cpus=0, resources={"nowhere": 1})
    text = (r"^gpu\(0\) did not start within 0.5 s; free in the cluster: \{.*'CPU': .*\}\. Free a device, add a node, "
            r"or raise the switch start_timeout_s \(RAYMX_START_TIMEOUT_S\)\.$")  # fmt: skip
    with pytest.raises(DeviceStartError, match=text):
        cluster.RayTransport("gpu(0)", actor).wait_until_started(0.5)


def test_an_actor_whose_constructor_fails(cluster):
    actor = cluster.start_device("gpu(0)", "gpu", config.snapshot(), num_cpus=0)
    with pytest.raises(DeviceStartError, match=r"^gpu\(0\) could not start: .*: a real GPU needs CuPy"):
        cluster.RayTransport("gpu(0)", actor).wait_until_started(DEADLINE_S)


def node(name, address, gpus, alive=True):
    return {"NodeID": name, "NodeManagerAddress": address, "Alive": alive, "Resources": {"GPU": gpus, "CPU": 8}}


def test_gpus_are_numbered_by_node_and_keep_their_numbers(cluster, monkeypatch):
    nodes = [node("b", "10.0.0.2", 1), node("a", "10.0.0.1", 2), node("cpu only", "10.0.0.3", 0)]
    monkeypatch.setattr(cluster, "_gpus", [])
    monkeypatch.setattr(cluster.ray, "nodes", lambda: nodes)
    with config.using(virtual_gpus=0):
        assert mx.num_gpus() == 3
        assert cluster._gpus == [("a", 0), ("a", 1), ("b", 0)]
        nodes = [node("new", "10.0.0.0", 1), node("a", "10.0.0.1", 2, alive=False), node("b", "10.0.0.2", 1)]
        assert mx.num_gpus() == 4
        assert cluster._gpus == [("a", 0), ("a", 1), ("b", 0), ("new", 0)]
        text = (r"gpu\(4\): there are 4 GPUs \(in the Ray cluster\); use a smaller number, or emulate more with "
                r"RAYMX_VIRTUAL_GPUS=5")  # fmt: skip
        with pytest.raises(ContextError, match=text):
            cluster.connect("gpu", 4)


def test_one_gpu_is_no_plural(cluster):
    with config.using(virtual_gpus=1), pytest.raises(ContextError, match=r"gpu\(9\): there is 1 GPU \(virtual\);"):
        cluster.connect("gpu", 9)


# ---- values of this process on their way to an actor ----


class Held:
    """A value whose elements come when `let_go` is set."""

    def __init__(self):
        self.let_go = threading.Event()

    def __array__(self, *args, **kwargs):
        assert self.let_go.wait(DEADLINE_S)
        return np.array([5.0, 6.0], np.float32)


@pytest.fixture
def held():
    """A device of this process, an array there, and what holds up its value."""
    with devices.ordinary() as context:
        array, value = mx.nd.zeros((2,), context), Held()
        array._lane.push((WRITE, array._id, value), (), (array._var,))
        yield array, value
        value.let_go.set()


def test_a_value_that_is_late_follows_its_message(held):
    array, value = held
    target = mx.nd.zeros((2,), mx.gpu(0))
    array.copyto(target)
    target._lane.send()
    other = mx.nd.ones((2,), mx.gpu(0)) + 1
    with within(DEADLINE_S):
        assert other.asnumpy().tolist() == [2, 2], "what has nothing to do with it does not wait"
        value.let_go.set()
        assert target.asnumpy().tolist() == [5, 6]


def test_a_value_that_never_comes_fails_where_it_was_awaited(held):
    array, _ = held
    target = mx.nd.zeros((2,), mx.gpu(0))
    array.copyto(target)
    array._lane.transport._host.fail(SystemError("planned"))
    with within(NOTICED_S):
        with pytest.raises(DeviceLostError, match=r"cpu\(1\) ended before its value was copied \(SystemError: pl"):
            (target + 1).asnumpy()
    target[:] = 3
    assert target.asnumpy().tolist() == [3, 3]


# ---- what travels ----


@pytest.mark.parametrize("nbytes", [40, 4_000_000])
def test_host_arrays_travel_whole(nbytes):
    host = np.arange(nbytes // 4, dtype=np.float32).reshape(2, -1)
    for source in (host, host[:, ::2], np.asfortranarray(host)):
        array = mx.nd.array(source, mx.gpu(0))
        array += 1
        np.testing.assert_array_equal(array.asnumpy(), source + 1)
        array[:] = source
        np.testing.assert_array_equal(array.asnumpy(), source)


def test_an_inflight_limit_beyond_the_actor_s_threads():
    """Each message under way holds one of the actor's threads."""
    with config.using(inflight_limit=200, batch_limit=1), actors(1) as (context,):
        a = mx.nd.zeros((2,), context)
        with within(DEADLINE_S):
            for _ in range(300):
                a += 1
                a._lane.send()
            assert a.asnumpy().tolist() == [300, 300]
