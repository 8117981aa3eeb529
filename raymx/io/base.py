"""What every data iterator is and gives."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np

from raymx.errors import DTypeError


class _Named(NamedTuple):
    name: str
    shape: tuple[int, ...]


class DataDesc(_Named):
    """Name and shape of one array of a batch; unpacks to these two. `dtype` and `layout` go along as attributes."""

    dtype: Any
    layout: str

    def __new__(cls, name, shape, dtype=np.float32, layout="NCHW"):
        try:
            shape = tuple(operator.index(d) for d in shape)
        except TypeError:
            raise DTypeError(f"DataDesc: the shape of {name!r} must be a tuple of integers, got {shape!r}.") from None
        desc = super().__new__(cls, name, shape)
        desc.dtype, desc.layout = dtype, layout
        return desc

    def __getnewargs__(self):
        return self.name, self.shape, self.dtype, self.layout

    def __repr__(self):
        return f"DataDesc[{self.name},{self.shape},{np.dtype(self.dtype).name},{self.layout}]"

    @staticmethod
    def get_list(shapes, types=None) -> list[DataDesc]:
        """DataDesc of [(name, shape)] and, if given, [(name, dtype)]."""
        dtypes = dict(types or ())
        return [DataDesc(name, shape, dtypes.get(name, np.float32)) for name, shape in shapes]

    @staticmethod
    def get_batch_axis(layout: str | None) -> int:
        """Which axis of such a layout counts the samples; 0 where nothing is said."""
        return layout.find("N") if layout else 0


class DataBatch:
    """One batch: `data` and `label` are lists of NDArrays whose first axis is the batch.

    The last `pad` samples only fill the batch up; `index` holds the samples' row numbers. `bucket_key` chooses the
    symbol in training with buckets, where `provide_data` and `provide_label` give this batch's shapes.
    """

    def __init__(self, data, label=None, pad=None, index=None, bucket_key=None, provide_data=None, provide_label=None):
        self.data, self.label, self.pad, self.index = data, label, pad, index
        self.bucket_key, self.provide_data, self.provide_label = bucket_key, provide_data, provide_label

    def __repr__(self):
        data, label = ([tuple(x.shape) for x in arrays or ()] for arrays in (self.data, self.label))
        return f"DataBatch: data shapes: {data} label shapes: {label}"


class DataIter:
    """Base of iterators over batches. A subclass defines `iter_next`, `getdata`, `getlabel`, `getpad` and perhaps
    `getindex`, or just `next`; and `reset`, `provide_data` and `provide_label`, lists of (name, shape)."""

    provide_data: Any = ()
    provide_label: Any = ()

    def __init__(self, batch_size: int = 0):
        self.batch_size = batch_size

    def __iter__(self):
        return self

    def reset(self) -> None:
        """Begin a new epoch."""

    def pass_over(self) -> None:
        """Leave the rest of this epoch out and begin the next, as if every batch had been taken."""
        self.reset()

    def next(self) -> DataBatch:
        """The next batch; raises StopIteration at the end of the epoch."""
        if not self.iter_next():
            raise StopIteration
        return DataBatch(self.getdata(), self.getlabel(), self.getpad(), self.getindex())

    def __next__(self) -> DataBatch:
        return self.next()

    def iter_next(self) -> bool:
        """Move to the next batch; False at the end of the epoch."""
        raise NotImplementedError(f"{type(self).__name__} must define next() or iter_next().")

    def getdata(self) -> list:
        """The current batch's data."""
        raise NotImplementedError(f"{type(self).__name__} must define getdata().")

    def getlabel(self) -> list:
        """The current batch's labels."""
        raise NotImplementedError(f"{type(self).__name__} must define getlabel().")

    def getindex(self):
        """Row numbers of the current batch's samples, or None."""
        return None

    def getpad(self) -> int | None:
        """How many samples at the end of the current batch only fill it up."""
        raise NotImplementedError(f"{type(self).__name__} must define getpad().")
