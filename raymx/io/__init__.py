"""Data iterators: batches of NDArrays for training and prediction."""

from raymx.io.base import DataBatch, DataDesc, DataIter
from raymx.io.csv import CSVIter
from raymx.io.mnist import MNISTIter, read_idx
from raymx.io.ndarray_iter import NDArrayIter
from raymx.io.wrappers import PrefetchingIter, ResizeIter

__all__ = [
    "CSVIter", "DataBatch", "DataDesc", "DataIter", "MNISTIter", "NDArrayIter", "PrefetchingIter", "ResizeIter",
    "read_idx",
]  # fmt: skip
