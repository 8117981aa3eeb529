"""MNIST and other data in idx files."""

from __future__ import annotations

import gzip
import io
import logging
import math
import zlib

import numpy as np

from raymx import storage
from raymx.errors import FormatError, MXNetError, ParameterError, ShapeError
from raymx.io.base import DataBatch
from raymx.io.ndarray_iter import NDArrayIter
from raymx.ndarray import NDArray

# the third byte of an idx file: big-endian element types
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"


class MNISTIter(NDArrayIter):
    """Batches of images and labels from two idx files, plain or gzip, local or at any URL that fsspec knows.

    data is (batch_size, 1, rows, columns), or with `flat` (batch_size, rows * columns), float32 from 0 to 255/256;
    labels are (batch_size,) float32. The rest of an epoch that fills no batch is dropped.

    - shuffle: one random order, drawn with `seed` when the files are read; each epoch has the same.
    - num_parts, part_index: read only the part_index-th of num_parts stretches of the files, for workers that share.
    - silent: no line to the log. data_shape (or input_shape): a sample's shape, checked if given.
    - prefetch_buffer is taken for old scripts and changes nothing: everything is in memory.

    Raises MXNetError for missing files, FormatError for damaged ones, ShapeError when images and labels do not fit.
    """

    def __init__(self, image, label, batch_size=128, shuffle=True, flat=False, seed=0, silent=False, num_parts=1,
                 part_index=0, data_name="data", label_name="softmax_label", data_shape=None, input_shape=None,
                 prefetch_buffer=4):  # fmt: skip
        if not 0 <= part_index < num_parts:
            raise ParameterError(f"MNISTIter: part_index must be from 0 to num_parts - 1 = {num_parts - 1}, "
                                 f"got {part_index}.")
        images, labels = _read(image, 3, "image"), _read(label, 1, "label")
        if len(images) != len(labels):
            raise ShapeError(f"MNISTIter: {image} has {len(images)} images but {label} has {len(labels)} labels.")
        order = _part(len(images), num_parts, part_index)
        if shuffle:
            np.random.RandomState(seed).shuffle(order)
        sample = (math.prod(images.shape[1:]),) if flat else (1, *images.shape[1:])
        _check_sample(sample, data_shape or input_shape)
        data = (images[order].astype(np.float32) / 256).reshape(-1, *sample)
        super().__init__(data, labels[order].astype(np.float32), batch_size, False, "discard", data_name, label_name)
        if not silent:
            logging.getLogger("raymx").info("MNISTIter: %d images of shape %s from %s", len(order), sample, image)


    def next(self) -> DataBatch:
        if not self.iter_next():
            raise StopIteration
        return DataBatch([self.getdata()], [self.getlabel()], self.getpad(), self.getindex())

    def getdata(self) -> NDArray:  # type: ignore[override]
        """The current batch's images: an array, not a list, as of MXNet's iterators in C++."""
        return super().getdata()[0]

    def getlabel(self) -> NDArray:  # type: ignore[override]
        """The current batch's labels: an array, not a list."""
        return super().getlabel()[0]


def read_idx(path, ndim: int | None = None) -> np.ndarray:
    """The array in an idx file, plain or gzip, at a local path or URL; `ndim` is how many dimensions it must have.

    Raises FormatError, naming the file, what was found and what was expected; FileNotFoundError as any reader.
    """
    data = storage.read_bytes(path)
    if not data.startswith(_GZIP_MAGIC):
        return _parse(io.BytesIO(data), path, ndim)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            return _parse(file, path, ndim)
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(f"{path}: damaged gzip file ({error}); fetch it again.") from error


def _parse(file, path, ndim: int | None) -> np.ndarray:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or ndim not in (None, magic[3]):
        expected = "00 00 08 followed by the number of dimensions" if ndim is None else f"00 00 08 {ndim:02x}"
        raise FormatError(f"{path}: no idx file of {_dimensions(ndim)}: it begins with {magic.hex(' ') or 'nothing'}, "
                          f"expected {expected}.")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise FormatError(f"{path}: truncated idx file: it ends within the {magic[3]} dimensions of its head.")
    shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4"))
    dtype = np.dtype(_TYPES[magic[2]])
    nbytes = math.prod(shape) * dtype.itemsize
    body = _read_upto(file, nbytes + 1)
    if len(body) != nbytes:
        found = f"only {len(body)}" if len(body) < nbytes else "more"
        kind = "truncated" if len(body) < nbytes else "overlong"
        raise FormatError(f"{path}: {kind} idx file: shape {shape} needs {nbytes} bytes after the head, found {found}.")
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _read_upto(file, nbytes: int) -> bytes:
    """At most `nbytes` bytes, without believing that there are so many."""
    chunks = []
    while nbytes > 0 and (chunk := file.read(min(nbytes, 1 << 20))):
        chunks.append(chunk)
        nbytes -= len(chunk)
    return b"".join(chunks)


def _dimensions(ndim: int | None) -> str:
    return "any dimensions" if ndim is None else f"{ndim} dimension{'s' * (ndim > 1)}"


def _read(path, ndim: int, role: str) -> np.ndarray:
    """`read_idx` of `path`, or of `path`.gz where only that exists."""
    for candidate in (path, f"{path}.gz"):
        try:
            return read_idx(candidate, ndim)
        except FileNotFoundError:
            pass
    example = "train-images-idx3-ubyte" if ndim == 3 else "train-labels-idx1-ubyte"
    raise MXNetError(f"MNISTIter: {role} file {path} does not exist, nor does {path}.gz; give the path or URL of an "
                     f"idx file such as {example}.")


def _part(count: int, num_parts: int, part_index: int) -> np.ndarray:
    return np.arange(count * part_index // num_parts, count * (part_index + 1) // num_parts)


def _check_sample(sample, given) -> None:
    if given is not None and math.prod(given) != math.prod(sample):
        raise ShapeError(f"MNISTIter: data_shape {tuple(given)} does not fit the file's samples of shape {sample}.")
