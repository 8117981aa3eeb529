"""Workers from one call or from the command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import ray
from ray.util.placement_group import placement_group_table

import raymx as mx
from raymx import config, trace
from raymx.errors import ParameterError, PlacementError
from tests import conftest
from tests.faults import ROOT, SCRIPT_TIMEOUT_S

NO_CPUS = {"CPU": 0}
STOPPED_S = 15  # within which a job that is told to stop has ended, on a busy machine
SCRIPT = """
import logging
import sys
import raymx as mx

logging.basicConfig(level=logging.INFO)
kv = mx.kv.create("dist_sync")
kv.init(0, mx.nd.zeros((2,)))
kv.push(0, mx.nd.ones((2,)) * (kv.rank + 1))
out = mx.nd.zeros((2,))
kv.pull(0, out)
print("rank", kv.rank, "of", kv.num_workers, "got", out.asnumpy()[0], "with", sys.argv[1:])
logging.info("the same line")
"""
ENDLESS = """
import os, sys, threading
import raymx as mx

kv = mx.kv.create("dist_sync")
kv.init(0, mx.nd.zeros((2,)))
print("ready", os.getpid(), flush=True)
if kv.rank == 1:
    threading.Event().wait()
out = mx.nd.zeros((2,))
kv.push(0, out)
kv.pull(0, out)
out.asnumpy()
"""


def command(*arguments: str) -> tuple[list[str], dict]:
    """`python -m raymx launch` in the session's cluster, and how to run it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    options = {"env": environment, "cwd": ROOT, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return [sys.executable, "-m", "raymx", "launch", "--cpus", "0", *arguments], options


def run(*arguments: str) -> subprocess.CompletedProcess:
    words, options = command(*arguments)
    return subprocess.run(words, timeout=SCRIPT_TIMEOUT_S, check=False, **options)


@pytest.fixture
def script(tmp_path):
    """Writes a script; its path."""

    def write(text: str) -> str:
        (tmp_path / "script.py").write_text(text)
        return str(tmp_path / "script.py")

    return write


def kept_groups() -> list[str]:
    """The placement groups of launched jobs that are still there."""
    groups = placement_group_table().values()
    return [g["name"] for g in groups if g["name"].startswith("raymx-") and g["state"] != "REMOVED"]


def living(pids) -> list[int]:
    found = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            found.append(pid)
    return found


def eventually(empty) -> bool:
    """Whether a list is empty within the time that a cluster needs to clean up."""
    deadline = time.monotonic() + conftest.LEFTOVER_TIMEOUT_S
    while empty() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not empty()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"num_workers": 0}, r"launch: num_workers must be an integer of at least 1, got 0\."),
        ({"num_workers": 1, "num_servers": "2"}, r"launch: num_servers must be an integer of at least 1, got '2'\."),
        ({"num_workers": 1, "num_servers": 0}, r"launch: num_servers must be an integer of at least 1, got 0\."),
        ({"num_workers": 1, "replicas": 2}, r"launch: replicas must be 0 or 1, got 2\."),
        ({"num_workers": 1, "devices_per_worker": -1}, r"launch: devices_per_worker must be an integer of at least 0"),
        ({"num_workers": 1, "resources": {"CPU": "all"}}, r"launch: resources must be amounts by name, like .*'all'"),
    ],
)
def test_what_it_refuses(options, words):
    with pytest.raises(ParameterError, match=words):
        mx.launch(print, **options)


def test_a_function_or_a_script_is_needed():
    with pytest.raises(ParameterError, match=r"launch: there is no script '/nowhere/train\.py'\."):
        mx.launch("/nowhere/train.py", 1)
    with pytest.raises(ParameterError, match=r"launch: fn must be a function or the path of a script, got 3\."):
        mx.launch(3, 1)  # type: ignore[arg-type]


@pytest.mark.ray
def test_results_come_by_rank():
    def work(a, b):
        import raymx as mx

        return mx.kv.create("dist_sync").rank * a + b

    assert mx.launch(work, 3, num_servers=1, args=(10, 1), resources=NO_CPUS) == [1, 11, 21]


@pytest.mark.ray
def test_devices_are_each_worker_s_own():
    def work():
        import raymx as mx
        from raymx import runtime

        count = mx.num_gpus()
        pids = [runtime.device_pid(mx.gpu(i)) for i in range(count)]
        try:
            mx.nd.ones((1,), mx.gpu(count))
        except mx.MXNetError as error:
            return count, pids, str(error)

    found = mx.launch(work, 2, num_servers=1, devices_per_worker=2, resources=NO_CPUS)
    assert [count for count, _, _ in found] == [2, 2]
    assert len({pid for _, pids, _ in found for pid in pids}) == 4
    assert "gpu(2): there are 2 GPUs (virtual)" in found[0][2]


@pytest.mark.ray
def test_a_job_without_room_says_what_is_asked_and_what_is_free():
    words = r"launch: 2 of 2 workers wait for room: each takes 100 CPU, and the cluster has \d+ CPU left after 1 s"
    with config.using(start_timeout_s=1.0), pytest.raises(PlacementError, match=words):
        mx.launch(print, 2, num_servers=1, resources={"CPU": 100})
    with config.using(start_timeout_s=1.0), pytest.raises(PlacementError, match="takes 1 TPU, .* has 0 TPU left"):
        mx.launch(print, 1, resources={"TPU": 1})
    assert eventually(kept_groups), kept_groups()


@pytest.mark.ray
def test_nothing_stays_reserved_after_an_error():
    def work():
        raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck") as caught:
        mx.launch(work, 1, num_servers=1)
    assert caught.value.__notes__[-1] == "raised by worker 0"
    assert 'raise ValueError("no luck")' in caught.value.__notes__[0]
    assert eventually(kept_groups), kept_groups()


def traced(work, path) -> dict[str, dict[str, list[tuple[str, float, float]]]]:
    """A job of two workers and two shards, with a trace: process → row → (task, start, end)."""
    trace.clear()
    try:
        with config.using(trace=str(path)):
            mx.launch(work, 2, num_servers=2, devices_per_worker=1, resources=NO_CPUS)
    finally:
        trace.clear()
        events = json.loads(path.read_text())["traceEvents"]
    processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    rows = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    found: dict[str, dict[str, list]] = {name: {} for name in processes.values()}
    for e in events:
        if e["ph"] == "X":
            task = e["name"], e["ts"], e["ts"] + e["dur"]
            found[processes[e["pid"]]].setdefault(rows[e["tid"]], []).append(task)
    return found


def named(events, name: str) -> list[tuple[float, float]]:
    return [times for task, *times in events if task == name]


@pytest.mark.ray
def test_a_trace_shows_all_processes_of_a_job(tmp_path):
    def work():
        import raymx as mx

        kv = mx.kv.create("dist_sync")
        out = mx.nd.zeros((2,), mx.gpu(0))
        kv.init([0, 1], [out, out])  # a key on each shard
        for _ in range(2):
            kv.push([0, 1], [out, out])
            kv.pull([0, 1], [out, out])
            out.wait_to_read()

    found = traced(work, tmp_path / "trace.json")
    shards = ["shard 0 of 2", "shard 0 of 2, replica", "shard 1 of 2", "shard 1 of 2, replica"]
    assert list(found) == ["launcher", *shards, "worker 0", "worker 1"]
    assert named(found["launcher"]["job"], "launch")
    stores = [found[f"worker {rank}"]["store"] for rank in (0, 1)]
    for rank, store in enumerate(stores):
        assert "gpu(0)" in found[f"worker {rank}"] and named(store, "barrier")
        assert len(named(store, "push")) >= 2
    for number in (0, 1):
        shard, replica = found[f"shard {number} of 2"], found[f"shard {number} of 2, replica"]
        applied = named(shard["events"], "apply round")
        assert len(applied) == len(named(replica["events"], "apply round")) == 2
        assert len(named(replica["events"], "follow push")) == 4
        for rank, store in enumerate(stores):
            assert len(named(shard["events"], f"receive push of worker {rank}")) == 2
            pulls = named(store, f"pull from shard {number}")
            assert len(pulls) == len(named(shard["pulls"], f"answer pull of worker {rank}")) == 2
            for i, (start, end) in enumerate(applied):
                assert named(store, "push")[i][0] < start < end < pulls[i][1]


@pytest.mark.ray
def test_a_job_that_fails_leaves_a_trace(tmp_path):
    def work():
        import raymx as mx

        kv = mx.kv.create("dist_sync")
        kv.init(0, mx.nd.zeros((2,)))
        kv.push(0, mx.nd.ones((2,)))
        kv.barrier()
        if kv.rank == 1:
            raise ValueError("no luck")
        kv.barrier()

    path = tmp_path / "trace.json"
    with pytest.raises(ValueError, match="no luck"):
        traced(work, path)
    assert {"launcher", "shard 0 of 2", "worker 1"} <= set(path.read_text().split('"'))


@pytest.mark.ray
def test_an_unchanged_script_from_the_command_line(script):
    done = run("-n", "2", "-s", "1", script(SCRIPT), "--lr", "0.1")
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        line = next(x for x in done.stdout.splitlines() if f"rank {rank} of 2" in x)
        assert "got 3.0 with ['--lr', '0.1']" in line and f"(worker {rank} pid=" in line
        assert any(f"(worker {rank} " in x and "the same line" in x for x in done.stderr.splitlines())


@pytest.mark.ray
def test_a_script_that_fails_says_where(script):
    path = script("import raymx as mx\nif mx.kv.create('dist_sync').rank == 1:\n    raise ValueError('no luck')\n")
    done = run("-n", "2", "-s", "1", path)
    assert done.returncode == 1
    told = done.stderr[done.stderr.index("Traceback of worker 1") :].splitlines()
    assert told == [
        "Traceback of worker 1 (most recent call last):",
        f'  File "{path}", line 3, in <module>',
        "    raise ValueError('no luck')",
        "raymx launch: ValueError: no luck (raised by worker 1)",
    ]


@pytest.mark.ray
def test_a_script_that_ends_with_a_status_of_its_own(script):
    done = run("-n", "1", script("import sys\nsys.exit(3)\n"))
    assert done.returncode == 1 and "script.py ended with status 3. (raised by worker 0)" in done.stderr


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything(script, number):
    segments = conftest._segments()
    words, options = command("-n", "2", "-s", "2", "--cpus", "1", script(ENDLESS))
    with subprocess.Popen(words, **options) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            ready = [int(process.stdout.readline().split("ready ")[1]) for _ in range(2)]
            process.send_signal(number)
            assert process.wait(STOPPED_S) == 128 + number
            assert "raymx launch: stopped" in process.stderr.read()
        finally:
            process.kill()
    assert eventually(lambda: living(ready)), living(ready)
    assert eventually(kept_groups), kept_groups()
    assert conftest._segments() == segments


def test_what_the_command_refuses(capsys):
    from raymx.__main__ import main

    assert main(["launch", "-n", "1", "/nowhere/train.py"]) == 1
    assert "raymx launch: launch: there is no script '/nowhere/train.py'." in capsys.readouterr().err
    assert main(["launch", "-n", "0", __file__]) == 1
    assert "num_workers must be an integer of at least 1, got 0." in capsys.readouterr().err
    for arguments in (["-n", "1", "--server", "2", "x.py"], ["-n", "1"], ["-n", "1", "--resource", "CPU", "x.py"]):
        with pytest.raises(SystemExit) as ended:
            main(["launch", *arguments])
        assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "required: script" in told and "argument --resource: invalid" in told
