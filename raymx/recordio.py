"""Files of records in MXNet's RecordIO format, and the header of labelled samples within records.

A record is stored as one or more parts: the magic word, a word with 3 bits of kind and 29 bits of length, the bytes,
zeros up to a multiple of 4. The magic word, where it stands at a multiple of 4 in the record's bytes, is left out and
cuts the record there, so that a reader may start anywhere and search for it.
"""

from __future__ import annotations

import numbers
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from raymx import storage
from raymx.errors import DTypeError, FormatError, MXNetError, ParameterError

_MAGIC = struct.pack("<I", 0xCED7230A)
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_LENGTH_BITS = 29
_LENGTH_MASK = (1 << _LENGTH_BITS) - 1
_WORD = 4
_HEADER = struct.Struct("<IfQQ")


class MXRecordIO:
    """A file of records, local or at any URL that fsspec knows: `flag` 'r' reads them in order, 'w' writes a new one.

    A reader that is pickled starts at the first record again. Neither kind is shared with a forked process.
    """

    is_open = False  # also where a constructor failed early

    def __init__(self, uri, flag: str):
        if flag not in ("r", "w"):
            raise ParameterError(f"{type(self).__name__}: flag must be 'r' or 'w', got {flag!r}.")
        self.uri, self.flag = uri, flag
        self.writable = flag == "w"
        self.open()

    def open(self) -> None:
        """Open the file, at its first record; a writer's file is empty then."""
        self._file = storage.open_stream(self.uri, f"{self.flag}b")
        self._pid = os.getpid()
        self.is_open = True

    def close(self) -> None:
        """Close the file. A writer's records are certain to be there only afterwards."""
        if self.is_open:
            self.is_open = False
            self._file.close()

    def reset(self) -> None:
        """Back to the first record; a writer's file becomes empty."""
        self.close()
        self.open()

    def write(self, buf) -> None:
        """Append the bytes `buf` as one record of less than 512 MiB."""
        self._check("write", writable=True)
        if not isinstance(buf, (bytes, bytearray, memoryview)):
            raise DTypeError(f"{self._name()}: a record must be bytes, got {type(buf).__name__}; encode text first.")
        if len(buf := bytes(buf)) > _LENGTH_MASK:
            raise ParameterError(f"{self._name()}: a record must be shorter than {_LENGTH_MASK + 1} bytes, "
                                 f"got {len(buf)}.")  # fmt: skip
        for kind, part in _split(buf):
            head = struct.pack("<I", kind << _LENGTH_BITS | len(part))
            self._file.write(_MAGIC + head + part + bytes(-len(part) % _WORD))

    def read(self) -> bytes | None:
        """The next record, or None at the end. Raises FormatError if what is there is no whole record."""
        self._check("read", writable=False)
        head = self._file.read(2 * _WORD)
        if not head:
            return None
        kind, record = self._part(head)
        if kind in (_MIDDLE, _LAST):
            raise self._damaged("a record's middle where one should begin")
        while kind not in (_WHOLE, _LAST):
            kind, part = self._part(self._file.read(2 * _WORD))
            if kind in (_WHOLE, _FIRST):
                raise self._damaged("a record that begins within another one")
            record += _MAGIC + part
        return record

    def _part(self, head: bytes) -> tuple[int, bytes]:
        if len(head) < 2 * _WORD:
            raise self._damaged("the end of the file within a record")
        if head[:_WORD] != _MAGIC:
            raise self._damaged(f"{head[:_WORD].hex(' ')} instead of the magic word {_MAGIC.hex(' ')}")
        (word,) = struct.unpack("<I", head[_WORD:])
        length = word & _LENGTH_MASK
        part = self._file.read(length + -length % _WORD)
        if len(part) < length:
            raise self._damaged("the end of the file within a record")
        return word >> _LENGTH_BITS, part[:length]

    def _damaged(self, found: str) -> FormatError:
        return FormatError(f"{self._name()}: damaged or no RecordIO file: found {found}, before byte "
                           f"{self._file.tell()}.")  # fmt: skip

    def _check(self, verb: str, writable: bool) -> None:
        if not self.is_open:
            raise MXNetError(f"{self._name()}: cannot {verb}: the file is closed; call open() or reset().")
        if self.writable != writable:
            raise MXNetError(f"{self._name()}: cannot {verb}: opened with flag {self.flag!r}.")
        if self._pid != os.getpid():
            raise MXNetError(f"{self._name()}: cannot {verb}: opened by the process that this one was forked from; "
                             f"open it anew here.")  # fmt: skip

    def _name(self) -> str:
        return f"{type(self).__name__} {self.uri}"

    def __getstate__(self) -> dict:
        if self.writable and self.is_open:
            raise MXNetError(f"{self._name()}: an open writer cannot be pickled; close it first.")
        return {name: value for name, value in self.__dict__.items() if name != "_file"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, is_open=False)
        if state["is_open"]:
            self.open()

    def __del__(self):
        self.close()


class MXIndexedRecordIO(MXRecordIO):
    """A file of records beside a file that says, line by line, at which byte the record of each key begins.

    - idx_path: the file of lines `key <tab> byte`. key_type: makes a key of the text in it.
    - keys: the keys in the file's order. idx: key → byte.
    """

    def __init__(self, idx_path, uri, flag: str, key_type=int):
        self.idx_path, self.key_type = idx_path, key_type
        super().__init__(uri, flag)

    def open(self) -> None:
        self.idx: dict = {} if self.writable else self._read_index()
        self.keys = list(self.idx)
        super().open()
        self._index: BinaryIO | None = None
        if self.writable:
            try:
                self._index = storage.open_stream(self.idx_path, "wb")
            except BaseException:
                super().close()
                raise

    def close(self) -> None:
        if self.is_open and self._index is not None:
            self._index.close()
        super().close()

    def seek(self, idx) -> None:
        """Let the record of key `idx` be the next to read; a forked process opens the file anew for itself."""
        if self.is_open and not self.writable and self._pid != os.getpid():
            self.reset()
        self._check("seek", writable=False)
        if idx not in self.idx:
            raise ParameterError(f"{self._name()}: no key {idx!r} in {self.idx_path}, which has {len(self.idx)} keys.")
        self._file.seek(self.idx[idx])

    def tell(self) -> int:
        """The byte at which the next record will be written."""
        self._check("tell", writable=True)
        return self._file.tell()

    def read_idx(self, idx) -> bytes | None:
        """The record of key `idx`."""
        self.seek(idx)
        return self.read()

    def write_idx(self, idx, buf) -> None:
        """Append `buf` as the record of key `idx`."""
        key, begin = self.key_type(idx), self.tell()
        self.write(buf)
        assert self._index is not None
        self._index.write(f"{key}\t{begin}\n".encode())
        self.idx[key] = begin
        self.keys.append(key)

    def _read_index(self) -> dict:
        lines = storage.read_bytes(self.idx_path).decode("utf-8", "replace").splitlines()
        try:
            return {self.key_type(key): int(begin) for key, begin in (line.strip().split("\t") for line in lines)}
        except ValueError as error:
            raise FormatError(f"{self.idx_path}: not an index of records: each line must be a key, a tab and a byte "
                              f"({error}).") from error  # fmt: skip

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "_index": None}


def _split(record: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, bytes) of the parts in which `record` is written: cut at each magic word on a word's boundary."""
    cuts = _aligned_magics(record)
    begins = [0, *(cut + _WORD for cut in cuts)]
    for i, (begin, end) in enumerate(zip(begins, [*cuts, len(record)], strict=True)):
        first, last = i == 0, i == len(cuts)
        kind = (_WHOLE if last else _FIRST) if first else (_LAST if last else _MIDDLE)
        yield kind, record[begin:end]


def _aligned_magics(record: bytes) -> list[int]:
    words = np.frombuffer(record, "<u4", len(record) // _WORD)
    return [int(i) * _WORD for i in np.flatnonzero(words == np.frombuffer(_MAGIC, "<u4"))]


class IRHeader(NamedTuple):
    """What stands before a sample's bytes: `label` is a number if `flag` is 0, else an array of `flag` numbers."""

    flag: int
    label: float | np.ndarray
    id: int
    id2: int


def pack(header, s: bytes) -> bytes:
    """The bytes of a record: `header` (an IRHeader or its four values; `flag` is set as the label needs), then `s`."""
    header = IRHeader(*header)
    if isinstance(header.label, numbers.Number):
        return _HEADER.pack(0, header.label, header.id, header.id2) + s
    label = np.asarray(header.label, dtype="<f4")
    return _HEADER.pack(label.size, 0, header.id, header.id2) + label.tobytes() + s


def unpack(s: bytes) -> tuple[IRHeader, bytes]:
    """The header in a record that `pack` made, and the bytes after it."""
    if len(s) < _HEADER.size:
        raise FormatError(f"unpack: a record's header has {_HEADER.size} bytes, got {len(s)} bytes in all.")
    header, s = IRHeader(*_HEADER.unpack_from(s)), s[_HEADER.size :]
    if header.flag == 0:
        return header, s
    nbytes = 4 * header.flag
    if len(s) < nbytes:
        raise FormatError(f"unpack: the header tells of {header.flag} labels ({nbytes} bytes), but only {len(s)} bytes "
                          f"follow it.")  # fmt: skip
    return header._replace(label=np.frombuffer(s, "<f4", header.flag).copy()), s[nbytes:]
