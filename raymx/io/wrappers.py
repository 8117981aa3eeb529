"""Iterators around iterators: epochs of another length, batches prepared while the one before is used."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from queue import Empty, Full, Queue
from typing import Any

from raymx.errors import MXNetError, ParameterError
from raymx.io.base import DataBatch, DataDesc, DataIter

_TICK_S = 0.1  # how often a waiting thread looks whether it is still wanted


class ResizeIter(DataIter):
    """An iterator whose epochs have exactly `size` batches of `data_iter`, which is reset whenever it ends; and at each
    reset, unless `reset_internal` is False. Raises MXNetError if it gives no batches at all."""

    def __init__(self, data_iter, size: int, reset_internal: bool = True):
        super().__init__(data_iter.batch_size)
        self.data_iter, self.size, self.reset_internal = data_iter, size, reset_internal
        self.provide_data, self.provide_label = data_iter.provide_data, data_iter.provide_label
        if hasattr(data_iter, "default_bucket_key"):
            self.default_bucket_key = data_iter.default_bucket_key
        self.cur = 0
        self.current_batch: Any = None

    def reset(self) -> None:
        self.cur = 0
        if self.reset_internal:
            self.data_iter.reset()

    def pass_over(self) -> None:
        for _ in self:
            pass
        self.reset()

    def iter_next(self) -> bool:
        if self.cur == self.size:
            return False
        try:
            self.current_batch = self.data_iter.next()
        except StopIteration:
            self.data_iter.reset()
            try:
                self.current_batch = self.data_iter.next()
            except StopIteration:
                raise MXNetError("ResizeIter: the iterator gives no batches.") from None
        self.cur += 1
        return True

    def next(self) -> DataBatch:
        if not self.iter_next():
            raise StopIteration
        return self.current_batch

    def getdata(self):
        return self.current_batch.data

    def getlabel(self):
        return self.current_batch.label

    def getindex(self):
        return self.current_batch.index

    def getpad(self):
        return self.current_batch.pad


class PrefetchingIter(DataIter):
    """Batches of one or several iterators side by side, each read ahead by a thread of its own.

    - rename_data, rename_label: for each iterator a dict from its names to those that this one provides.

    An error in an iterator is raised where its batch would have come. Raises MXNetError when the iterators do not end
    together.
    """

    def __init__(self, iters, rename_data: Sequence[dict] | None = None, rename_label: Sequence[dict] | None = None):
        self.iters = list(iters) if isinstance(iters, (list, tuple)) else [iters]
        if not self.iters:
            raise ParameterError("PrefetchingIter: give at least one iterator.")
        self.provide_data = _renamed("rename_data", rename_data, [it.provide_data for it in self.iters])
        self.provide_label = _renamed("rename_label", rename_label, [it.provide_label for it in self.iters])
        super().__init__(self.provide_data[0].shape[0])
        if hasattr(self.iters[0], "default_bucket_key"):
            self.default_bucket_key = self.iters[0].default_bucket_key
        self.n_iter = len(self.iters)
        self.current_batch: Any = None
        self._readers = [_Reader(it) for it in self.iters]

    def reset(self) -> None:
        self._begin([each.reset for each in self.iters])

    def pass_over(self) -> None:
        self._begin([getattr(each, "pass_over", each.reset) for each in self.iters])

    def _begin(self, calls: Sequence[Callable[[], None]]) -> None:
        for reader in self._readers:
            reader.close()
        for call in calls:
            call()
        self._readers = [_Reader(each) for each in self.iters]

    def iter_next(self) -> bool:
        batches = [reader.next() for reader in self._readers]
        if all(batch is None for batch in batches):
            return False
        if any(batch is None for batch in batches):
            raise MXNetError("PrefetchingIter: the iterators give different numbers of batches.")
        if len({batch.pad for batch in batches}) > 1:
            raise MXNetError(f"PrefetchingIter: the iterators pad differently: {[batch.pad for batch in batches]}.")
        first = batches[0]
        self.current_batch = first if self.n_iter == 1 else DataBatch(
            [x for batch in batches for x in batch.data], [x for batch in batches for x in batch.label or ()],
            first.pad, first.index, first.bucket_key, self.provide_data, self.provide_label,
        )  # fmt: skip
        return True

    def next(self) -> DataBatch:
        if not self.iter_next():
            raise StopIteration
        return self.current_batch

    def getdata(self):
        return self.current_batch.data

    def getlabel(self):
        return self.current_batch.label

    def getindex(self):
        return self.current_batch.index

    def getpad(self):
        return self.current_batch.pad

    def close(self) -> None:
        """End the threads."""
        for reader in self._readers:
            reader.close()

    def __del__(self):
        for reader in getattr(self, "_readers", ()):
            reader.stop()


class _Reader:
    """A thread that is one batch ahead of whoever takes them; it ends with the epoch or when it is closed."""

    def __init__(self, source):
        self._queue: Queue = Queue(1)
        self._closed = threading.Event()
        self._ended = False
        self._thread = threading.Thread(
            target=_read, args=(source, self._queue, self._closed), name="raymx prefetch", daemon=True
        )
        self._thread.start()

    def next(self):
        """The next batch, None at the end of the epoch; raises what the iterator raised."""
        if self._ended:
            return None
        batch, error = self._queue.get()
        self._ended = batch is None
        if error is not None:
            raise error
        return batch

    def stop(self) -> None:
        self._closed.set()

    def close(self) -> None:
        self.stop()
        with contextlib.suppress(Empty):
            self._queue.get_nowait()
        self._thread.join()


def _read(source, queue: Queue, closed: threading.Event) -> None:
    item: tuple[Any, BaseException | None]
    while not closed.is_set():
        try:
            item = source.next(), None
        except StopIteration:
            item = None, None
        except BaseException as error:
            item = None, error
        while not closed.is_set():
            try:
                queue.put(item, timeout=_TICK_S)
                break
            except Full:
                pass
        if item[0] is None:
            return


def _renamed(who: str, names, provided) -> list[DataDesc]:
    if names is None:
        names = [{}] * len(provided)
    if len(names) != len(provided):
        raise ParameterError(f"PrefetchingIter: {who} must have a dict for each of {len(provided)} iterators, "
                             f"got {len(names)}.")
    found = []
    for mapping, descs in zip(names, provided, strict=True):
        for desc in descs or ():
            dtype, layout = getattr(desc, "dtype", "float32"), getattr(desc, "layout", "NCHW")
            found.append(DataDesc(mapping.get(desc[0], desc[0]), desc[1], dtype, layout))
    return found
