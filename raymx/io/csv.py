"""Numbers in text files, a sample per line."""

from __future__ import annotations

import io
import math

import numpy as np

from raymx import storage
from raymx.errors import FormatError, ParameterError, ShapeError
from raymx.io.base import DataBatch
from raymx.io.ndarray_iter import NDArrayIter
from raymx.ndarray import NDArray


class CSVIter(NDArrayIter):
    """Batches of samples from files with a line of comma-separated numbers for each, local or at any URL that fsspec
    knows.

    - data_csv, data_shape: the file, and the shape that each line is brought into. label_csv, label_shape: likewise;
      without a file labels are 0.
    - round_batch: rows left at the end of an epoch are filled up from its start, and count as padding; otherwise they
      are dropped.
    - dtype: of data and labels. prefetch_buffer is taken for old scripts and changes nothing.

    Raises FormatError for lines that hold no numbers, ShapeError for files that do not fit the shapes or each other.
    """

    def __init__(self, data_csv, data_shape, label_csv=None, label_shape=(1,), batch_size=1, round_batch=True,
                 dtype="float32", data_name="data", label_name="label", prefetch_buffer=4):  # fmt: skip
        if np.dtype(dtype).kind not in "fiu":
            raise ParameterError(f"CSVIter: dtype must be of numbers, got {dtype!r}.")
        data = _read(data_csv, _shape(data_shape), dtype)
        if label_csv in (None, "", "NULL"):
            labels = np.zeros((len(data), *_shape(label_shape)), dtype)
        else:
            labels = _read(label_csv, _shape(label_shape), dtype)
        if len(labels) != len(data):
            raise ShapeError(f"CSVIter: {data_csv} has {len(data)} lines but {label_csv} has {len(labels)}.")
        if labels.shape[1:] == (1,):
            labels = labels.reshape(-1)
        super().__init__(data, labels, batch_size, False, "pad" if round_batch else "discard", data_name, label_name,
                         dtype=dtype)  # fmt: skip

    def next(self) -> DataBatch:
        if not self.iter_next():
            raise StopIteration
        return DataBatch([self.getdata()], [self.getlabel()], self.getpad(), self.getindex())

    def getdata(self) -> NDArray:  # type: ignore[override]
        """The current batch's samples: an array, not a list, as of MXNet's iterators in C++."""
        return super().getdata()[0]

    def getlabel(self) -> NDArray:  # type: ignore[override]
        """The current batch's labels: an array, not a list."""
        return super().getlabel()[0]


def _shape(given) -> tuple[int, ...]:
    return tuple(given) if isinstance(given, (tuple, list)) else (int(given),)


def _read(path, shape: tuple[int, ...], dtype) -> np.ndarray:
    text = io.StringIO(storage.read_bytes(path).decode())
    try:
        rows = np.loadtxt(text, dtype, delimiter=",", ndmin=2)
    except ValueError as error:
        raise FormatError(f"{path}: no lines of comma-separated numbers ({error}).") from error
    if not rows.size or rows.shape[1] != math.prod(shape):
        raise ShapeError(f"CSVIter: {path} has {rows.shape[1] if rows.size else 0} numbers in a line, shape {shape} "
                         f"needs {math.prod(shape)}.")
    return rows.reshape(-1, *shape)
