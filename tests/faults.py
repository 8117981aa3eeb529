"""Planned faults: code that runs in a device's process at a named point, and deadlines by which they are noticed."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import raymx as mx
from raymx import runtime
from raymx.actors import device
from raymx.ops.op import Op
from tests.graph.toys import registered

KILL = "__import__('os').kill(__import__('os').getpid(), 9)"
NOTICED_S = 5.0  # within which a kill -9 must be a named error
SCRIPT_TIMEOUT_S = 120
ROOT = Path(__file__).parents[1]


class When:
    """Something to index an array with, that runs `code` when a task of the device does so; `index` is what it then
    stands for, as an expression with `{}` for the value of the code."""

    def __init__(self, code: str, index: str = "{} and 0"):
        self.code = index.format(f"({code})")

    def __reduce__(self):
        return eval, (f"type('When', (), {{'__index__': lambda self: int({self.code})}})()",)


class WhenRead:
    """Something that runs `code` on the device as soon as its message is read there."""

    def __init__(self, code: str):
        self.code = code

    def __reduce__(self):
        return eval, (self.code,)


def plan(array, code: str) -> None:
    """Record a task that runs `code` on the array's device, reads the array and writes it."""
    array._lane.push((device.GATHER, array._id, array._id, When(code)), (array._var,), (array._var,))


def together(array):
    """What is recorded inside on the array's device is sent in one message, or later."""
    return array._lane._lock


def block(array, folder: Path) -> Path:
    """Record a task that never ends; a pipe that can be read once it has begun."""
    pipe = folder / f"begun-{array._id}"
    os.mkfifo(pipe)
    plan(array, f"open({str(pipe)!r}, 'w').write('x'), __import__('threading').Event().wait()")
    return pipe


@contextlib.contextmanager
def within(seconds: float):
    """Fail, wherever the test then is, if the block takes longer."""

    def late(*_):
        pytest.fail(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def kill(context, how=signal.SIGKILL) -> None:
    """Send a signal to the process of a device actor."""
    os.kill(pid_of(context), how)


def pid_of(context) -> int:
    """The process of a device, asked for when it started."""
    return context.lane.transport.about["pid"]


@contextlib.contextmanager
def once_begun(pipe: Path, act):
    """Call `act()` from another thread when the task of `block` has begun."""

    def work():
        pipe.read_text()
        act()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join(NOTICED_S)
    assert not thread.is_alive()


_numbers = itertools.count(100)


@contextlib.contextmanager
def actors(count: int):
    """Contexts of their own for a test that ends their processes."""
    contexts = [mx.cpu(next(_numbers)) for _ in range(count)]
    try:
        yield contexts
    finally:
        for context in contexts:
            runtime.restart(context)


class Late(Op):
    """Fails when it runs, not when it is called."""

    def infer_shape(self, data):
        return {"out": data}

    def forward(self, xp, data, *, out):
        raise ValueError("planned")


@contextlib.contextmanager
def late_operator():
    """Inside, an operator `_test_late` is known in this process."""
    with registered(_test_late=Late):
        yield
    mx.symbol._functions.pop("_test_late", None)


def run_script(code: str, **environment) -> subprocess.CompletedProcess:
    """Run code as a script of its own."""
    return run_python("-c", code, **environment)


def run_python(*arguments: str, **environment) -> subprocess.CompletedProcess:
    """Run an interpreter of its own."""
    return subprocess.run(
        [sys.executable, *arguments], env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, cwd=ROOT,
        capture_output=True, text=True, timeout=SCRIPT_TIMEOUT_S, check=False,
    )  # fmt: skip
