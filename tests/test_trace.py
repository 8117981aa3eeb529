"""RAYMX_TRACE: a row for each device, an event for each task, in the format that Perfetto reads."""

from __future__ import annotations

import json

import pytest

import raymx as mx
from raymx import config, runtime, trace
from raymx.ops.op import make
from tests import devices
from tests.faults import actors, late_operator, run_script


@pytest.fixture
def tracing(tmp_path):
    """A file to trace into, and nothing recorded yet."""
    trace.clear()
    with config.using(trace=str(tmp_path / "trace.json")):
        yield tmp_path / "trace.json"
    trace.clear()


def read(path) -> dict[str, list[dict]]:
    """The tasks of a trace by device, after a check that Chrome's format is kept."""
    loaded = json.loads(path.read_text())
    assert set(loaded) == {"traceEvents", "displayTimeUnit"}
    rows = {e["tid"]: e["args"]["name"] for e in loaded["traceEvents"] if e["ph"] == "M"}
    assert all(e["name"] == "thread_name" for e in loaded["traceEvents"] if e["ph"] == "M")
    tasks: dict[str, list[dict]] = {name: [] for name in rows.values()}
    for event in loaded["traceEvents"]:
        if event["ph"] != "M":
            assert (event["ph"], event["cat"], event["pid"]) == ("X", "task", 1)
            assert event["ts"] >= 0 and event["dur"] >= 0
            tasks[rows[event["tid"]]].append(event)
    return tasks


def names(events) -> list[str]:
    return [e["name"] for e in events]


def overlap(a: list[dict], b: list[dict]) -> float:
    """Microseconds in which a task of `a` and one of `b` ran at the same time."""

    def shared(x, y):
        return max(0.0, min(x["ts"] + x["dur"], y["ts"] + y["dur"]) - max(x["ts"], y["ts"]))

    return sum(shared(x, y) for x in a for y in b)


def test_rows_are_devices_and_events_are_in_order():
    trace.clear()
    trace.record("gpu(1)", [("dot", 5_000, 9_000), ("_plus", 3_000, 4_000)])
    trace.record("cpu(0)", [("dot", 1_000, 2_500)])
    assert trace.chrome() == [
        {"ph": "M", "pid": 1, "tid": 1, "name": "thread_name", "args": {"name": "cpu(0)"}},
        {"ph": "M", "pid": 1, "tid": 2, "name": "thread_name", "args": {"name": "gpu(1)"}},
        {"ph": "X", "pid": 1, "tid": 1, "name": "dot", "cat": "task", "ts": 0.0, "dur": 1.5},
        {"ph": "X", "pid": 1, "tid": 2, "name": "_plus", "cat": "task", "ts": 2.0, "dur": 1.0},
        {"ph": "X", "pid": 1, "tid": 2, "name": "dot", "cat": "task", "ts": 4.0, "dur": 4.0},
    ]
    trace.clear()
    assert trace.chrome() == []


def test_processes_have_rows_of_their_own():
    trace.clear()
    trace.record("cpu(0)", [("dot", 2_000, 3_000)])
    events = trace.taken()
    assert trace.taken() == []
    trace.adopt("worker 0", events)
    trace.adopt("worker 1", events)
    trace.record("cpu(0)", [("dot", 1_000, 2_000)])
    found = trace.chrome()
    trace.clear()
    assert [(e["pid"], e["args"]["name"]) for e in found if e["name"] == "process_name"] == [
        (1, "launcher"), (2, "worker 0"), (3, "worker 1"),
    ]  # fmt: skip
    assert [(e["pid"], e["tid"], e["args"]["name"]) for e in found if e["name"] == "thread_name"] == [
        (1, 1, "cpu(0)"), (2, 2, "cpu(0)"), (3, 3, "cpu(0)"),
    ]  # fmt: skip
    assert [(e["pid"], e["tid"], e["ts"]) for e in found if e["ph"] == "X"] == [(1, 1, 0.0), (2, 2, 1.0), (3, 3, 1.0)]


def test_what_ran_at_the_same_time_has_rows_of_the_same_name():
    """What ran within another thing does not: it is drawn below that."""
    trace.clear()
    trace.record("store", [("pull", 0, 4), ("push", 1, 2), ("pull again", 3, 6), ("after both", 6, 8)])
    found = trace.chrome()
    trace.clear()
    assert [e["args"]["name"] for e in found if e["ph"] == "M"] == ["store", "store"]
    assert {e["name"]: e["tid"] for e in found if e["ph"] == "X"} == {
        "pull": 1, "push": 1, "pull again": 2, "after both": 1,
    }  # fmt: skip


def test_a_span_is_recorded_only_if_recording_was_on_as_it_began(tmp_path):
    trace.clear()
    trace.end(trace.begin(), "store", "push")
    assert trace.taken() == []
    with config.using(trace=str(tmp_path / "trace.json")):
        began = trace.begin()
    trace.end(began, "store", "pull from shard %d", 1)
    (event,) = trace.taken()
    assert event[:4] == ("", "store", "pull from shard 1", began) and event.end >= began


def test_a_trace_is_written_whole_or_not_at_all(tmp_path):
    trace.clear()
    with pytest.raises(FileNotFoundError):
        trace.write(str(tmp_path / "missing" / "trace.json"))
    trace.write(str(tmp_path / "trace.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]
    assert read(tmp_path / "trace.json") == {}


def check_names(context, path) -> None:
    """Operators by name, other tasks in a word, programs with the names of their nodes inside."""
    a = mx.nd.ones((4, 4), context)
    mx.nd.dot(a, a)
    x = mx.sym.Variable("x")
    net = mx.sym.FullyConnected(x, name="fc1", num_hidden=3)
    net = mx.sym.Activation(net, name="relu1", act_type="relu")
    exe = net.simple_bind(context, x=(2, 4))
    exe.forward(is_train=True)
    exe.backward([mx.nd.ones((2, 3), context)])
    a[0:2].wait_to_read()
    mx.nd.waitall()
    trace.write()
    events = read(path)[str(context)]
    assert {"_set_value", "dot", "view", "sync", "fc1", "relu1"} < set(names(events))
    (forward,) = [e for e in events if e["name"] == "program forward"]
    inside = [e for e in events if e["name"] in ("fc1", "relu1") and overlap([forward], [e]) == pytest.approx(e["dur"])]
    assert names(inside) == ["fc1", "relu1"]
    assert "program backward" in names(events)


@pytest.mark.parametrize("engine", ["async", "naive"])
def test_tasks_bear_their_operators_names(tracing, engine):
    with config.using(engine=engine), devices.ordinary() as context:
        check_names(context, tracing)


@pytest.mark.ray
def test_tasks_on_actors_bear_their_operators_names(tracing):
    with actors(1) as (context,):
        check_names(context, tracing)


def test_a_task_that_fails_is_in_the_trace(tracing):
    with late_operator(), devices.ordinary() as context:
        a = mx.nd.invoke(make("_test_late"), (mx.nd.ones((2,), context),))
        with pytest.raises(mx.MXNetError, match="planned"):
            a.wait_to_read()
        mx.nd.waitall()
        trace.write()
        assert "_test_late" in names(read(tracing)[str(context)])


def test_nothing_is_recorded_unless_asked_for():
    trace.clear()
    with devices.ordinary() as context:
        mx.nd.ones((2,), context).wait_to_read()
        mx.nd.waitall()
    assert trace.chrome() == []


@pytest.mark.ray
def test_work_of_two_devices_overlaps(tracing):
    with actors(2) as contexts:
        arrays = [mx.nd.ones((1000, 1000), context) for context in contexts]
        mx.nd.waitall()  # both are there
        for array in arrays * 4:
            mx.nd.dot(array, array)
        mx.nd.waitall()
        trace.write()
        rows = read(tracing)
        first, second = ([e for e in rows[str(context)] if e["name"] == "dot"] for context in contexts)
        assert len(first) == len(second) == 4
        shorter = min(sum(e["dur"] for e in events) for events in (first, second))
        assert overlap(first, second) > shorter / 2
        assert overlap(first, first) == pytest.approx(sum(e["dur"] for e in first)), "a device does one thing at a time"


SCRIPT = """
import raymx as mx
from raymx import config
{setting}
a = mx.nd.ones((2,))
a += 1
a.wait_to_read()
b = a * 3
{ending}
"""


@pytest.mark.parametrize(
    ("setting", "ending", "status"),
    [
        ("", "", 0),
        ("config.set(trace={path!r})", "", 0),
        ("", "1 / 0", 1),
        ("", "mx.shutdown(); c = a * 4", 0),
        ("", "import sys; sys.exit(3)", 3),
    ],
)
def test_the_file_is_there_when_the_process_has_ended(tmp_path, setting, ending, status):
    path = tmp_path / "trace.json"
    environment = {} if setting else {"RAYMX_TRACE": str(path)}
    done = run_script(SCRIPT.format(setting=setting.format(path=str(path)), ending=ending), **environment)
    assert done.returncode == status
    assert {"_plus_scalar", "_mul_scalar"} < set(names(read(path)["cpu(0)"]))


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    path = tmp_path / "missing" / "trace.json"
    done = run_script("import raymx as mx; mx.nd.ones((2,)).wait_to_read()", RAYMX_TRACE=str(path))
    assert "FileNotFoundError" in done.stderr


def test_shutdown_ends_the_devices_even_if_the_trace_cannot_be_written(tmp_path, monkeypatch):
    with config.using(trace=str(tmp_path / "missing" / "trace.json")):
        left = []
        monkeypatch.setattr(runtime, "_leave", lambda: left.append(True))
        with pytest.raises(FileNotFoundError):
            runtime.shutdown()
    assert left == [True]
