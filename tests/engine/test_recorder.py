"""When batches are sent, what they hold, and how failures find the user's line. Transports here are plain objects."""

import gc
import signal
import threading
import weakref

import pytest

from raymx import config
from raymx.engine.engine import Engine
from raymx.engine.recorder import BUSY_ARRIVALS, BUSY_NBYTES, FAILURES_KEPT, Flusher, Lane, again
from raymx.engine.segment import EMPTY, Failure, Report
from raymx.errors import DeviceLostError, DeviceTimeoutError, TaskError

DEADLINE_S = 20


class Ticket:
    def __init__(self, transport, number, exports):
        self.transport, self.number = transport, number
        self.exports = [(number, slot) for slot in range(exports)]

    def done(self):
        return self.number in self.transport.answers

    def wait(self, timeout_s):
        if self.transport.waited:
            self.transport.seen.append(self.transport.waited())
        if self.transport.hangs:
            return False
        if not self.transport.lost:
            self.transport.answers.setdefault(self.number, EMPTY)
        return True

    def report(self):
        if self.transport.lost:
            raise again(self.transport.lost)
        return self.transport.answers[self.number]


class Transport:
    """Keeps messages; answers when told to, or when somebody waits. `seen` is what `waited()` gave at each wait."""

    def __init__(self):
        self.sent, self.answers, self.hangs, self.lost = [], {}, False, None
        self.waited, self.seen = None, []

    def send(self, number, segments, exports):
        self.sent.append((number, segments, exports))
        return Ticket(self, number, exports)

    def fetch(self, handle, timeout_s):
        if self.hangs:
            raise TimeoutError
        if self.lost:
            raise self.lost
        return handle

    def close(self):
        pass


class FreeingLane(Lane):
    def free_task(self, ids):
        return ("free", ids)


@pytest.fixture
def transport():
    return Transport()


@pytest.fixture
def lane(transport):
    engine = Engine(FreeingLane)
    engine._flusher = Flusher(lambda: [], 1e-3)  # tests flush by hand
    return engine.lane("dev(0)", lambda: transport)


def tasks(transport):
    return [[segment.tasks for segment in segments] for _, segments, _ in transport.sent]


def test_nothing_is_sent_before_it_is_due(lane, transport):
    for number in range(10):
        lane.push(number, (1,), (2,))
    assert transport.sent == []
    lane.send()
    assert tasks(transport) == [[list(range(10))]]
    segment = transport.sent[0][1][0]
    assert (segment.reads, segment.writes, segment.awaits) == ({1}, {2}, None)


def test_a_full_batch_is_sent(lane, transport):
    for number in range(config.get("batch_limit")):
        lane.push(number)
    assert len(transport.sent) == 1


def test_batches_grow_while_the_device_is_busy(lane, transport):
    limit = config.get("batch_limit")
    for number in range(limit * 6):
        lane.push(number)
    assert [len(segments[0].tasks) for _, segments, _ in transport.sent] == [limit, limit, limit * 4]


def test_urgent_work_starts_when_the_device_has_little_to_do(lane, transport):
    for number in range(5):
        lane.push(number, urgent=True)
    assert tasks(transport) == [[[0]], [[1]]]
    transport.answers = {0: EMPTY, 1: EMPTY}
    lane.push(5, urgent=True)
    assert tasks(transport)[2] == [[2, 3, 4, 5]]


def test_a_task_with_much_host_memory_makes_its_batch_due(lane, transport):
    lane.push("small", nbytes=100)
    lane.push("large", nbytes=1 << 20)
    assert tasks(transport) == [[["small", "large"]]]


def test_in_flight_messages_are_bounded(lane, transport):
    bound = config.get("inflight_limit")
    for number in range(bound * 3):
        lane.push(number)
        lane.send()
        assert number + 1 - len(transport.answers) <= bound


def test_the_flusher_sends_only_to_idle_devices(lane, transport):
    lane.push("a")
    assert lane.flush_if_idle() is False
    assert tasks(transport) == [[["a"]]]
    lane.push("b")
    assert lane.flush_if_idle() is True, "the device is busy with message 0"
    transport.answers[0] = EMPTY
    lane.flush_if_idle()
    assert tasks(transport)[1] == [["b"]]


def test_arrivals_are_segments_of_their_own(lane, transport):
    lane.push("before", (), (1,))
    lane.push_arrival("import", (1,), "ref")
    lane.push("after", (1,), (2,))
    lane.send()
    segments = [s for _, message, _ in transport.sent for s in message]
    assert [(s.tasks, s.awaits) for s in segments] == [(["before"], None), (["import"], "ref"), (["after"], None)]


def test_exports_are_sent_at_once_with_a_handle_each(lane, transport):
    lane.push("write", (), (1,))
    handles = lane.push_exports([lambda slot: ("export", slot)] * 2, [(1,), (1,)])
    assert transport.sent[0][2] == 2
    assert transport.sent[0][1][0].tasks == ["write", ("export", 0), ("export", 1)]
    assert [lane.fetch(h) for h in handles] == [(0, 0), (0, 1)]


def test_freed_ids_travel_last_as_a_write(lane, transport):
    lane.push("use", (7,), ())
    lane.free(7, 7)
    lane.free(8, 7)
    lane.send()
    *_, last = transport.sent[0][1]
    assert last.tasks == [("free", (7, 8))] and last.writes == {7}


def test_a_failure_is_raised_once_with_the_users_line(lane, transport):
    lane.push("fine")
    lane.push("bad")  # the line that the error must name
    lane.send()
    failure = Failure("dev(0)", 0, (0, 1), "bad on dev(0): ValueError: no", ValueError("no"))
    transport.answers[0] = Report([failure], [])
    lane.wait()
    text = r"bad on dev\(0\): ValueError: no \(pushed at .*test_recorder.py:\d+\)"
    with pytest.raises(TaskError, match=text) as caught:
        lane.raise_failure()
    assert isinstance(caught.value.__cause__, ValueError)
    line = int(str(caught.value).rsplit(":", 1)[1].rstrip(")."))
    with open(__file__) as source:
        assert "the line that the error must name" in source.readlines()[line - 1]
    lane.raise_failure()
    assert str(lane.explain(failure)) == str(caught.value)


def test_reading_a_failed_value_counts_as_raising_it(lane, transport):
    lane.push("bad")
    lane.send()
    failure = Failure("dev(0)", 0, (0, 0), "bad", None)
    transport.answers[0] = Report([failure], [])
    assert "bad (pushed at" in str(lane.explain(failure))
    lane.raise_failure()


def test_a_lane_is_settled_when_all_is_answered_and_no_array_holds_a_failure(lane, transport):
    assert not lane.settled(), "the device has said nothing yet"
    lane.push(1)
    assert not lane.settled()
    lane.send()
    assert not lane.settled()
    transport.answers[0] = Report([], [], sound=True)
    lane.wait()
    assert lane.settled()
    lane.push(2)
    lane.send()
    transport.answers[1] = Report([], [], sound=False)
    lane.wait()
    assert not lane.settled()


def test_a_lost_device_says_so_from_then_on(lane, transport):
    lane.push(1)
    lane.send()
    transport.lost = DeviceLostError("dev(0) was lost.")
    with pytest.raises(DeviceLostError):
        lane.wait()
    lane.push(2)
    for _ in range(2):
        with pytest.raises(DeviceLostError, match="was lost"):
            lane.send()


def test_a_wait_past_the_deadline_is_an_error_and_loses_nothing(lane, transport):
    lane.push(1)
    transport.hangs = True
    text = r"dev\(0\) has not answered within 0.5 s"
    with config.using(timeout_s=0.5), pytest.raises(DeviceTimeoutError, match=text):
        lane.wait()
    transport.hangs = False
    lane.wait()
    assert tasks(transport) == [[[1]]]


def test_a_destructor_may_free_anywhere(lane):
    class Handle:
        def __del__(self):
            lane.free(1, 1)

    with lane._lock:
        handle = Handle()
        handle.me = handle
        del handle
        gc.collect()
    assert list(lane._freed) == [(1, 1)]


def test_values_that_are_awaited_are_bounded_even_if_the_device_is_busy(lane, transport):
    for number in range(BUSY_ARRIVALS * 3):
        lane.push_arrival("import", (1,), number)
    assert len(lane._closed) < BUSY_ARRIVALS
    assert sum(len(message) for message in tasks(transport)) > BUSY_ARRIVALS * 2


def test_host_memory_in_recorded_tasks_is_bounded_even_if_the_device_is_busy(lane, transport):
    for _ in range(10):
        lane.push("write", nbytes=BUSY_NBYTES // 4)
    assert [len(message[0]) for message in tasks(transport)] == [1, 1, 4, 4]


def test_what_is_kept_of_failures_is_bounded(lane, transport):
    for number in range(FAILURES_KEPT + 10):
        lane.push("bad")
        lane.send()
        transport.answers[number] = Report([Failure("dev(0)", number, (0, 0), f"failure {number}", None)], [])
    lane.wait()
    assert len(lane.failed) == len(lane._unraised) == FAILURES_KEPT
    with pytest.raises(TaskError, match=r"failure 0 \(pushed at "):
        lane.raise_failure()
    assert "pushed at" not in str(lane.explain(Failure("dev(0)", 0, (0, 0), "failure 0", None))), "forgotten by now"


def test_errors_that_are_raised_often_keep_no_caller_alive(lane, transport):
    transport.lost = DeviceLostError("dev(0) was lost.")

    def attempt():
        mine = threading.Event()
        try:
            lane.push(1)
            lane.wait()
        except DeviceLostError:
            return weakref.ref(mine)

    held = [attempt() for _ in range(3)]
    assert [reference() for reference in held] == [None] * 3


def test_fetched_values_are_not_held_by_their_tickets(lane, transport):
    (handle,) = lane.push_exports([lambda slot: ("export", slot)], [(1,)])
    transport.answers[0] = EMPTY
    lane.fetch(handle)
    assert not lane._inflight


def test_the_flusher_waits_for_no_thread(lane, transport):
    lane.push("a")
    asked, answers = threading.Event(), []

    def flush():
        asked.wait(DEADLINE_S)
        answers.append(lane.flush_if_idle())

    thread = threading.Thread(target=flush)
    thread.start()
    with lane._lock:  # as one does that waits for the device
        asked.set()
        thread.join(DEADLINE_S)
        assert answers == [True] and transport.sent == []


def test_other_threads_push_while_one_waits(lane, transport):
    lane.push("long")
    pushed = threading.Event()

    def push():
        lane.push("meanwhile")
        lane.send()
        pushed.set()

    def hold():
        thread.start()
        assert pushed.wait(DEADLINE_S)
        transport.waited = None

    thread = threading.Thread(target=push)
    transport.waited = hold
    lane.wait()
    thread.join(DEADLINE_S)
    assert tasks(transport) == [[["long"]], [["meanwhile"]]]
    assert [sent.number for sent in lane._inflight] == [1], "what came later was not waited for"


def test_a_loss_that_another_thread_notices_is_told_to_whoever_waits(lane, transport):
    (handle,) = lane.push_exports([lambda slot: ("export", slot)], [(1,)])
    noticed = threading.Event()

    def notice():
        transport.lost = DeviceLostError("dev(0) was lost.")
        with pytest.raises(DeviceLostError):
            lane.fetch(handle)
        noticed.set()

    def hold():
        threading.Thread(target=notice).start()
        assert noticed.wait(DEADLINE_S)

    transport.waited = hold
    with pytest.raises(DeviceLostError, match="was lost"):
        lane.wait()


def test_closing_tells_whoever_waits(lane, transport):
    """`close` must not wait for the lock of a thread that waits for the device."""
    lane.push("long")
    waiting, closed, told = threading.Event(), threading.Event(), []

    def hold():
        waiting.set()
        closed.wait(DEADLINE_S)
        transport.lost = DeviceLostError("dev(0) was shut down.")

    def wait():
        with pytest.raises(DeviceLostError, match="shut down") as caught:
            lane.wait()
        told.append(caught.value)

    transport.waited, transport.close = hold, closed.set
    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait(DEADLINE_S)
    lane.close()
    thread.join(DEADLINE_S)
    assert told
    with pytest.raises(DeviceLostError, match=r"dev\(0\) was shut down; its arrays are gone\."):
        lane.send()


def test_ctrl_c_while_a_message_is_sent_loses_nothing(lane, transport):
    """The device waits for every message number, so one that was taken must be sent, and noted as sent."""
    send = transport.send

    def interrupted(*message):
        signal.raise_signal(signal.SIGINT)
        return send(*message)

    transport.send = interrupted
    lane.push("work")
    with pytest.raises(KeyboardInterrupt):
        lane.send()
    assert (len(lane._inflight), lane._number, tasks(transport)) == (1, 1, [[["work"]]])
    transport.send = send
    lane.push("more")
    lane.wait()
    assert [number for number, _, _ in transport.sent] == [0, 1]
