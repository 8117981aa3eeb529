"""The tracker's promise: any order that it allows gives the results of running the tasks one by one."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymx.engine.tracker import Tracker
from raymx.errors import DependencyError


def test_readers_share_and_writers_wait():
    tracker = Tracker(check=True)
    assert tracker.add("write", (), ("x",))
    assert not tracker.add("read1", ("x",), ())
    assert not tracker.add("read2", ("x",), ("y",))
    assert not tracker.add("write2", (), ("x",))
    assert not tracker.add("read3", ("x",), ())
    assert tracker.done("write") == ["read1", "read2"]
    assert tracker.done("read2") == []
    assert tracker.done("read1") == ["write2"]
    assert tracker.done("write2") == ["read3"]
    assert tracker.done("read3") == []
    assert len(tracker) == 0


def test_unrelated_tasks_do_not_wait():
    tracker = Tracker(check=True)
    tracker.add("slow", (), ("x",))
    assert tracker.add("other", ("y",), ("z",))


def test_reading_and_writing_one_variable_is_writing():
    tracker = Tracker(check=True)
    assert tracker.add("a", ("x",), ("x",))
    assert not tracker.add("b", ("x",), ())
    assert tracker.done("a") == ["b"]


def test_state_of_idle_variables_is_dropped():
    tracker = Tracker(check=True)
    for number in range(100):
        tracker.add(number, (f"r{number}",), (f"w{number}",))
        tracker.done(number)
    assert tracker._variables == {}


def test_errors():
    tracker = Tracker()
    tracker.add("a", (), ("x",))
    with pytest.raises(DependencyError, match="'a' was added twice"):
        tracker.add("a")
    tracker.add("b", (), ("x",))
    with pytest.raises(DependencyError, match="'b' cannot be done: it has not started"):
        tracker.done("b")
    with pytest.raises(DependencyError, match="'c' cannot be done: it is unknown"):
        tracker.done("c")


_accesses = st.lists(
    st.tuples(st.sets(st.integers(0, 4), max_size=3), st.sets(st.integers(0, 4), max_size=2)), max_size=25
)


@given(_accesses, st.randoms(use_true_random=False))
def test_every_allowed_order_equals_serial_execution(accesses, chance: random.Random):
    tracker = Tracker(check=True)
    serial, cells = {}, {}
    for task, (reads, writes) in enumerate(accesses):
        _run(serial, task, reads, writes)
    running, position = [], 0
    while position < len(accesses) or running:
        if position < len(accesses) and (not running or chance.random() < 0.6):
            if tracker.add(position, *accesses[position]):
                running.append(position)
            position += 1
        else:
            task = running.pop(chance.randrange(len(running)))
            _run(cells, task, *accesses[task])
            running += tracker.done(task)
    assert cells == serial
    assert len(tracker) == 0, "a task never became ready"


def _run(cells, task, reads, writes):
    """A task whose outputs depend on everything that it reads: any wrong order shows."""
    value = (task, tuple(cells.get(v) for v in sorted(reads | writes)))
    for variable in writes:
        cells[variable] = hash(value)
