"""The life of a process that uses devices: threads, forks, shutdown, and its end, good or bad. Mostly scripts."""

import gc
import os
import re
import threading
import time
import uuid

import numpy as np
import pytest

import raymx as mx
from raymx import runtime
from raymx.errors import DeviceError
from tests import devices, test_trace
from tests.conftest import LEFTOVER_TIMEOUT_S, MARK, _processes
from tests.faults import actors, run_script

DEADLINE_S = 60


def lines(done) -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# ---- threads ----


def in_threads(*functions) -> None:
    """Run functions at the same time; raise what one of them raised."""
    barrier, errors = threading.Barrier(len(functions)), []

    def work(function):
        barrier.wait(DEADLINE_S)
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f,), daemon=True) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def threads_on(contexts) -> None:
    """Each thread has arrays of its own, one they all copy from, and reads, waits and copies in between."""
    shared = mx.nd.ones((3,), contexts[0])
    count = 2000

    def work(context):
        own = mx.nd.zeros((3,), context)
        for step in range(count):
            own += 1
            if step % 500 == 0:
                np.testing.assert_array_equal(own.asnumpy(), [step + 1] * 3)
            if step % 700 == 0:
                mx.nd.waitall()
            if step % 100 == 0:
                own += shared.as_in_context(context)
                own -= 1
        np.testing.assert_array_equal(own.asnumpy(), [count] * 3)

    in_threads(*(lambda c=c: work(c) for c in contexts))


def test_threads_on_this_process():
    threads_on([mx.cpu(0)] * 3)


def test_threads_on_several_devices():
    with devices.in_this_process(seed=1):
        threads_on([mx.cpu(0), mx.cpu(1), mx.cpu(3), mx.cpu(1)])


@pytest.mark.ray
def test_threads_on_actors():
    threads_on([mx.gpu(0), mx.gpu(0), mx.gpu(1), mx.cpu(0)])


def test_threads_that_start_a_device_at_once_draw_from_one_stream():
    """Seeding is part of starting a device: it may not fall between the draws of another thread."""

    def draw(found):
        found.extend(mx.random.uniform(0, 1, (50,), mx.cpu(1)).asnumpy().tolist())

    draws = []
    for functions in ([draw], [draw] * 4):
        runtime.seed(7)
        found = []
        with devices.in_this_process():
            in_threads(*(lambda f=f, found=found: f(found) for f in functions))
        draws.append(found)
    assert len(set(draws[1])) == 200
    assert set(draws[0]) < set(draws[1])


def test_devices_that_work_at_the_same_time_divide_the_cores_of_their_node():
    with devices.in_this_process():
        told = {}
        for context in (mx.cpu(0), mx.cpu(1)):
            mx.nd.zeros((1,), context).wait_to_read()  # it has begun
            runner = context.lane.transport._host.runner
            runner.use_threads = lambda sharers, name=runner.name: told.setdefault(name, []).append(sharers)
        for contexts in ([mx.cpu(0)], [mx.cpu(0), mx.cpu(1)], [mx.cpu(0), mx.cpu(1)], [mx.cpu(0)]):
            runtime.share_cores(contexts)
        mx.nd.waitall()
    assert told == {"cpu(0)": [2, 1], "cpu(1)": [2]}


# ---- forks ----

FORK = """
import os, raymx as mx
from raymx.errors import MXNetError
x, y = mx.sym.Variable("x"), mx.sym.Variable("y")
old = mx.nd.ones((2,))
old += 1
old.wait_to_read()
child = os.fork()
if child == 0:
    try:
        old.asnumpy()
    except MXNetError as error:
        print("old:", error, flush=True)
    arrays = [mx.nd.ones((2,)) * n for n in range(50)]  # numbers of programs may not meet those of arrays
    for array in arrays:
        exe = (x + y).bind(mx.cpu(), {"x": array, "y": array})
        assert (exe.forward()[0].asnumpy() == 2 * array.asnumpy()).all()
        del exe
    mx.nd.waitall()
    print("child:", sum(float(a.asnumpy()[0]) for a in arrays), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
old += 1
print("parent:", old.asnumpy().tolist())
"""


def test_a_child_process_begins_afresh():
    assert lines(run_script(FORK)) == [
        "old: this array belongs to the parent process; create arrays after the fork.",
        "child: 1225.0",
        "parent: [3.0, 3.0]",
    ]


# ---- the end of a process ----


@pytest.mark.parametrize(
    "code",
    [
        "a = mx.nd.ones((3,)); b = a[1:] + 1",
        "a = mx.nd.ones((3,)); a += 1; keep = [a, lambda: a]; keep.append(keep)",
        "a = mx.nd.ones((700, 700))\nfor _ in range(200): a = mx.nd.dot(a, a)",
        "x = mx.sym.Variable('x'); exe = (x + 1).simple_bind(mx.cpu(), x=(3,)); exe.forward()",
        "import threading; threading.Thread(target=mx.nd.ones((3,)).asnumpy, daemon=True).start()",
        "import atexit; a = mx.nd.ones((3,)); atexit.register(lambda: mx.nd.waitall())",
    ],
)
def test_the_end_is_silent(code):
    done = run_script(f"import raymx as mx\n{code}\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_script_that_fails_says_only_that():
    done = run_script("import raymx as mx\na = mx.nd.ones((700, 700))\nfor _ in range(99): a = mx.nd.dot(a, a)\n1 / 0")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert done.stderr.count("Traceback") == 1


LOST = """
import os, raymx as mx
mx.init(address="local", num_cpus=4, log_to_driver=False)
a, b = mx.nd.zeros((1000, 1000), mx.cpu(1)), mx.nd.zeros((1000, 1000), mx.cpu(2))
a.copyto(b)
b.wait_to_read()
b *= 3
os.kill(mx.runtime.device_pid(mx.cpu(1)), 9)
while True:
    a += 1
"""


@pytest.mark.ray
def test_a_script_that_loses_its_device_ends_cleanly(tmp_path):
    """With a trace of what was done until then, on the device that was lost and on the others."""
    mark, trace = uuid.uuid4().hex, tmp_path / "trace.json"
    done = run_script(LOST, **{MARK: mark}, RAYMX_TRACE=str(trace))
    assert done.returncode == 1
    last = done.stderr.rstrip().splitlines()[-1]
    assert last.startswith("raymx.errors.DeviceLostError: cpu(1) was lost: its process ended (ActorDiedError)"), last
    assert 'File "<string>", line 10, in <module>' in done.stderr
    rows = test_trace.read(trace)
    assert test_trace.names(rows["cpu(2)"])[-1] == "_mul_scalar"
    assert "export" in test_trace.names(rows["cpu(1)"])
    deadline = time.monotonic() + LEFTOVER_TIMEOUT_S
    while (left := _processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, "processes, and with them their shared memory, are left"


LIFE = """
import os, ray, raymx as mx
from raymx import runtime
from raymx.errors import MXNetError

def error(function):
    try:
        function()
    except MXNetError as e:
        return f"{type(e).__name__}: {e}"

mx.init(address="local", virtual_gpus=2, num_cpus=4, log_to_driver=False)
a, here = mx.nd.ones((2,), mx.gpu(0)), mx.nd.ones((2,))
a += 1
print("value:", a.asnumpy().tolist())

child = os.fork()
if child == 0:
    print("child:", error(lambda: mx.nd.ones((2,), mx.gpu(1))), flush=True)
    print("child here:", mx.nd.ones((2,)).asnumpy().tolist(), flush=True)
    os._exit(0)
os.waitpid(child, 0)

with a._lane._lock:  # nothing is sent
    late = mx.nd.zeros((2,))
    late._lane.arrive(late._id, late._var, runtime.cluster.Remote("gpu(0)", a._lane.transport.actor.watch.remote()))
value = mx.ndarray.fetch([a])[0]
mx.shutdown()
print("ray:", ray.is_initialized())
print("shut down:", error(a.asnumpy))
print("under way:", error(value.result))
print("awaited:", error(late.asnumpy))
print("here:", here.asnumpy().tolist(), error(mx.nd.waitall), ray.is_initialized())

mx.init(address="local", virtual_gpus=2, num_cpus=4, log_to_driver=False)
b = mx.nd.ones((2,), mx.gpu(0))
print("again:", b.asnumpy().tolist())
b += 1
ray.shutdown()
print("ray gone:", error(b.asnumpy), error(b.asnumpy) == error(b.asnumpy), ray.is_initialized())
"""


@pytest.mark.ray
def test_the_life_of_a_script():
    found = dict(line.split(": ", 1) for line in lines(run_script(LIFE)))
    awaited = found.pop("awaited")  # whichever is heard of first: the shutdown, or the end of the actor
    assert re.match(r"DeviceLostError: (raymx was shut down|gpu\(0\) was lost) before .* value was copied", awaited)
    assert found == {
        "value": "[2.0, 2.0]",
        "child": "DeviceError: device actors cannot be used in a process that was forked from one that uses Ray; start "
        "it afresh instead, as multiprocessing.get_context('spawn') does.",
        "child here": "[1.0, 1.0]",
        "ray": "False",
        "shut down": "DeviceLostError: gpu(0) was shut down; its arrays are gone.",
        "under way": "DeviceLostError: gpu(0) was shut down; its arrays are gone.",
        "here": "[1.0, 1.0] None False",
        "again": "[1.0, 1.0]",
        "ray gone": found["ray gone"],
    }
    assert found["ray gone"].startswith("DeviceLostError: gpu(0) was lost: Ray was shut down; it was process ")
    assert found["ray gone"].endswith(" True False")


# ---- looking at a device ----


def test_what_this_process_says_of_itself():
    about = runtime.describe(mx.cpu())
    assert about["pid"] == os.getpid() == runtime.device_pid(mx.cpu(0))
    assert {"arrays", "programs", "messages"} < set(about)


@pytest.mark.ray
def test_what_an_actor_says_of_itself():
    about = runtime.describe(mx.gpu(0))
    assert about["pid"] != os.getpid()
    assert (about["pid"], about["node"]) == tuple(mx.gpu(0).lane.transport.about[key] for key in ("pid", "node"))


def check_no_leak(context) -> None:
    """Many tasks and arrays leave nothing behind, here or there."""
    s = mx.nd.ones((2, 3), context)
    x = mx.sym.Variable("x")

    def use():
        nonlocal s
        for _ in range(20000):
            s += 1
        for _ in range(2000):
            s = s + 1
            s[0:1] *= 0.5
        exe = (x + x).bind(context, {"x": s})
        exe.forward()
        mx.nd.waitall()

    def settled():
        gc.collect()  # what earlier tests left in cycles
        s._lane.send()  # what was freed, too
        mx.nd.waitall()
        return runtime.describe(context)

    use()
    before, failed = settled(), dict(s._lane.failed)  # those of other tests
    use()
    assert settled() == before
    lane = s._lane
    assert not (lane._open or lane._closed or lane._inflight or lane._unraised) and lane.failed == failed


def test_nothing_is_left_of_many_tasks():
    check_no_leak(mx.cpu())


@pytest.mark.ray
def test_nothing_is_left_of_many_tasks_on_an_actor():
    with actors(1) as (context,):
        check_no_leak(context)


def check_bounded(context) -> None:
    s = mx.nd.ones((2, 3), context)
    lane, most = s._lane, 0
    for _ in range(50000):
        s += 1
        most = max(most, len(lane._inflight))
    assert 0 < most <= lane._bound
    assert s.asnumpy()[0, 0] == 50001


def test_a_fast_loop_is_slowed_down():
    check_bounded(mx.cpu())


@pytest.mark.ray
def test_a_fast_loop_on_an_actor_is_slowed_down():
    with actors(1) as (context,):
        check_bounded(context)


# ---- a new beginning ----


def test_this_device_can_be_started_anew():
    with devices.ordinary() as context:
        a = mx.nd.ones((2,), context)
        a._lane.transport._host.fail(SystemError("planned"))
        for _ in range(2):
            with pytest.raises(DeviceError, match=r"cpu\(\d+\) stopped: SystemError: planned\. Its arrays are gone"):
                a.asnumpy()
        runtime.restart(context)
        assert mx.nd.ones((2,), context).asnumpy().tolist() == [1, 1]
