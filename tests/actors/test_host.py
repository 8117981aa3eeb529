"""The device's host: order, waiting for other devices, failures. Values come from plain callbacks; no Ray."""

import threading
import weakref
from concurrent.futures import Future

import numpy as np
import pytest

from raymx.actors.device import (
    EXPORT,
    FILL,
    FREE,
    GATHER,
    IMPORT,
    NEW,
    PUT,
    SCATTER,
    SEED,
    SEND,
    SUM,
    SYNC,
    VIEW,
    WRITE,
    DeviceRunner,
)
from raymx.actors.host import DeviceHost
from raymx.engine.segment import Failure, Letter, Mail, Segment, lost
from raymx.errors import DeviceLostError, TaskError
from raymx.ops.op import make

F32 = np.dtype("float32")
DEADLINE_S = 20


@pytest.fixture
def arriving():
    """What `resolve` was asked for: awaited → callback."""
    return {}


@pytest.fixture
def host(arriving):
    host = DeviceHost(DeviceRunner("dev(0)"), arriving.__setitem__, check=True)
    yield host
    host.close()


def segment(*tasks, reads=(), writes=(), awaits=None):
    return Segment(list(tasks), frozenset(reads), frozenset(writes), awaits)


def array(number, *values):
    return (PUT, number, np.array(values, F32))


def add(target, a, b):
    return (make("_plus"), (target,), (a, b), (((1,), F32),))


def answer(future):
    return future.result(DEADLINE_S)


def test_tasks_run_and_values_come_out(host):
    report, values = answer(host.submit(0, [segment(array(1, 2.0), array(2, 3.0), add(3, 1, 2), (EXPORT, 3, 0))], 1))
    assert report.failures == []
    np.testing.assert_array_equal(values[0], [5.0])


def test_exports_are_snapshots(host):
    one = make("_plus_scalar", scalar=1)
    tasks = [array(1, 1.0), (EXPORT, 1, 0), (one, (1,), (1,)), (EXPORT, 1, 1)]
    _, values = answer(host.submit(0, [segment(*tasks)], 2))
    assert [float(v[0]) for v in values] == [1.0, 2.0]


def test_messages_that_overtake_wait_for_their_turn(host):
    double = make("_mul_scalar", scalar=2)
    late = host.submit(2, [segment((EXPORT, 1, 0), reads=[1])], 1)
    host.submit(1, [segment((double, (1,), (1,)), writes=[1])])
    assert not late.done()
    host.submit(0, [segment(array(1, 21.0), writes=[1])])
    np.testing.assert_array_equal(answer(late)[1][0], [42.0])


def test_an_awaited_value_holds_up_only_what_needs_it(host, arriving):
    waiting = host.submit(0, [
        segment((NEW, 1, (1,), F32), writes=[1]),
        segment((IMPORT, 1), writes=[1], awaits="ref"),
        segment((EXPORT, 1, 0), reads=[1]),
    ], 1)  # fmt: skip
    other = host.submit(1, [segment(array(2, 7.0), (EXPORT, 2, 0), writes=[2])], 1)
    np.testing.assert_array_equal(answer(other)[1][0], [7.0])
    assert not waiting.done()
    arriving["ref"](np.array([4.0], F32))
    np.testing.assert_array_equal(answer(waiting)[1][0], [4.0])


def test_a_value_waits_until_earlier_readers_are_done(host, arriving):
    """The import may not overwrite what an earlier segment, itself waiting, still has to read."""
    first = host.submit(0, [
        segment(array(1, 1.0), array(2, 0.0), writes=[1, 2]),
        segment((IMPORT, 2), writes=[2], awaits="slow"),
        segment(add(3, 1, 2), (EXPORT, 3, 0), reads=[1, 2], writes=[3]),
        segment((IMPORT, 1), writes=[1], awaits="fast"),
    ], 1)  # fmt: skip
    arriving["fast"](np.array([100.0], F32))
    arriving["slow"](np.array([5.0], F32))
    np.testing.assert_array_equal(answer(first)[1][0], [6.0])


def test_promised_values_come_by_token_before_or_after_the_message(host):
    host.deliver(7, np.array([3.0], F32))
    early = host.submit(0, [segment((NEW, 1, (1,), F32), writes=[1]),
                            segment((IMPORT, 1), writes=[1], awaits=7), segment((EXPORT, 1, 0), reads=[1])], 1)
    np.testing.assert_array_equal(answer(early)[1][0], [3.0])
    late = host.submit(1, [segment((IMPORT, 1), writes=[1], awaits=8), segment((EXPORT, 1, 0), reads=[1])], 1)
    host.deliver(8, np.array([4.0], F32))
    np.testing.assert_array_equal(answer(late)[1][0], [4.0])


def test_a_failure_marks_what_would_have_been_written_and_spreads(host):
    bad = make("_plus")
    tasks = [array(1, 1.0), array(2, 1.0, 2.0, 3.0), array(4, 1.0, 2.0), (bad, (3,), (2, 4), (((3,), F32),)),
             add(5, 3, 1), (EXPORT, 5, 0), (SYNC, 3, 1), (EXPORT, 1, 2)]  # fmt: skip
    report, values = answer(host.submit(0, [segment(*tasks)], 3))
    assert [f.position for f in report.failures] == [(0, 3)]
    assert report.failures[0].text.startswith("_plus on dev(0) with inputs (3,), (2,): ValueError:")
    assert values[0] == values[1] == report.failures[0]
    np.testing.assert_array_equal(values[2], [1.0])


def test_a_whole_overwrite_heals(host):
    bad, fill = make("_plus"), make("_set_value", src=9)
    tasks = [array(2, 1.0, 2.0, 3.0), array(4, 1.0, 2.0), (bad, (2,), (2, 4)), (fill, (2,), ()), (EXPORT, 2, 0)]
    report, values = answer(host.submit(0, [segment(*tasks)], 1))
    assert len(report.failures) == 1
    np.testing.assert_array_equal(values[0], [9.0] * 3)


def test_writing_a_view_does_not_heal_its_storage(host):
    bad, fill = make("_plus"), make("_set_value", src=9)
    tasks = [array(2, 1.0, 2.0, 3.0), array(4, 1.0, 2.0), (VIEW, 5, 2, (1,), (4,), 0), (bad, (2,), (2, 4)),
             (fill, (5,), ()), (EXPORT, 2, 0)]  # fmt: skip
    _, values = answer(host.submit(0, [segment(*tasks)], 1))
    assert isinstance(values[0], Failure)


def test_an_awaited_failure_spreads(host, arriving):
    future = host.submit(0, [segment((NEW, 1, (1,), F32), writes=[1]), segment((IMPORT, 1), writes=[1], awaits="ref"),
                             segment(array(2, 1.0), add(3, 1, 2), (EXPORT, 3, 0), reads=[1], writes=[2, 3])], 1)
    lost = Failure("gpu(1)", 3, (0, 0), "gone", None)
    arriving["ref"](lost)
    assert answer(future)[1] == [lost]


def test_views_share_memory_and_outlive_the_first_handle(host):
    tasks = [array(1, 0.0, 1.0, 2.0, 3.0), (VIEW, 2, 1, (2,), (8,), 4), (WRITE, 2, np.array([9.0, 8.0], F32)),
             (EXPORT, 1, 0), (FREE, 1), (EXPORT, 2, 1)]  # fmt: skip
    _, values = answer(host.submit(0, [segment(*tasks)], 2))
    np.testing.assert_array_equal(values[0], [0, 9, 2, 8])
    np.testing.assert_array_equal(values[1], [9, 8])


def test_gather_and_scatter(host):
    index = (np.array([2, 0]),)
    tasks = [array(1, 0.0, 1.0, 2.0), (NEW, 2, (2,), F32), (GATHER, 2, 1, index), (SCATTER, 1, (np.array([1, 1]),), 2),
             (EXPORT, 2, 0), (EXPORT, 1, 1)]  # fmt: skip
    _, values = answer(host.submit(0, [segment(*tasks)], 2))
    np.testing.assert_array_equal(values[0], [2, 0])
    np.testing.assert_array_equal(values[1], [0, 0, 2])


def test_a_seed_makes_draws_repeat(host):
    draw = make("_random_uniform", low=0, high=1, shape=(4,), dtype="float32")
    new = (((4,), F32),)
    tasks = [(SEED, 5), (draw, (1,), (), new), (SEED, 5), (draw, (2,), (), new), (draw, (3,), (), new)]
    _, values = answer(host.submit(0, [segment(*tasks, *((EXPORT, i, i - 1) for i in (1, 2, 3)))], 3))
    np.testing.assert_array_equal(values[0], values[1])
    assert not np.array_equal(values[1], values[2])


def test_a_fault_of_the_host_itself_reaches_whoever_waits(host, monkeypatch):
    def broken(*args):
        raise SystemError("planned")

    monkeypatch.setattr(host.runner, "run", broken)
    with pytest.raises(SystemError, match="planned"):
        answer(host.submit(0, [segment(array(1, 1.0))]))


def test_all_work_runs_on_one_thread(host, monkeypatch, arriving):
    threads = set()
    run = host.runner.run
    monkeypatch.setattr(host.runner, "run", lambda *a: (threads.add(threading.get_ident()), run(*a))[1])
    future: Future = host.submit(0, [segment((NEW, 1, (1,), F32), writes=[1]),
                                     segment((IMPORT, 1), writes=[1], awaits="ref")])
    arriving["ref"](np.zeros(1, F32))
    answer(future)
    assert threads == {host._thread.ident}


# ---- faults of the host itself ----


@pytest.fixture
def broken(host, monkeypatch):
    """A host whose next segment meets a fault of raymx itself."""

    def run(*args):
        raise SystemError("planned")

    monkeypatch.setattr(host.runner, "run", run)
    return host


def test_after_a_fault_nobody_waits_for_ever(broken):
    awaiting = broken.submit(0, [segment((NEW, 1, (1,), F32), writes=[9]), segment((IMPORT, 1), awaits="ref")])
    early = broken.submit(2, [segment(array(2, 1.0))])
    dependent = broken.submit(1, [segment(array(3, 1.0), writes=[9])])
    late = broken.submit(3, [segment(array(4, 1.0))])
    for future in (awaiting, early, dependent, late):
        with pytest.raises(SystemError, match="planned"):
            answer(future)
    assert broken.describe()["messages"] == 0


def test_a_fault_while_a_message_is_taken_in_is_one_of_the_host(host, monkeypatch):
    def add(*args):
        raise AssertionError("planned")

    monkeypatch.setattr(host._tracker, "add", add)
    for number in range(2):
        with pytest.raises(AssertionError, match="planned"):
            answer(host.submit(number, [segment(array(1, 1.0))]))


def test_closing_answers_what_has_not_run():
    arriving = {}
    host = DeviceHost(DeviceRunner("dev(0)"), arriving.__setitem__, check=True)
    waiting = host.submit(0, [segment((NEW, 1, (1,), F32), writes=[1]),
                              segment((IMPORT, 1), writes=[1], awaits="ref")])  # fmt: skip
    host.close()
    arriving["ref"](np.zeros(1, F32))  # too late, and no harm
    for future in (waiting, host.submit(1, [segment(array(1, 1.0))])):
        with pytest.raises(DeviceLostError, match=r"dev\(0\) was shut down; its arrays are gone\."):
            answer(future)
    assert not host._thread.is_alive()


def test_what_is_awaited_in_vain_can_be_given_up(host, arriving):
    host.submit(0, [segment((NEW, 1, (1,), F32), writes=[1]), segment((IMPORT, 1), writes=[1], awaits="ref")])
    future = host.submit(1, [segment((EXPORT, 1, 0), reads=[1])], 1)
    failure = lost("gpu(3) is gone")
    host.give_up(failure)
    assert answer(future)[1] == [failure]
    arriving["ref"](np.zeros(1, F32))  # comes after all: ignored
    assert answer(host.submit(2, [segment((EXPORT, 1, 0), reads=[1])], 1))[1] == [failure]


def test_promised_values_that_come_for_nobody_are_not_kept(broken):
    with pytest.raises(SystemError):
        answer(broken.submit(0, [segment(array(1, 1.0))]))
    broken.deliver(7, np.zeros(1000))
    assert broken._delivered == {}


# ---- failures of tasks ----


def test_a_copy_of_a_whole_array_heals_as_well(host):
    bad = make("_plus")
    tasks = [array(1, 5.0, 6.0, 7.0), array(2, 1.0, 2.0, 3.0), array(4, 1.0, 2.0), (bad, (2,), (2, 4)),
             (SCATTER, 2, ..., 1), (EXPORT, 2, 0)]  # fmt: skip
    _, values = answer(host.submit(0, [segment(*tasks)], 1))
    np.testing.assert_array_equal(values[0], [5, 6, 7])


def test_what_needs_an_array_that_could_not_be_made_fails_for_its_reason(host):
    tasks = [array(1, 1.0), (NEW, 2, (1 << 50,), F32), (VIEW, 3, 2, (2,), (4,), 0), (GATHER, 2, 1, (0,)),
             (SCATTER, 2, (0,), 1), (WRITE, 3, np.zeros(2, F32)), (EXPORT, 3, 0), (SYNC, 2, 1)]  # fmt: skip
    report, values = answer(host.submit(0, [segment(*tasks)], 2))
    assert [f.position for f in report.failures] == [(0, 1)]
    assert values == report.failures * 2
    assert report.failures[0].text.startswith("new on dev(0): MemoryError: Unable to allocate 4.00 PiB")


def test_states_that_a_failed_operator_would_have_changed_are_marked(host, monkeypatch):
    op = make("_plus")
    monkeypatch.setattr(op, "inputs", lambda: ("lhs",))  # the second array stands for a state
    tasks = [array(1, 1.0, 2.0), array(2, 1.0, 2.0, 3.0), (op, (3,), (1, 2), (((2,), F32),)),
             (SYNC, 2, 0), (SYNC, 1, 1)]  # fmt: skip
    report, values = answer(host.submit(0, [segment(*tasks)], 2))
    assert values == [report.failures[0], None]


class Raising:
    """A value whose elements cannot be had."""

    def __init__(self, error):
        self.error = error

    def __array__(self, *args, **kwargs):
        raise self.error


def test_a_failure_keeps_nothing_alive(host):
    """Its cause says in a note where it happened; the frames, which hold arrays, are gone."""

    value = Raising(LookupError("planned"))
    reference = weakref.ref(value)
    message = [array(1, 1.0), (WRITE, 1, value)]
    report, _ = answer(host.submit(0, [segment(*message)]))
    del value, message
    answer(host.submit(1, [segment(array(2, 1.0))]))  # the thread has moved on
    cause = report.failures[0].cause
    assert isinstance(cause, LookupError) and cause.__traceback__ is None
    assert reference() is None
    assert "On dev(0):\n" in cause.__notes__[0] and "in __array__" in cause.__notes__[0]


def test_a_cause_that_cannot_be_pickled_is_told_in_words(host):
    class Local(Exception):
        pass

    report, _ = answer(host.submit(0, [segment(array(1, 1.0), (WRITE, 1, Raising(Local("planned"))))]))
    assert type(report.failures[0].cause) is TaskError
    assert report.failures[0].text == "write on dev(0): Local: planned"


def test_values_that_came_and_went_are_not_kept(host, arriving):
    value = np.array([4.0], F32)
    reference = weakref.ref(value)
    future = host.submit(0, [segment((NEW, 1, (1,), F32), writes=[1]), segment((IMPORT, 1), writes=[1], awaits="ref"),
                             segment((EXPORT, 1, 0), reads=[1])], 1)  # fmt: skip
    arriving.pop("ref")(value)
    del value
    exported = weakref.ref(answer(future)[1][0])
    del future
    answer(host.submit(1, [segment(array(2, 1.0))]))
    assert (reference(), exported()) == (None, None)


def test_a_device_says_what_it_holds(host):
    answer(host.submit(0, [segment(array(1, 1.0), array(2, 1.0), (FREE, 1))]))
    assert host.describe() == {"arrays": 1, "programs": 0, "messages": 0}


# ---- letters of other devices ----


def letters(number, *senders):
    """A segment that sums what it has in 1 and a letter of each sender, into 2."""
    return segment((SUM, 2, 1, 0, 1, 1), reads=[1], writes=[2], awaits=Mail(senders, number))


def begun(host):
    return host.submit(0, [segment(array(1, 2.0), (NEW, 2, (1,), F32), writes=[1, 2])])


def summed(host, number=1):
    return host.submit(number, [segment((EXPORT, 2, 0), reads=[2])], 1)


def test_letters_are_summed_in_order_however_they_come(host):
    begun(host)
    host.deliver(Letter("b", 7), np.array([-1e8], F32))  # before its message
    host.submit(1, [letters(7, "a", "b")])
    host.deliver(Letter("a", 8), np.array([99.0], F32))  # for another time
    host.deliver(Letter("a", 7), np.array([1e8], F32))
    np.testing.assert_array_equal(answer(summed(host, 2))[1][0], [F32.type(1e8) + F32.type(2) - F32.type(1e8)])


def test_letters_of_a_lost_device_fail_now_and_later_unless_they_have_come(host):
    begun(host)
    host.submit(1, [letters(7, "a")])
    host.deliver(Letter("a", 9), np.array([1.0], F32))
    host.expect_nothing_of("a", lost("a was lost"))
    assert answer(summed(host, 2))[1][0].text == "a was lost"
    host.submit(3, [letters(8, "a", "b")])
    host.deliver(Letter("b", 8), np.array([1.0], F32))
    assert answer(summed(host, 4))[1][0].text == "a was lost"
    host.submit(5, [letters(9, "a")])
    np.testing.assert_array_equal(answer(summed(host, 6))[1][0], [3.0])
    host.expect_letters_of(["a"])
    host.submit(7, [letters(10, "a")])
    host.deliver(Letter("a", 10), np.array([5.0], F32))
    np.testing.assert_array_equal(answer(summed(host, 8))[1][0], [7.0])


def test_windows_and_failures_are_posted(host):
    posted = []
    host.runner.post = lambda *letter: posted.append(letter)
    parcels = ((0, 2, ("a",)), (1, 3, ("b", "c")))
    failing = (make("_plus"), (1,), (1, 5), (((1,), F32),))
    answer(host.submit(0, [segment(array(1, 1, 2, 3), (SEND, 1, parcels, 7), writes=[1])]))
    assert [(to, number, list(value)) for to, number, value in posted] == [(("a",), 7, [1, 2]), (("b", "c"), 7, [2, 3])]
    posted.clear()
    answer(host.submit(1, [segment(failing, writes=[1]), segment((SEND, 1, parcels, 8), reads=[1])]))
    assert [(to, number, type(value)) for to, number, value in posted] == [
        (("a",), 8, Failure), (("b", "c"), 8, Failure)
    ]  # fmt: skip


def test_windows_are_filled_from_letters_and_own_arrays(host):
    fill = segment((FILL, 1, ((0, 1), (1, 3), (3, 4)), (None, 2, None)), writes=[1], awaits=Mail(("a", "b"), 3))
    host.submit(0, [segment(array(1, 0, 0, 0, 0), array(2, 5, 6), writes=[1, 2]), fill])
    host.deliver(Letter("b", 3), np.array([7.0], F32))
    host.deliver(Letter("a", 3), np.array([4.0], F32))
    _, values = answer(host.submit(1, [segment((EXPORT, 1, 0), reads=[1])], 1))
    np.testing.assert_array_equal(values[0], [4, 5, 6, 7])


def test_what_goes_ahead_runs_before_what_may_start_at_the_same_moment(host):
    host.runner.post = lambda addresses, number, value: order.append("post")
    order = []

    class When:
        def __index__(self):
            order.append("task")
            return 0

    host.submit(0, [segment(array(1, 0.0), array(2, 0.0), writes=[1, 2])])
    host.submit(1, [
        segment((IMPORT, 1), writes=[1], awaits=5),
        segment((GATHER, 2, 1, When()), reads=[1], writes=[2]),
        segment((SEND, 1, ((0, 1, ("a",)),), 6), reads=[1])._replace(ahead=True),
    ])  # fmt: skip
    host.deliver(5, np.array([1.0], F32))
    answer(host.submit(2, [segment((EXPORT, 2, 0), reads=[1, 2])], 1))
    assert order == ["post", "task"]
