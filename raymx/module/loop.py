"""The training loop of all modules: batches through executors, updates, metrics that are fed behind the device.

What a metric needs of a batch is fetched when the batch was pushed, and read when several more were: nobody waits for
the device. Who looks at the metric (a callback that reads `param.eval_metric`, the end of an epoch) sees every batch.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from raymx import metric as metrics
from raymx.errors import MXNetError
from raymx.module import saving
from raymx.module.progress import Progress


class BatchEndParam(NamedTuple):
    """What a batch-end callback gets: the epoch, the number of the batch, the metric with all batches so far, and the
    loop's variables."""

    epoch: int
    nbatch: int
    eval_metric: metrics.EvalMetric | None
    locals: Any


class _BatchEnd(BatchEndParam):
    """Whoever reads `eval_metric` waits for the batches that it was not fed with yet."""

    backlog: Backlog

    @property
    def eval_metric(self):
        self.backlog.drain()
        return self[2]


class Backlog:
    """Batches that are on their way to a metric, oldest first; at most `limit()` of them."""

    def __init__(self, limit: Callable[[], int]):
        self._limit = limit
        self._waiting: deque[Callable[[], Any]] = deque()

    def add(self, feed: Callable[[], Any] | None) -> None:
        """Take in what feeds the metric with one batch, once its values are here; None if it was fed already."""
        if feed is not None:
            self._waiting.append(feed)
        if len(self._waiting) > self._limit():
            self._waiting.popleft()()

    def drain(self) -> None:
        """Feed the metric with everything."""
        while self._waiting:
            self._waiting.popleft()()


def train(module, data, begin_epoch: int, num_epoch: int, *, eval_metric, validation_metric=None, eval_data=None,
          epoch_end_callback=None, batch_end_callback=None, eval_end_callback=None, eval_batch_end_callback=None,
          monitor=None, logger=None, epoch_size: int | None = None, first_nbatch: int = 0,
          symbol=None, checkpoint=None, saved=None) -> None:  # fmt: skip
    """Train a module that has been bound and has an optimizer; see `BaseModule.fit`. `epoch_size` is the number of
    batches of an epoch, if it shall not be one pass over the data; `symbol` what callbacks get, the module's own by
    default; `checkpoint` where the state after each epoch goes; `saved` a state to go on from. A worker that was
    started anew goes on at the step that was under way."""
    logger = logger or logging.getLogger("raymx")
    progress = Progress(begin_epoch if saved is None else saved.epoch, *module._at_step())
    _, first, batches_done = progress.begin
    progress.bring(data, begin_epoch, num_epoch, epoch_size, batches_of, saved)
    for epoch in range(first, num_epoch):
        began = time.perf_counter()
        progress.start(epoch, data)
        if eval_metric is not None:
            eval_metric.reset()
        train_epoch(module, epoch, batches_of(data, epoch_size), eval_metric, batch_end_callback, monitor, first_nbatch,
                    progress, batches_done if epoch == first else 0)  # fmt: skip
        log_metric(logger, epoch, "Train", eval_metric)
        logger.info("Epoch[%d] Time cost=%.3f", epoch, time.perf_counter() - began)
        module._end_epoch()
        if epoch_end_callback is not None:
            call(epoch_end_callback, epoch, module.symbol if symbol is None else symbol, *module.get_params())
        if eval_data is not None and validation_metric is not None:
            score(module, eval_data, validation_metric, epoch=epoch, batch_end_callback=eval_batch_end_callback,
                  score_end_callback=eval_end_callback)  # fmt: skip
            log_metric(logger, epoch, "Validation", validation_metric)
        if epoch_size is None:
            data.reset()
        if checkpoint is not None:
            saving.save(checkpoint, epoch + 1, module, data)


def train_epoch(module, epoch: int, batches: Iterable, eval_metric, callbacks=None, monitor=None,
                first_nbatch: int = 0, progress: Progress | None = None, done: int = 0) -> None:  # fmt: skip
    """Train with these batches, the first `done` of which are passed over. At the end the metric knows all others."""
    backlog = Backlog(module._lag)
    for nbatch, batch in enumerate(module._ahead(islice(batches, done, None)), first_nbatch + done):
        if progress is not None:
            progress.note(epoch, nbatch - first_nbatch)
        if monitor is not None:
            monitor.tic()
        module.forward_backward(batch)
        module.update()
        if eval_metric is not None:
            backlog.add(module._watch(eval_metric, batch))
        if monitor is not None:
            monitor.toc_print()
        if callbacks is not None:
            _tell(callbacks, backlog, epoch, nbatch, eval_metric, {"self": module, "data_batch": batch})
    backlog.drain()


def score(module, data, eval_metric, num_batch: int | None = None, batch_end_callback=None, score_end_callback=None,
          reset: bool = True, epoch: int = 0) -> None:  # fmt: skip
    """Feed the metric, from anew, with the outputs for `data`, padding left out."""
    if reset:
        data.reset()
    eval_metric.reset()
    backlog, count = Backlog(module._lag), 0
    for nbatch, batch in enumerate(module._ahead(islice(data, num_batch))):
        module.prepare(batch)
        module.forward(batch, is_train=False)
        backlog.add(module._watch(eval_metric, batch, getattr(batch, "pad", None) or 0))
        count += 1
        if batch_end_callback is not None:
            _tell(batch_end_callback, backlog, epoch, nbatch, eval_metric, {"self": module, "eval_batch": batch})
    backlog.drain()
    if score_end_callback is not None:
        _tell(score_end_callback, backlog, epoch, count, eval_metric, {"self": module})


def predictions(module, data, num_batch: int | None = None) -> Iterator[tuple[list, int, Any]]:
    """(outputs on the host without padding, number of the batch, batch) for each batch, behind the device."""
    waiting: deque = deque()
    for nbatch, batch in enumerate(module._ahead(islice(data, num_batch))):
        module.prepare(batch)
        module.forward(batch, is_train=False)
        waiting.append((module._fetch_outputs(batch), nbatch, batch))
        if len(waiting) > module._lag():
            yield _arrived(*waiting.popleft())
    while waiting:
        yield _arrived(*waiting.popleft())


def batches_of(data, epoch_size: int | None) -> Iterator:
    """Batches until `data` ends; or exactly `epoch_size` of them, over resets. Raises MXNetError if there are none."""
    count = passes_without = 0
    while passes_without < 2:
        before = count
        for batch in data:
            yield batch
            count += 1
            if count == epoch_size:
                return
        if epoch_size is None and count:
            return
        data.reset()
        passes_without = passes_without + 1 if count == before else 0
    raise MXNetError("fit: the training iterator gives no batches.")


def call(callbacks, *args) -> None:
    """Call one callback or a list of them; None is none."""
    if callbacks is None:
        return
    for callback in callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]:
        callback(*args)


def log_metric(logger, epoch: int, kind: str, eval_metric) -> None:
    """A line for each value of a metric."""
    for name, value in eval_metric.get_global_name_value() if eval_metric is not None else ():
        logger.info("Epoch[%d] %s-%s=%f", epoch, kind, name, value)


def _tell(callbacks, backlog: Backlog, epoch: int, nbatch: int, eval_metric, variables: dict) -> None:
    variables |= {"epoch": epoch, "nbatch": nbatch, "eval_metric": eval_metric}
    param = _BatchEnd(epoch, nbatch, eval_metric, variables)
    param.backlog = backlog
    call(callbacks, param)


def _arrived(outputs: Callable[[], list], nbatch: int, batch) -> tuple[list, int, Any]:
    pad = getattr(batch, "pad", None) or 0
    return [value[: len(value) - pad] if pad else value for value in outputs()], nbatch, batch
