"""Contexts: names of devices, and the default one of a thread."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest

import raymx as mx
from raymx.errors import ContextError
from tests import devices


def test_names():
    assert str(mx.cpu()) == repr(mx.cpu(0)) == "cpu(0)"
    assert str(mx.gpu(3)) == "gpu(3)" and str(mx.cpu_pinned()) == "cpu_pinned(0)"
    assert (mx.gpu(3).device_type, mx.gpu(3).device_id, mx.gpu(3).device_typeid) == ("gpu", 3, 2)
    assert [mx.Context(name).device_typeid for name in ("cpu", "gpu", "cpu_pinned")] == [1, 2, 3]
    assert mx.Context(mx.gpu(2)) == mx.gpu(2)


def test_equal_by_type_and_number():
    assert mx.cpu(1) == mx.Context("cpu", 1) and mx.cpu(1) != mx.cpu(2) and mx.cpu(1) != mx.gpu(1)
    assert mx.cpu(0) != "cpu(0)"
    assert len({mx.cpu(1), mx.cpu(1), mx.gpu(1), mx.cpu(0)}) == 3


def test_survives_copies_and_pickles():
    for each in (mx.cpu(1), mx.gpu(2), mx.cpu_pinned(0)):
        assert pickle.loads(pickle.dumps(each)) == copy.deepcopy(each) == copy.copy(each) == each


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: mx.Context("tpu"), r"Context: device_type must be 'cpu', 'gpu' or 'cpu_pinned', got 'tpu'\."),
        (lambda: mx.Context(1), "got 1"),
        (lambda: mx.cpu(-1), r"Context: device_id must be at least 0, got -1\."),
        (lambda: mx.gpu(1.5), r"Context: device_id must be an integer, got 1\.5\."),
        (lambda: mx.gpu("0"), r"Context: device_id must be an integer, got '0'\."),
    ],
)
def test_refusals(call, text):
    with pytest.raises(ContextError, match=text):
        call()


def test_the_default_is_that_of_the_innermost_with():
    assert mx.current_context() == mx.Context.default_ctx == mx.cpu(0)
    with mx.gpu(1) as outer:
        assert mx.current_context() is outer
        with mx.cpu(2), mx.gpu(0):
            assert mx.current_context() == mx.Context.default_ctx == mx.gpu(0)
        with pytest.raises(ZeroDivisionError), mx.cpu(3):
            1 / 0  # noqa: B018
        assert mx.current_context() == mx.gpu(1)
    assert mx.current_context() == mx.cpu(0)


def test_one_context_may_be_entered_twice():
    twice = mx.gpu(1)
    with twice, mx.cpu(5), twice:
        assert mx.current_context() is twice
    assert mx.current_context() == mx.cpu(0)


def test_the_default_may_be_set():
    mx.Context.default_ctx = mx.cpu(3)
    try:
        assert mx.current_context() == mx.cpu(3)
        with mx.gpu(0):
            assert mx.current_context() == mx.gpu(0)
        assert mx.current_context() == mx.cpu(3)
    finally:
        mx.Context.default_ctx = mx.cpu(0)


def test_threads_have_defaults_of_their_own():
    """Two threads are within one context object at the same time and leave in the order in which they came."""
    shared, steps, seen = mx.gpu(1), [threading.Event() for _ in range(3)], []

    def other():
        with mx.cpu(7):
            with shared:
                steps[0].set()
                steps[1].wait(10)
            seen.append(mx.current_context())
        seen.append(mx.current_context())
        steps[2].set()

    thread = threading.Thread(target=other)
    thread.start()
    steps[0].wait(10)
    with mx.cpu(8):
        with shared:
            assert mx.current_context() is shared
            steps[1].set()
            steps[2].wait(10)
        assert mx.current_context() == mx.cpu(8)
    thread.join()
    assert seen == [mx.cpu(7), mx.cpu(0)]
    assert mx.current_context() == mx.cpu(0)


def test_naming_a_device_starts_nothing():
    with devices.in_this_process():
        before = set(mx.runtime.engine.lanes)
        with mx.gpu(2):
            mx.cpu(3)
        assert set(mx.runtime.engine.lanes) == before
        assert mx.gpu(2).lane is mx.gpu(2).lane
        assert set(mx.runtime.engine.lanes) == before | {"gpu(2)"}


def test_pinned_memory_is_the_cpus():
    assert mx.cpu_pinned().lane is mx.cpu().lane
    x = mx.nd.ones(2, mx.cpu_pinned())
    assert (x + mx.nd.ones(2)).asnumpy().tolist() == [2, 2]
