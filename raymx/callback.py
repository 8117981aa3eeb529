"""Things to do while training: save checkpoints, report speed and metrics, draw a progress bar.

An epoch-end callback is called as `f(epoch, symbol, arg_params, aux_params)`, a batch-end callback with a
`model.BatchEndParam`. Whoever reads its `eval_metric` waits for the batches that are still being computed, so a
callback that does so at every batch slows training down.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

_log = logging.getLogger("raymx")


def do_checkpoint(prefix, period: int = 1):
    """An epoch-end callback that saves `prefix-symbol.json` and `prefix-NNNN.params` every `period` epochs."""
    period = max(1, int(period))

    def save(epoch, symbol, arg_params, aux_params):
        from raymx.checkpoint import save_checkpoint

        if (epoch + 1) % period == 0:
            save_checkpoint(prefix, epoch + 1, symbol, arg_params, aux_params)

    return save


def module_checkpoint(mod, prefix, period: int = 1, save_optimizer_states: bool = False):
    """An epoch-end callback that saves a Module, with the optimizer's states if asked for, every `period` epochs."""
    period = max(1, int(period))

    def save(epoch, symbol=None, arg_params=None, aux_params=None):
        if (epoch + 1) % period == 0:
            mod.save_checkpoint(prefix, epoch + 1, save_optimizer_states)

    return save


def log_train_metric(period: int, auto_reset: bool = False):
    """A batch-end callback that logs the training metric every `period` batches; `auto_reset` starts it anew then."""

    def log(param):
        if param.nbatch % period == 0 and param.eval_metric is not None:
            for name, value in param.eval_metric.get_name_value():
                _log.info("Iter[%d] Batch[%d] Train-%s=%f", param.epoch, param.nbatch, name, value)
            if auto_reset:
                param.eval_metric.reset_local()

    return log


class Speedometer:
    """A batch-end callback that logs samples per second, and the metric, every `frequent` batches."""

    def __init__(self, batch_size: int, frequent: int = 50, auto_reset: bool = False, clock=time.perf_counter):
        self.batch_size, self.frequent, self.auto_reset, self._clock = batch_size, frequent, auto_reset, clock
        self._began: float | None = None
        self._last_batch = 0

    def __call__(self, param) -> None:
        if self._began is None or param.nbatch < self._last_batch:  # a new epoch
            self._began, self._last_batch = self._clock(), param.nbatch
        elif param.nbatch % self.frequent == 0:
            self._report(param)

    def _report(self, param) -> None:
        now = self._clock()
        speed = (param.nbatch - self._last_batch) * self.batch_size / max(now - self._began, 1e-9)
        values = param.eval_metric.get_name_value() if param.eval_metric is not None else ()
        text = "".join(f"\tTrain-{name}={value:f}" for name, value in values)
        _log.info("Epoch[%d] Batch [%d]\tSpeed: %.2f samples/sec%s", param.epoch, param.nbatch, speed, text)
        if self.auto_reset and param.eval_metric is not None:
            param.eval_metric.reset_local()
        self._began, self._last_batch = now, param.nbatch


class ProgressBar:
    """A batch-end callback that draws a bar of `total` batches for each epoch; nothing unless stderr is a terminal."""

    def __init__(self, total: int, length: int = 80):
        self.total, self.length = total, length
        self._bar: Any = None
        self._epoch = None

    def __call__(self, param) -> None:
        if not sys.stderr.isatty():
            return
        if self._bar is None or param.epoch != self._epoch:
            self._begin(param.epoch)
        self._bar.update(param.nbatch - self._bar.n)
        if param.nbatch >= self.total:
            self._end()

    def _begin(self, epoch) -> None:
        from tqdm import tqdm

        self._end()
        self._epoch = epoch
        self._bar = tqdm(total=self.total, ncols=self.length, desc=f"epoch {epoch}", unit="batch")

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __getstate__(self):
        return {**self.__dict__, "_bar": None}


class LogValidationMetricsCallback:
    """An eval-end callback that logs the metric of the evaluation data."""

    def __call__(self, param) -> None:
        for name, value in param.eval_metric.get_name_value() if param.eval_metric is not None else ():
            _log.info("Epoch[%d] Validation-%s=%f", param.epoch, name, value)
