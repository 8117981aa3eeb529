"""Data iterators: batches of NDArrays for training and prediction."""

from raymx.io.base import DataBatch, DataDesc, DataIter
from raymx.io.mnist import MNISTIter, read_idx
from raymx.io.ndarray_iter import NDArrayIter

__all__ = ["DataBatch", "DataDesc", "DataIter", "MNISTIter", "NDArrayIter", "read_idx"]
