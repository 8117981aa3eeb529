"""MXNet's `.params` files as bytes: writes the form of MXNet 0.12 to 1.9, reads that one, both older ones,
and the one of arrays with NumPy's shapes.

Everything is little-endian. A file is

    uint64 0x112 | uint64 0 | uint64 count | the arrays | uint64 number of names (0: a list) | names

with each name as uint64 length and bytes. An array begins in one of four ways and goes on alike:

    V3      uint32 0xF993FACA | as V2
    V2      uint32 0xF993FAC9 | int32 storage (0 = dense) | uint32 ndim | int64 dimensions
    V1      uint32 0xF993FAC8 |                             uint32 ndim | int64 dimensions
    oldest                                                  uint32 ndim | uint32 dimensions
    then    int32 device type | int32 device id | int32 element type | the elements

Reading runs no code and allocates nothing that the bytes themselves do not pay for.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from raymx.errors import DTypeError, FormatError, ParameterError, ShapeError
from raymx.ops.params import DTYPE_IDS

FILE_MAGIC = 0x112
V1_MAGIC = 0xF993FAC8
V2_MAGIC = 0xF993FAC9
V3_MAGIC = 0xF993FACA

_CPU = (1, 0)  # the device that is written; the one that is read does not matter
_MAX_NDIM = 64  # NumPy's
_MIN_ARRAY_NBYTES = 4 + 4 + 12 + 1  # the oldest form of one uint8
_IDS = {name: number for number, name in DTYPE_IDS.items()}
_WIRE = {name: "|u1" if name == "bool" else np.dtype(name).newbyteorder("<").str for name in _IDS}


def dumps(arrays: Sequence[np.ndarray] | Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a `.params` file with these arrays, in this order.

    Raises DTypeError, ShapeError or ParameterError, naming the array, for what the format cannot hold. An empty dict
    becomes the same bytes as an empty list.
    """
    names = list(arrays) if isinstance(arrays, Mapping) else []
    values = list(arrays.values() if isinstance(arrays, Mapping) else arrays)
    parts = [struct.pack("<QQQ", FILE_MAGIC, 0, len(values))]
    for label, value in zip(names or range(len(values)), values, strict=True):
        parts += _array_parts(value, f"array {label!r}")
    return b"".join([*parts, *_name_parts(names)])


def loads(data: bytes, source: str = "bytes") -> list[np.ndarray] | dict[str, np.ndarray]:
    """The arrays in `data`, new and writable: a dict if they have names, else a list.

    `source` names the file in errors. Raises FormatError, with the offset, for anything but a whole `.params` file.
    """
    reader = _Reader(data, source)
    arrays = [_read_array(reader, f"array {i}") for i in range(_read_header(reader))]
    names = _read_names(reader, len(arrays))
    if reader.left():
        raise reader.error(reader.at, f"expected the end of the file, found {reader.left()} more bytes")
    return dict(zip(names, arrays, strict=True)) if names else arrays


def dump_array(array: np.ndarray) -> bytes:
    """One array's bytes, as they stand in a file; raises as `dumps`."""
    return b"".join(_array_parts(array, "array"))


def load_array(data: bytes, source: str = "bytes") -> np.ndarray:
    """The array, new and writable, in what `dump_array` gave; raises FormatError as `loads`."""
    reader = _Reader(data, source)
    array = _read_array(reader, "array")
    if reader.left():
        raise reader.error(reader.at, f"expected the end of the array, found {reader.left()} more bytes")
    return array


# ---- writing ----


def _array_parts(array: np.ndarray, who: str) -> list[bytes]:
    array = np.asarray(array)
    if array.dtype.name not in _IDS:
        raise DTypeError(f"save: {who} must have an element type of {', '.join(_IDS)}, got {array.dtype}.")
    if not array.size or not array.ndim:
        raise ShapeError(f"save: {who} must have at least one dimension and one element, got shape {array.shape}.")
    name = array.dtype.name
    head = struct.pack(f"<IiI{array.ndim}q", V2_MAGIC, 0, array.ndim, *array.shape)
    return [head, struct.pack("<iii", *_CPU, _IDS[name]), array.astype(_WIRE[name], copy=False).tobytes()]


def _name_parts(names: Iterable[str]) -> list[bytes]:
    encoded = []
    for name in names:
        if not isinstance(name, str):
            raise ParameterError(f"save: names of arrays must be strings, got {name!r}.")
        encoded.append(name.encode())
    return [struct.pack("<Q", len(encoded)), *(struct.pack("<Q", len(name)) + name for name in encoded)]


# ---- reading ----


class _Reader:
    """A place in `data`; every step forward is checked against what is left."""

    def __init__(self, data: bytes, source: str):
        self.data, self.source, self.at = memoryview(data).cast("B"), source, 0

    def left(self) -> int:
        return len(self.data) - self.at

    def error(self, at: int, what: str) -> FormatError:
        return FormatError(f"{self.source}: at byte {at}: {what}.")

    def take(self, nbytes: int, what: str) -> memoryview:
        if nbytes > self.left():
            raise self.error(self.at, f"truncated: {what} needs {nbytes} bytes, {self.left()} are left")
        self.at += nbytes
        return self.data[self.at - nbytes : self.at]

    def unpack(self, layout: str, what: str) -> tuple[int, ...]:
        return struct.unpack(f"<{layout}", self.take(struct.calcsize(f"<{layout}"), what))

    def number(self, layout: str, what: str) -> int:
        return self.unpack(layout, what)[0]


def _read_header(reader: _Reader) -> int:
    """The number of arrays."""
    magic = reader.number("Q", "the head of a .params file")
    if magic != FILE_MAGIC:
        raise reader.error(0, f"not a .params file: expected {FILE_MAGIC:#x}, found {magic:#x}")
    reader.number("Q", "the reserved word")
    at = reader.at
    count = reader.number("Q", "the number of arrays")
    most = reader.left() // _MIN_ARRAY_NBYTES
    if count > most:
        raise reader.error(at, f"{count} arrays are announced, but the bytes left can hold {most} at most")
    return count


def _read_array(reader: _Reader, who: str) -> np.ndarray:
    shape = _read_shape(reader, who)
    reader.unpack("ii", f"{who}'s device")
    at = reader.at
    number = reader.number("i", f"{who}'s element type")
    if number not in DTYPE_IDS:
        known = ", ".join(f"{i} {name}" for i, name in DTYPE_IDS.items())
        raise reader.error(at, f"{who} has the unknown element type {number} (known: {known})")
    name = DTYPE_IDS[number]
    elements = reader.take(math.prod(shape) * np.dtype(name).itemsize, f"{who} of shape {shape} and type {name}")
    return np.frombuffer(elements, _WIRE[name]).reshape(shape).astype(name)


def _read_shape(reader: _Reader, who: str) -> tuple[int, ...]:
    at = reader.at
    word = reader.number("I", who)
    oldest = word not in (V1_MAGIC, V2_MAGIC, V3_MAGIC)
    if word in (V2_MAGIC, V3_MAGIC):
        _check_storage(reader, who)
    ndim = word if oldest else reader.number("I", f"{who}'s number of dimensions")
    if ndim > _MAX_NDIM:
        expected = f"an array ({V2_MAGIC:#x}, {V1_MAGIC:#x} or a number of dimensions up to {_MAX_NDIM})"
        raise reader.error(at, f"{who}: expected {expected}, found {ndim:#x}")
    shape = reader.unpack(f"{ndim}{'I' if oldest else 'q'}", f"{who}'s shape")
    if not shape or min(shape) <= 0:
        raise reader.error(at, f"{who} must have dimensions of at least 1, found shape {shape}")
    return shape


def _check_storage(reader: _Reader, who: str) -> None:
    at = reader.at
    storage = reader.number("i", f"{who}'s storage")
    if storage:
        kind = {1: "row-sparse", 2: "compressed sparse row"}.get(storage, "unknown")
        hint = "; in MXNet, save array.tostype('default') instead"
        raise reader.error(at, f"{who} must have dense storage (0), found {storage} ({kind}){hint}")


def _read_names(reader: _Reader, arrays: int) -> list[str]:
    at = reader.at
    count = reader.number("Q", "the number of names")
    if count not in (0, arrays):
        raise reader.error(at, f"expected {arrays} names or none, found {count}")
    names: dict[str, None] = {}
    for i in range(count):
        at = reader.at
        name = _read_name(reader, f"name {i}")
        if name in names:
            raise reader.error(at, f"two arrays are called {name!r}")
        names[name] = None
    return list(names)


def _read_name(reader: _Reader, who: str) -> str:
    at = reader.at
    raw = bytes(reader.take(reader.number("Q", f"{who}'s length"), who))
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise reader.error(at, f"{who} must be UTF-8, found {raw[:32]!r}") from None
