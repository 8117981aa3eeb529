"""Devices that are killed, stopped, or never start: a named error within seconds, and everything else works on."""

import contextlib
import itertools
import os
import signal

import numpy as np
import pytest

import raymx as mx
from raymx import config, runtime
from raymx.actors import device
from raymx.errors import ContextError, DeviceError, DeviceLostError, DeviceStartError, TaskError
from raymx.ops.op import make
from tests import faults
from tests.faults import KILL, NOTICED_S, actors, block, kill, once_begun, pid_of, plan, together, within

pytestmark = pytest.mark.ray

LOST = r"was lost: its process ended \(ActorDiedError\); it was process \d+ on node \w+\. Its arrays are gone"


@pytest.fixture
def one():
    with actors(1) as (context,):
        yield context


@pytest.fixture
def two(one):
    """One that a test may end, and another that it may not."""
    return one, mx.cpu(99)


def works(context) -> bool:
    return bool((mx.nd.ones((2,), context) + 1).asnumpy().tolist() == [2, 2])


def test_a_kill_during_a_loop(two):
    lost, other = two
    assert works(other)
    a = mx.nd.zeros((2, 3), lost)
    with within(NOTICED_S), pytest.raises(DeviceLostError, match=rf"cpu\({lost.device_id}\) {LOST}"):
        for number in itertools.count():
            a += 1
            if number == 1000:
                kill(lost)
    for _ in range(2):
        with within(1), pytest.raises(DeviceLostError, match=LOST):
            a.asnumpy()
    mx.nd.waitall()
    assert works(other)


def test_a_kill_while_a_value_is_waited_for(two, tmp_path):
    lost, other = two
    a = mx.nd.zeros((2, 3), lost)
    with once_begun(block(a, tmp_path), lambda: kill(lost)):
        with within(NOTICED_S + 1), pytest.raises(DeviceLostError, match=LOST):
            a.asnumpy()
    assert works(other)


def test_a_kill_while_everything_is_waited_for(two, tmp_path):
    lost, other = two
    a, b = mx.nd.zeros((2, 3), lost), mx.nd.zeros((2, 3), other)
    b += 1
    with once_begun(block(a, tmp_path), lambda: kill(lost)):
        with within(NOTICED_S + 1), pytest.raises(DeviceLostError, match=LOST):
            mx.nd.waitall()
    mx.nd.waitall()
    assert b.asnumpy().sum() == 6


def test_the_source_of_a_copy_is_killed_before_the_value_is_there(two):
    lost, other = two
    a, b = mx.nd.zeros((2, 3), lost), mx.nd.zeros((2, 3), other)
    with together(a):
        plan(a, KILL)
        a.copyto(b)
    c = b + 1
    text = rf"cpu\({lost.device_id}\) was lost before its value was copied \(ActorDiedError\)\.$"
    with within(NOTICED_S):
        for array in (b, c):
            with pytest.raises(DeviceLostError, match=text):
                array.asnumpy()
    assert works(other)
    b[:] = 5
    assert b.asnumpy().sum() == 30, "an array that is overwritten whole works again"


def test_the_source_of_a_copy_to_this_process_is_killed(one):
    a = mx.nd.zeros((2, 3), one)
    with together(a):
        plan(a, KILL)
        b = a.as_in_context(mx.cpu())
    with within(NOTICED_S), pytest.raises(DeviceLostError, match=rf"cpu\({one.device_id}\) was lost before its value"):
        b.wait_to_read()
    assert works(mx.cpu())


def test_a_value_that_was_there_outlives_its_device(two):
    lost, other = two
    a = mx.nd.ones((2, 3), lost)
    b = a.copyto(other)
    a._lane.wait()  # the message with the value is answered
    kill(lost)
    assert b.asnumpy().sum() == 6


def test_the_target_of_a_copy_is_killed(two):
    lost, source = two
    a, b = mx.nd.ones((2, 3), source), mx.nd.zeros((2, 3), lost)
    with together(b):
        plan(b, KILL)
        a.copyto(b)
    with within(NOTICED_S), pytest.raises(DeviceLostError, match=rf"cpu\({lost.device_id}\) {LOST}"):
        b.asnumpy()
    assert a.asnumpy().sum() == 6


def test_a_device_that_dies_while_it_reads_a_message(one):
    a = mx.nd.zeros((2, 3), one)
    a._lane.push((device.GATHER, a._id, a._id, faults.WhenRead(KILL)), (a._var,), (a._var,))
    with within(NOTICED_S), pytest.raises(DeviceLostError, match=LOST):
        a.wait_to_read()


def test_a_loss_that_nobody_waits_for_is_told_by_the_next_waitall(one):
    a = mx.nd.zeros((2, 3), one)
    a.wait_to_read()
    kill(one)
    with within(NOTICED_S):
        while a._lane._lost is None:  # until the flusher, which tells nobody, has noticed it
            a._lane.free(0, 0)
            a._lane.flush_if_idle()
    with pytest.raises(DeviceLostError, match=LOST):
        mx.nd.waitall()
    mx.nd.waitall()


def test_a_device_that_stops_answering(one):
    a = mx.nd.zeros((2, 3), one)
    pid = pid_of(one)
    kill(one, signal.SIGSTOP)
    with config.using(heartbeat_s=0.2), within(NOTICED_S):
        text = rf"cpu\({one.device_id}\) was lost: it does not answer; it was process"
        with pytest.raises(DeviceLostError, match=text):
            a.asnumpy()
    with pytest.raises(DeviceLostError, match="it does not answer"):
        a.asnumpy()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def test_a_device_that_waits_for_one_that_stops_answering(two):
    stopped, other = two
    a, b = mx.nd.zeros((2, 3), stopped), mx.nd.zeros((2, 3), other)
    b.wait_to_read()
    a.wait_to_read()
    kill(stopped, signal.SIGSTOP)
    a.copyto(b)
    with config.using(heartbeat_s=0.2), within(NOTICED_S * 2):
        with pytest.raises(DeviceLostError, match=rf"cpu\({stopped.device_id}\) was lost"):
            b.asnumpy()


def test_a_device_can_be_started_anew(one):
    a = mx.nd.zeros((2, 3), one)
    a.wait_to_read()
    before = pid_of(one)
    kill(one)
    runtime.restart(one)
    assert works(one) and pid_of(one) != before
    with pytest.raises(DeviceLostError, match=r"was shut down; its arrays are gone\.$"):
        a.asnumpy()


def test_a_device_that_does_not_start_in_time(one):
    with config.using(start_timeout_s=0.01), within(NOTICED_S):
        text = r"cpu\(\d+\) did not start within 0.01 s; free in the cluster: \{.*'CPU': "
        with pytest.raises(DeviceStartError, match=text):
            mx.nd.zeros((1,), one)
    assert works(one), "the next attempt is a new one"


def test_a_gpu_that_the_cluster_lacks():
    text = (r"gpu\(9\): there are 4 GPUs \(virtual\); use a smaller number, or emulate more with RAYMX_VIRTUAL_GPUS=10 "
            r"or raymx.init\(virtual_gpus=10\)\.")  # fmt: skip
    with pytest.raises(ContextError, match=text):
        mx.nd.zeros((1,), mx.gpu(9))


def test_a_message_that_a_device_cannot_read(two):
    """An operator that only this process knows. Nobody may wait for ever, on whatever device."""
    lost, other = two
    a, b, c = mx.nd.zeros((2, 3), lost), mx.nd.zeros((2, 3), other), mx.nd.zeros((2, 3), other)
    with faults.late_operator(), within(NOTICED_S):
        with together(a):
            mx.nd.invoke(make("_test_late"), (a,)).copyto(b)
            a.copyto(c)
        with pytest.raises(DeviceError, match=r"cpu\(\d+\) stopped: MXNetError: no operator is called '_test_late'"):
            a.asnumpy()
        for array in (b, c):
            with pytest.raises(DeviceLostError, match="was lost before its value was copied"):
                array.asnumpy()


def test_work_that_cannot_be_sent(one):
    a = mx.nd.zeros((2, 3), one)
    a._lane.push((device.GATHER, a._id, a._id, lambda: 0), (a._var,), (a._var,))
    with pytest.raises(DeviceError, match=r"cpu\(\d+\) was lost: its work could not be sent \(.*lambda"):
        a.asnumpy()


def enormous(context):
    """An array that no memory holds, and the line that asks for it."""
    return mx.nd.empty((1 << 50,), context)  # the user's line


def test_what_fails_on_a_device_names_operator_device_and_line(one):
    with pytest.raises(TaskError) as caught:
        enormous(one).asnumpy()
    text = str(caught.value)
    assert text.startswith(f"new on cpu({one.device_id}): MemoryError: Unable to allocate")
    assert_names_line(text, "# the user's line")
    assert isinstance(caught.value.__cause__, MemoryError)


def test_failures_spread_to_other_devices_and_are_raised_once(two):
    first, second = two
    bad = enormous(first)
    spread = [bad[:2].copyto(second) + 1, bad[:2].as_in_context(mx.cpu()) * 2]
    for array in spread:
        with pytest.raises(TaskError, match=rf"new on cpu\({first.device_id}\): MemoryError") as caught:
            array.wait_to_read()
        assert_names_line(str(caught.value), "# the user's line")
    mx.nd.waitall()
    for array in spread:
        array[:] = 3
        np.testing.assert_array_equal(array.asnumpy(), [3, 3])


def test_waitall_raises_a_failure_once(one):
    bad = enormous(one)
    with pytest.raises(TaskError, match="MemoryError"):
        mx.nd.waitall()
    mx.nd.waitall()
    with pytest.raises(TaskError, match="MemoryError"):
        bad[:1].asnumpy()


def assert_names_line(text: str, marker: str) -> None:
    """The error must name the line of a test file that bears this comment."""
    file, line = text.rsplit("(pushed at ", 1)[1].rstrip(").").rsplit(":", 1)
    with open(file) as source:
        assert marker in source.readlines()[int(line) - 1]
