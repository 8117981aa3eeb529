"""Learning rates that change as training goes on.

A scheduler is called with the number of updates done so far and returns the rate for the next one. The schedules here
depend on nothing but that number and `base_lr`, so a resumed run (`begin_num_update`) continues where it stopped.

Each may begin with a warm-up: during the first `warmup_steps` updates the rate rises in a line from `warmup_begin_lr`
to `base_lr` (`warmup_mode="linear"`) or stays at `warmup_begin_lr` ("constant").
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

from raymx.errors import ParameterError

_MODES = ("linear", "constant")


class LRScheduler:
    """Base of schedules: `scheduler(num_update)` is the learning rate. An optimizer sets `base_lr` to its own rate.

    A subclass defines `rate(num_update)`, which holds after the warm-up, or `__call__`. Raises ParameterError for a
    warm-up that cannot be.
    """

    def __init__(self, base_lr: float = 0.01, warmup_steps: int = 0, warmup_begin_lr: float = 0.0,
                 warmup_mode: str = "linear"):  # fmt: skip
        who = type(self).__name__
        if warmup_steps < 0:
            raise ParameterError(f"{who}: warmup_steps must not be negative, got {warmup_steps}.")
        if warmup_begin_lr > base_lr:
            raise ParameterError(f"{who}: warmup_begin_lr {warmup_begin_lr} must not be above base_lr {base_lr}.")
        if warmup_mode not in _MODES:
            raise ParameterError(f"{who}: warmup_mode must be 'linear' or 'constant', got {warmup_mode!r}.")
        self.base_lr = base_lr
        self.warmup_steps, self.warmup_begin_lr, self.warmup_mode = warmup_steps, warmup_begin_lr, warmup_mode

    def __call__(self, num_update: int) -> float:
        """The rate for the update after `num_update` (the largest update count of any weight)."""
        return self.get_warmup_lr(num_update) if num_update < self.warmup_steps else self.rate(num_update)

    def rate(self, num_update: int) -> float:
        """The rate after the warm-up."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(num_update).")

    def get_warmup_lr(self, num_update: int) -> float:
        """The rate during the warm-up."""
        if self.warmup_mode == "constant":
            return self.warmup_begin_lr
        return self.warmup_begin_lr + (self.base_lr - self.warmup_begin_lr) * num_update / self.warmup_steps


class FactorScheduler(LRScheduler):
    """Multiply the rate by `factor` after every `step` updates, down to `stop_factor_lr`.

    Updates 1..step use `base_lr`, the next `step` use `base_lr * factor`, and so on.
    Raises ParameterError for a step below 1 or a factor above 1.
    """

    def __init__(self, step: int, factor: float = 1.0, stop_factor_lr: float = 1e-8, base_lr: float = 0.01,
                 warmup_steps: int = 0, warmup_begin_lr: float = 0.0, warmup_mode: str = "linear"):  # fmt: skip
        super().__init__(base_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        _check_factor("FactorScheduler", factor)
        if step < 1:
            raise ParameterError(f"FactorScheduler: step must be at least 1, got {step}.")
        self.step, self.factor, self.stop_factor_lr = step, factor, stop_factor_lr

    def rate(self, num_update: int) -> float:
        drops = max(0, (num_update - 1) // self.step)
        return max(self.stop_factor_lr, self.base_lr * self.factor**drops) if drops else self.base_lr


class MultiFactorScheduler(LRScheduler):
    """Multiply the rate by `factor` once each time the update count passes an entry of `step`, an increasing list.

    Raises ParameterError for steps that do not increase or are below 1, or a factor above 1.
    """

    def __init__(self, step: Sequence[int], factor: float = 1.0, base_lr: float = 0.01, warmup_steps: int = 0,
                 warmup_begin_lr: float = 0.0, warmup_mode: str = "linear"):  # fmt: skip
        super().__init__(base_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        _check_factor("MultiFactorScheduler", factor)
        self.step, self.factor = list(step), factor
        if not self.step or self.step[0] < 1 or any(b <= a for a, b in zip(self.step, self.step[1:], strict=False)):
            raise ParameterError(f"MultiFactorScheduler: step must be an increasing list from 1 up, got {step!r}.")

    def rate(self, num_update: int) -> float:
        return self.base_lr * self.factor ** bisect_left(self.step, num_update)


class _Falling(LRScheduler):
    """From `base_lr` at the end of the warm-up to `final_lr` at `max_update`, and that from then on."""

    def __init__(self, max_update: int, base_lr: float, final_lr: float, warmup_steps: int, warmup_begin_lr: float,
                 warmup_mode: str):  # fmt: skip
        super().__init__(base_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        if max_update < 1 or max_update <= warmup_steps:
            raise ParameterError(f"{type(self).__name__}: max_update must be at least 1 and above warmup_steps "
                                 f"{warmup_steps}, got {max_update}.")
        self.max_update, self.final_lr = max_update, final_lr

    def rate(self, num_update: int) -> float:
        done = min(1.0, (num_update - self.warmup_steps) / (self.max_update - self.warmup_steps))
        return self.final_lr + (self.base_lr - self.final_lr) * self.left(done)

    def left(self, done: float) -> float:
        """What part of the way is left when `done` of the updates are."""
        raise NotImplementedError


class PolyScheduler(_Falling):
    """The rate falls from `base_lr` to `final_lr` as (1 - t)**pwr, t from 0 to 1 at `max_update`.

    Raises ParameterError for a max_update below 1 or within the warm-up.
    """

    def __init__(self, max_update: int, base_lr: float = 0.01, pwr: float = 2, final_lr: float = 0.0,
                 warmup_steps: int = 0, warmup_begin_lr: float = 0.0, warmup_mode: str = "linear"):  # fmt: skip
        super().__init__(max_update, base_lr, final_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        self.power = pwr

    def left(self, done: float) -> float:
        return (1 - done) ** self.power


class CosineScheduler(_Falling):
    """The rate falls from `base_lr` to `final_lr` as half a period of a cosine, down at `max_update`.

    Raises ParameterError for a max_update below 1 or within the warm-up.
    """

    def __init__(self, max_update: int, base_lr: float = 0.01, final_lr: float = 0.0, warmup_steps: int = 0,
                 warmup_begin_lr: float = 0.0, warmup_mode: str = "linear"):  # fmt: skip
        super().__init__(max_update, base_lr, final_lr, warmup_steps, warmup_begin_lr, warmup_mode)

    def left(self, done: float) -> float:
        return (1 + math.cos(math.pi * done)) / 2


def _check_factor(who: str, factor: float) -> None:
    if factor > 1.0:
        raise ParameterError(f"{who}: factor must be at most 1 so that the rate falls, got {factor}.")
