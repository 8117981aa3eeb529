"""RAYMX_ENGINE=naive, RAYMX_DEBUG, RAYMX_CHECK: what one can see inside, and how."""

from __future__ import annotations

import re
import traceback

import pytest

import raymx as mx
from raymx import config, runtime
from raymx.errors import DeviceTimeoutError, TaskError
from raymx.ops.op import make
from tests import devices
from tests.faults import actors, late_operator, run_script


def late(array):
    """What an operator that fails when it runs makes of an array."""
    return mx.nd.invoke(make("_test_late"), (array,))  # the user's line


def late_executor(context):
    net = mx.sym.Variable("x") * 2
    net = mx.symbol.create(late_class(), "bad", (net,), {}, "bad")
    return net.simple_bind(context, x=(2, 3))


def late_class():
    return type(make("_test_late"))


@pytest.fixture
def operator():
    with late_operator():
        yield


# ---- the engine `async`: errors come later, and say where they come from ----


@pytest.fixture
def context(operator):
    with devices.ordinary() as context:
        yield context


def test_an_operator_that_fails_is_told_where_its_value_is_read(context):
    bad = late(mx.nd.ones((2, 3), context))
    after = bad + 1
    with pytest.raises(TaskError) as caught:
        after.asnumpy()
    assert str(caught.value).startswith("_test_late on cpu(1) with inputs (2, 3): ValueError: planned (pushed at ")
    assert_names_line(caught.value)
    cause = caught.value.__cause__
    assert isinstance(cause, ValueError) and cause.__traceback__ is None
    assert re.match(r'On cpu\(1\):\n  File ".*faults.py", line \d+, in forward\n', cause.__notes__[0])
    mx.nd.waitall()


def test_the_user_s_line_is_found_through_functions_of_raymx(context):
    column, row = mx.nd.empty((1 << 24, 1), context, "int8"), mx.nd.empty((1, 1 << 24), context, "int8")
    enormous = mx.nd.dot(column, row)  # the user's line
    with pytest.raises(TaskError, match=r"on cpu\(1\).*: MemoryError: Unable to allocate 256. TiB") as caught:
        enormous.wait_to_read()
    assert_names_line(caught.value)


def test_an_executor_names_the_node_that_failed(context):
    exe = late_executor(context)
    exe.forward()  # the user's line
    with pytest.raises(TaskError) as caught:
        exe.outputs[0].asnumpy()
    text = "program forward on cpu(1): _test_late 'bad' with inputs (2, 3): ValueError: planned (pushed at "
    assert str(caught.value).startswith(text)
    assert_names_line(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)


def test_waitall_raises_a_failure_once_and_arrays_work_again_when_overwritten(context):
    a = mx.nd.ones((4,), context)
    bad = late(a)
    part = bad[1:3]
    with pytest.raises(TaskError, match="planned"):
        mx.nd.waitall()
    mx.nd.waitall()
    part[:] = 1  # not the whole
    with pytest.raises(TaskError, match="planned"):
        bad.asnumpy()
    for value in (7, a * 7, (a * 7).as_in_context(mx.cpu(0)), [7, 7, 7, 7]):
        bad = late(a)
        view = bad[1:3]
        bad[:] = value
        assert bad.asnumpy().tolist() == [7] * 4
        assert view.asnumpy().tolist() == [7] * 2
    with pytest.raises(TaskError, match="planned"):
        mx.nd.waitall()


def test_what_is_built_on_an_array_that_never_was_fails_for_its_reason(context):
    """An array without memory: views of it, gathers into it and parts written to it are no failures of their own."""
    bad = mx.nd.empty((1 << 50,), context, "uint8")
    view = bad[2:5]
    bad[[1, 2]] = 3
    view[:] = 1
    for array in (view, bad[0:1], bad[[0, 1]], view + 1):
        with pytest.raises(TaskError, match=r"^new on cpu\(1\): MemoryError"):
            array.asnumpy()
    mx.nd.waitall()


def test_failures_spread_across_devices(operator):
    with devices.in_this_process(seed=3):
        bad = late(mx.nd.ones((2, 3), mx.cpu(1)))
        far = bad.copyto(mx.cpu(3)) + 1
        with pytest.raises(TaskError, match=r"_test_late on cpu\(1\)") as caught:
            far.asnumpy()
        assert_names_line(caught.value)
        mx.nd.waitall()


def assert_names_line(error: TaskError) -> None:
    file, line = str(error).rsplit("(pushed at ", 1)[1].rstrip(").").rsplit(":", 1)
    with open(file) as source:
        assert "# the user's line" in source.readlines()[int(line) - 1]


# ---- the engine `naive`: errors come at once ----


@pytest.fixture
def naive(operator):
    with config.using(engine="naive"), devices.ordinary() as context:
        yield context


def test_naive_raises_at_the_call_with_the_operator_s_own_traceback(naive):
    a = mx.nd.ones((2, 3), naive)
    with pytest.raises(ValueError, match="planned") as caught:
        late(a)
    functions = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert functions[0] == "test_naive_raises_at_the_call_with_the_operator_s_own_traceback"
    assert functions[-1] == "forward"
    assert (a + 1).asnumpy().sum() == 12, "the device goes on"
    mx.nd.waitall()


def test_naive_names_the_node_of_an_executor_and_goes_on(naive):
    exe = late_executor(naive)
    for _ in range(2):
        with pytest.raises(TaskError, match=r"_test_late 'bad' with inputs \(2, 3\): ValueError: planned") as caught:
            exe.forward()
        assert caught.value.__cause__.__traceback__ is not None
    assert mx.nd.ones((2,), naive).asnumpy().sum() == 2


def test_naive_runs_what_async_runs(naive):
    a = mx.nd.ones((2, 3), naive)
    a += 1
    a[1:] *= 3
    x = mx.sym.Variable("x")
    exe = (x * x).bind(naive, {"x": a}, {"x": mx.nd.zeros((2, 3), naive)})
    exe.forward(is_train=True)
    exe.backward([mx.nd.ones((2, 3), naive)])
    assert exe.outputs[0].asnumpy().tolist() == [[4] * 3, [36] * 3]
    assert exe.grad_dict["x"].asnumpy().tolist() == [[4] * 3, [12] * 3]
    assert a.copyto(mx.cpu(0)).asnumpy().tolist() == [[2] * 3, [6] * 3]
    about = runtime.describe(naive)
    assert about["arrays"] > 0 and about["programs"] == 1


def test_naive_values_of_other_devices_have_a_deadline(naive):
    class Never:
        def future(self):
            return self

        def add_done_callback(self, callback):
            pass

    a = mx.nd.ones((2,), naive)
    text = r"cpu\(1\): a value of another device has not come within 0.01 s; raise the switch timeout_s"
    with config.using(timeout_s=0.01), pytest.raises(DeviceTimeoutError, match=text):
        a._lane.arrive(a._id, a._var, runtime.local.transfer.Remote("gpu(5)", Never()))
    assert a.asnumpy().sum() == 2


def test_a_device_keeps_the_mode_that_it_was_made_with(operator):
    with devices.ordinary() as context:
        a = mx.nd.ones((2,), context)
        with config.using(engine="naive"):
            late(a)
            with pytest.raises(TaskError, match="planned"):
                mx.nd.waitall()
            runtime.restart(context)
            a = mx.nd.ones((2,), context)
            with pytest.raises(ValueError, match="planned"):
                late(a)


@pytest.mark.ray
def test_naive_on_an_actor_raises_at_the_call():
    with config.using(engine="naive"), actors(1) as (context,):
        with pytest.raises(TaskError, match=r"new on cpu\(\d+\): MemoryError"):
            mx.nd.empty((1 << 50,), context)
        a = mx.nd.ones((2,), context)
        a += 1
        assert not a._lane._inflight
        assert a.asnumpy().sum() == 4


# ---- what is printed, and what is checked ----

PLAIN = """
import raymx as mx
a = mx.nd.ones((2, 3))
a += 1
a.wait_to_read()
b = mx.nd.array([1, 2])
mx.nd.waitall()
"""


def stderr_of(**environment) -> str:
    done = run_script(PLAIN, **environment)
    assert (done.returncode, done.stdout) == (0, "")
    return done.stderr


def test_nothing_is_printed_unless_asked_for():
    assert stderr_of(RAYMX_DEBUG="0") == ""


def test_debug_1_prints_a_line_per_message():
    for line in stderr_of(RAYMX_DEBUG="1").splitlines():
        assert re.fullmatch(r"\[raymx\] cpu\(0\) message \d+: \d+ tasks in \d+ segments, \d+ under way", line)


def test_debug_2_prints_a_line_per_task_too():
    lines = stderr_of(RAYMX_DEBUG="2").splitlines()
    tasks = [line for line in lines if " message " not in line]
    assert len(lines) > len(tasks)
    shown = "\n".join(tasks)
    for words in ("new ", "_set_value(src=1)", "_plus_scalar(scalar=1", "put "):
        assert f"[raymx] cpu(0) {words}" in shown or f"[raymx] cpu(0) ({words}" in shown, words


def test_check_finds_a_tracker_that_lost_its_way():
    broken = PLAIN.replace("a += 1", """
from raymx import runtime
from raymx.engine.tracker import _Variable
tracker = runtime.engine.lanes["cpu(0)"].transport._host._tracker
tracker._variables["nobody's"] = _Variable()
a += 1""")  # fmt: skip
    assert run_script(broken, RAYMX_CHECK="0").returncode == 0
    done = run_script(broken, RAYMX_CHECK="1")
    assert done.returncode == 1
    text = "cpu(0) stopped: AssertionError: variable \"nobody's\" is kept but nobody runs on it. Its arrays are gone"
    assert done.stderr.rstrip().splitlines()[-1].startswith(f"raymx.errors.DeviceError: {text}")
