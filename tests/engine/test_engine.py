"""Several lanes together: waiting for all, losses, failures that travel, forks. Transports here are plain objects."""

import threading
import weakref

import pytest

from raymx.engine.engine import Engine
from raymx.engine.recorder import Flusher
from raymx.engine.segment import Failure, Report, lost
from raymx.errors import DeviceLostError, MXNetError, TaskError
from tests.engine.test_recorder import FreeingLane, Transport

DEADLINE_S = 20


@pytest.fixture
def engine():
    engine = Engine(FreeingLane)
    engine._flusher = Flusher(lambda: [], 1e-3)  # tests flush by hand
    return engine


def add(engine, name, transport=None):
    transport = transport or Transport()
    return engine.lane(name, lambda: transport), transport


def lose(transport, name="a"):
    transport.lost = DeviceLostError(f"{name} was lost.")


def test_a_device_is_connected_once_and_what_comes_first_comes_first(engine):
    connected = []
    barrier = threading.Barrier(4)

    def connect():
        connected.append(Transport())
        return connected[-1]

    def use():
        barrier.wait(DEADLINE_S)
        engine.lane("a", connect, lambda lane: lane.push("first")).push("later")

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    engine.wait_all()
    (transport,) = connected
    assert transport.sent[0][1][0].tasks == ["first"] + ["later"] * 4


def test_waiting_for_all_starts_the_work_of_every_device_first(engine):
    lanes = [add(engine, name) for name in "ab"]
    for lane, _ in lanes:
        lane.push("work")
    (_, first), (_, second) = lanes
    first.waited = lambda: len(second.sent)
    engine.wait_all()
    assert set(first.seen) == {1}, "b was not sent its work before a was waited for"


def test_a_lost_device_is_told_once_and_holds_up_no_other(engine):
    (a, lossy), (b, fine) = add(engine, "a"), add(engine, "b")
    a.push("work")
    a.send()
    b.push("work")
    lose(lossy)
    with pytest.raises(DeviceLostError, match=r"a was lost\."):
        engine.wait_all()
    assert len(fine.sent) == 1 and not b._inflight
    engine.wait_all()
    a.push("more")
    with pytest.raises(DeviceLostError):
        engine.wait_all()


def test_a_loss_that_only_the_flusher_noticed_is_told(engine):
    lane, transport = add(engine, "a")
    lane.push("work")
    lane.send()
    lane.push("more")
    lose(transport)
    transport.answers[0] = None  # the answer is an error
    assert lane.flush_if_idle() is False
    with pytest.raises(DeviceLostError, match="a was lost"):
        engine.wait_all()
    engine.wait_all()


def test_a_loss_told_at_a_push_is_not_told_again(engine):
    lane, transport = add(engine, "a")
    lane.push("work")
    lose(transport)
    lane.flush()
    with lane.noting_loss:
        lane.wait()
    with pytest.raises(DeviceLostError):
        lane.push("more", urgent=True)
    engine.wait_all()


def test_work_for_a_device_that_is_known_to_be_lost_is_told_again(engine):
    lane, transport = add(engine, "a")
    lane.push("work")
    lose(transport)
    with pytest.raises(DeviceLostError):
        engine.wait_all()
    lane.free(1, 1)
    lane.flush_if_idle()
    engine.wait_all()
    lane.push("more")  # recorded: to look costs more than to record
    lane.flush_if_idle()
    assert not (lane._open or lane._freed)
    with pytest.raises(DeviceLostError):
        engine.wait_all()
    engine.wait_all()


def test_failures_of_other_devices_stay_for_the_next_wait(engine):
    for name in "ab":
        lane, transport = add(engine, name)
        lane.push("bad")
        lane.send()
        transport.answers[0] = Report([Failure(name, 0, (0, 0), f"bad on {name}", None)], [])
    for name in "ab":
        with pytest.raises(TaskError, match=f"bad on {name}"):
            engine.wait_all()
    engine.wait_all()


def test_a_value_that_never_came_is_a_lost_device(engine):
    failure = lost("gpu(3) was lost before its value was copied")
    first, second = engine.explain(failure), engine.explain(failure)
    assert isinstance(first, DeviceLostError)
    assert str(first) == "gpu(3) was lost before its value was copied."
    assert first is not second, "a shared object would keep every caller's frames alive"


def test_a_failure_of_a_device_that_is_no_more_keeps_its_text(engine):
    error = engine.explain(Failure("gone", 5, (0, 0), "dot on gone: ValueError: no", None))
    assert isinstance(error, TaskError) and str(error) == "dot on gone: ValueError: no"


def test_a_task_is_blamed_before_the_loss_of_its_device(engine):
    """The failure has travelled to another device; its own was lost before it could report."""
    lane, transport = add(engine, "a")
    lane.push("bad")
    lane.send()
    lose(transport)
    assert "bad on a: ValueError: no" in str(engine.explain(Failure("a", 0, (0, 0), "bad on a: ValueError: no", None)))
    with pytest.raises(DeviceLostError):
        engine.wait_all()


def test_after_a_fork_variables_stay_new_and_old_lanes_say_so(engine):
    lane, transport = add(engine, "a")
    before = [engine.new_variable() for _ in range(10)]
    lane.push("the parent's")
    lane._lock.acquire()  # by a thread that the child does not have
    engine.after_fork(MXNetError("the parent's"))
    assert engine.new_variable() not in before
    with pytest.raises(MXNetError, match="the parent's"):
        lane.send()
    again, fresh = add(engine, "a")
    again.push("the child's")
    engine.wait_all()
    assert transport.sent == [] and len(fresh.sent) == 1


def test_a_forked_process_lets_go_of_nothing_that_is_the_parents(engine):
    """A ticket may hold what another library's threads take care of; in the child they are gone, and it would hang."""
    lane, transport = add(engine, "a")
    lane.push("work")
    tickets = [weakref.ref(lane.send())]
    awaited = threading.Event()
    tickets.append(weakref.ref(awaited))
    with lane._lock:
        lane.push_arrival("import", (1,), awaited)
    engine.after_fork(MXNetError("the parent's"))
    del lane, awaited
    with pytest.raises(MXNetError):
        engine._left_behind[0].send()
    assert all(ticket() is not None for ticket in tickets)
