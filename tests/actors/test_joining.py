"""Updates of arrays that lie side by side run as one, with the same bits; others run one by one."""

from __future__ import annotations

import numpy as np
import pytest

from raymx.actors.device import NEW, VIEW, DeviceRunner
from raymx.actors.joining import joined, side_by_side
from raymx.ops.op import make

SGD = make("sgd_mom_update", lr=0.1, momentum=0.9, wd=0.01)


def test_what_lies_side_by_side():
    flat = np.arange(12.0)
    both = side_by_side([flat[:4].reshape(2, 2), flat[4:9]])
    assert both.tolist() == flat[:9].tolist() and np.shares_memory(both, flat)


@pytest.mark.parametrize("parts", [
    lambda f: [f[:4], f[5:8]], lambda f: [f[4:8], f[:4]], lambda f: [f[:4], np.zeros(3)], lambda f: [f[:4:2], f[4:6]],
    lambda f: [f[:4], f[4:8].view("int64")],
])  # fmt: skip
def test_what_does_not(parts):
    assert side_by_side(parts(np.arange(12.0))) is None


def runner(gap: int):
    """A device with three arenas of 8 + gap elements, each with windows of 3 and 5 elements."""
    device, rng = DeviceRunner("cpu(0)"), np.random.default_rng(1)
    for arena in range(3):
        device.run([(NEW, arena, (8 + gap,), np.dtype("float32"))], 0, 0, [])
        device.arrays[arena][:] = rng.normal(size=8 + gap)
        for k, (start, size) in enumerate([(0, 3), (3 + gap, 5)]):
            device.run([(VIEW, 10 * arena + 10 + k, arena, (size,), (4,), 4 * start)], 0, 0, [])
    return device


TASKS = [(SGD, (10 + k,), (10 + k, 20 + k, 30 + k)) for k in (0, 1)]


@pytest.mark.parametrize("gap, together", [(0, True), (1, False)])
def test_joined_updates_have_the_same_bits(gap, together):
    one, by_one = runner(gap), runner(gap)
    assert (joined(TASKS, one.arrays) is not None) is together
    for _ in range(4):
        assert one.run(TASKS, 0, 0, []) == []
        for task in TASKS:
            by_one.run([task], 0, 0, [])
    assert (tuple(TASKS) in one._prepared) is together
    for arena in range(3):
        assert one.arrays[arena].tobytes() == by_one.arrays[arena].tobytes()


def test_nothing_is_kept_of_arrays_that_are_gone():
    device = runner(0)
    for _ in range(3):
        device.run(TASKS, 0, 0, [])
    device._free(10)
    assert tuple(TASKS) not in device._prepared


def test_an_update_that_does_not_write_in_place_runs_alone():
    device = runner(0)
    tasks = [(SGD, (20 + k,), (10 + k, 20 + k, 30 + k)) for k in (0, 1)]
    assert joined(tasks, device.arrays) is None
