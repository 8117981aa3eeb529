"""Learning-rate schedules: the rate at every update around the edges, and what they refuse."""

import copy
import pickle

import pytest

from raymx.errors import ParameterError
from raymx.lr_scheduler import (
    CosineScheduler,
    FactorScheduler,
    LRScheduler,
    MultiFactorScheduler,
    PolyScheduler,
)


def rates(scheduler, upto=12):
    return [scheduler(n) for n in range(upto)]


def test_factor_drops_after_every_step_updates():
    expected = [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125]
    assert rates(FactorScheduler(3, 0.5, base_lr=1.0)) == expected


def test_factor_stops_at_the_floor():
    expected = [1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.002, 0.002, 0.002, 0.002, 0.002]
    assert rates(FactorScheduler(2, 0.1, stop_factor_lr=2e-3, base_lr=1.0)) == pytest.approx(expected)


def test_a_base_rate_below_the_floor_is_kept_until_the_first_drop():
    scheduler = FactorScheduler(2, 0.5, stop_factor_lr=0.1, base_lr=0.01)
    assert [scheduler(2), scheduler(3)] == [0.01, 0.1]


def test_multi_factor_drops_after_each_entry():
    expected = [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01]
    assert rates(MultiFactorScheduler([2, 5], 0.1, base_lr=1.0)) == pytest.approx(expected)


def test_the_rate_depends_on_the_count_alone():
    scheduler = FactorScheduler(3, 0.5, base_lr=1.0)
    assert scheduler(10) == 0.125
    assert scheduler(4) == 0.5, "asking for a late rate must not change an early one"


@pytest.mark.parametrize("scheduler", [FactorScheduler(3, 0.5), MultiFactorScheduler([2, 5], 0.1)])
def test_copies_agree(scheduler):
    assert rates(copy.deepcopy(scheduler)) == rates(pickle.loads(pickle.dumps(scheduler))) == rates(scheduler)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: FactorScheduler(0), "FactorScheduler: step must be at least 1, got 0."),
        (lambda: FactorScheduler(2, 1.5), "FactorScheduler: factor must be at most 1 so that the rate falls, got 1.5."),
        (lambda: MultiFactorScheduler([3, 2]), r"step must be an increasing list from 1 up, got \[3, 2\]."),
        (lambda: MultiFactorScheduler([0, 2]), r"step must be an increasing list from 1 up, got \[0, 2\]."),
        (lambda: MultiFactorScheduler([]), r"step must be an increasing list from 1 up, got \[\]."),
        (lambda: MultiFactorScheduler([2], 2), "MultiFactorScheduler: factor must be at most 1"),
    ],
)
def test_refusals(make, text):
    with pytest.raises(ParameterError, match=text):
        make()


def test_a_schedule_without_a_rule_says_so():
    class Mine(LRScheduler):
        pass

    with pytest.raises(NotImplementedError, match=r"Mine must define __call__\(num_update\)"):
        Mine()(1)


def test_poly_and_cosine_fall_to_the_final_rate():
    assert rates(PolyScheduler(4, base_lr=1.0, pwr=2, final_lr=0.2), 7) == pytest.approx(
        [1.0, 0.2 + 0.8 * 0.5625, 0.4, 0.2 + 0.8 * 0.0625, 0.2, 0.2, 0.2]
    )
    assert rates(CosineScheduler(4, base_lr=1.0), 6) == pytest.approx([1.0, 0.8535534, 0.5, 0.1464466, 0.0, 0.0])


@pytest.mark.parametrize("make", [lambda **k: PolyScheduler(8, 1.0, 1, **k), lambda **k: FactorScheduler(9, 0.5, **k),
                                  lambda **k: MultiFactorScheduler([9], 0.5, **k)])  # fmt: skip
def test_warm_up(make):
    scheduler = make(warmup_steps=4, warmup_begin_lr=0.0)
    scheduler.base_lr = 1.0
    assert rates(scheduler, 5) == [0.0, 0.25, 0.5, 0.75, 1.0]
    constant = make(warmup_steps=2, warmup_begin_lr=0.005, warmup_mode="constant")
    assert rates(constant, 2) == [0.005, 0.005]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: LRScheduler(warmup_steps=-1), "warmup_steps must not be negative, got -1"),
        (lambda: FactorScheduler(1, warmup_begin_lr=1.0), "warmup_begin_lr 1.0 must not be above base_lr 0.01"),
        (lambda: CosineScheduler(5, warmup_mode="slow"), "warmup_mode must be 'linear' or 'constant', got 'slow'"),
        (lambda: PolyScheduler(3, warmup_steps=3), "max_update must be at least 1 and above warmup_steps 3, got 3"),
    ],
)
def test_warm_ups_that_cannot_be(make, text):
    with pytest.raises(ParameterError, match=text):
        make()
