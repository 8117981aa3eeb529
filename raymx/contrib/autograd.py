"""Imperative gradients as MXNet 0.9 had them: training and recording are one switch. See `raymx.autograd`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from raymx import autograd
from raymx import ndarray as nd
from raymx.autograd import backward, mark_variables
from raymx.ndarray import NDArray

__all__ = [
    "TrainingStateScope", "backward", "compute_gradient", "grad", "grad_and_loss", "mark_variables", "set_is_training",
    "test", "test_section", "train", "train_section",
]  # fmt: skip


def set_is_training(is_train: bool) -> bool:
    """Switch recording, and training with it; returns what training was."""
    autograd.set_recording(is_train)
    return autograd.set_training(is_train)


class TrainingStateScope:
    """`set_is_training` for the length of a with block."""

    def __init__(self, enter_state: bool):
        self._scope = autograd.record() if enter_state else autograd.pause()

    def __enter__(self) -> TrainingStateScope:
        self._scope.__enter__()
        return self

    def __exit__(self, *exc_info) -> None:
        self._scope.__exit__(*exc_info)


def train_section() -> TrainingStateScope:
    """`with train_section():` records, and runs operators as in training."""
    return TrainingStateScope(True)


def test_section() -> TrainingStateScope:
    """`with test_section():` does not record, and runs operators as in prediction."""
    return TrainingStateScope(False)


train, test = train_section, test_section


def compute_gradient(outputs: Sequence[NDArray]) -> None:
    """`backward` of outputs, with ones as their gradients."""
    backward(outputs)


def grad_and_loss(func: Callable, argnum: int | Sequence[int] | None = None) -> Callable:
    """A function that returns (gradients, outputs) of `func`, for all its arguments or those in `argnum`."""

    @functools.wraps(func)
    def wrapped(*args) -> tuple[list[NDArray], Any]:
        chosen = range(len(args)) if argnum is None else [argnum] if isinstance(argnum, int) else argnum
        variables = [args[i] for i in chosen]
        for each in variables:
            if not isinstance(each, NDArray):
                raise TypeError(f"grad_and_loss: arguments must be NDArrays, got {type(each).__name__}.")
        gradients = [nd.zeros(x.shape, x.context, x.dtype) for x in variables]
        mark_variables(variables, gradients)
        with train_section():
            outputs = func(*args)
        backward(outputs)
        return gradients, outputs

    return wrapped


def grad(func: Callable, argnum: int | Sequence[int] | None = None) -> Callable:
    """A function that returns the gradients of `func`; see `grad_and_loss`."""
    both = grad_and_loss(func, argnum)

    @functools.wraps(both)
    def wrapped(*args) -> list[NDArray]:
        return both(*args)[0]

    return wrapped
