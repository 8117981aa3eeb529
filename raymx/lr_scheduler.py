"""Learning rates that fall as training goes on.

A scheduler is called with the number of updates done so far and returns the rate for the next one. The two schedules
here depend on nothing but that number and `base_lr`, so a resumed run (`begin_num_update`) continues where it stopped.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from raymx.errors import ParameterError


class LRScheduler:
    """Base of schedules: `scheduler(num_update)` is the learning rate. An optimizer sets `base_lr` to its own rate."""

    def __init__(self, base_lr: float = 0.01):
        self.base_lr = base_lr

    def __call__(self, num_update: int) -> float:
        """The rate for the update after `num_update` (the largest update count of any weight)."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(num_update).")


class FactorScheduler(LRScheduler):
    """Multiply the rate by `factor` after every `step` updates, down to `stop_factor_lr`.

    Updates 1..step use `base_lr`, the next `step` use `base_lr * factor`, and so on.
    Raises ParameterError for a step below 1 or a factor above 1.
    """

    def __init__(self, step: int, factor: float = 1.0, stop_factor_lr: float = 1e-8, base_lr: float = 0.01):
        super().__init__(base_lr)
        _check_factor("FactorScheduler", factor)
        if step < 1:
            raise ParameterError(f"FactorScheduler: step must be at least 1, got {step}.")
        self.step, self.factor, self.stop_factor_lr = step, factor, stop_factor_lr

    def __call__(self, num_update: int) -> float:
        drops = max(0, (num_update - 1) // self.step)
        return max(self.stop_factor_lr, self.base_lr * self.factor**drops) if drops else self.base_lr


class MultiFactorScheduler(LRScheduler):
    """Multiply the rate by `factor` once each time the update count passes an entry of `step`, an increasing list.

    Raises ParameterError for steps that do not increase or are below 1, or a factor above 1.
    """

    def __init__(self, step: Sequence[int], factor: float = 1.0, base_lr: float = 0.01):
        super().__init__(base_lr)
        _check_factor("MultiFactorScheduler", factor)
        self.step, self.factor = list(step), factor
        if not self.step or self.step[0] < 1 or any(b <= a for a, b in zip(self.step, self.step[1:], strict=False)):
            raise ParameterError(f"MultiFactorScheduler: step must be an increasing list from 1 up, got {step!r}.")

    def __call__(self, num_update: int) -> float:
        return self.base_lr * self.factor ** bisect_left(self.step, num_update)


def _check_factor(who: str, factor: float) -> None:
    if factor > 1.0:
        raise ParameterError(f"{who}: factor must be at most 1 so that the rate falls, got {factor}.")
