"""RecordIO files as MXNet writes and reads them, byte for byte."""

from __future__ import annotations

import copy
import os
import pickle
import struct

import numpy as np
import pytest

import raymx as mx
from raymx.errors import DTypeError, FormatError, MXNetError, ParameterError
from raymx.recordio import IRHeader, MXIndexedRecordIO, MXRecordIO, pack, unpack

MAGIC = bytes.fromhex("0a23d7ce")
RECORDS = [b"", b"a", b"four", b"fives", MAGIC, b"abcd" + MAGIC + b"xyz", MAGIC * 3, b"x" + MAGIC, bytes(1000)]


def write(path, records=RECORDS):
    writer = MXRecordIO(str(path), "w")
    for record in records:
        writer.write(record)
    writer.close()
    return path


def read_all(reader):
    return list(iter(reader.read, None))


def test_the_package_knows_it():
    assert mx.recordio.MXRecordIO is MXRecordIO


def test_records_come_back_in_order_and_then_none(tmp_path):
    reader = MXRecordIO(str(write(tmp_path / "a.rec")), "r")
    assert read_all(reader) == RECORDS
    assert reader.read() is None


def test_records_at_a_url():
    assert read_all(MXRecordIO(str(write("memory://recordio/a.rec")), "r")) == RECORDS


@pytest.mark.parametrize(
    ("record", "stored"),
    [
        (b"", [(0, b"")]),
        (b"abcde", [(0, b"abcde\0\0\0")]),
        (b"abcd" + MAGIC + b"xyz", [(1, b"abcd"), (3, b"xyz\0")]),
        (MAGIC * 3, [(1, b""), (2, b""), (2, b""), (3, b"")]),
        (b"a" + MAGIC, [(0, b"a" + MAGIC + b"\0\0\0")]),  # not on a word's boundary
    ],
)
def test_the_stored_bytes(tmp_path, record, stored):
    length = {b"abcde\0\0\0": 5, b"xyz\0": 3, b"a" + MAGIC + b"\0\0\0": 5}
    expected = b"".join(MAGIC + struct.pack("<I", kind << 29 | length.get(p, len(p))) + p for kind, p in stored)
    assert write(tmp_path / "a.rec", [record]).read_bytes() == expected


def test_reset_goes_back_to_the_first_record_and_empties_a_writers_file(tmp_path):
    reader = MXRecordIO(str(write(tmp_path / "a.rec")), "r")
    assert read_all(reader) and reader.read() is None
    reader.reset()
    assert read_all(reader) == RECORDS
    writer = MXRecordIO(str(tmp_path / "b.rec"), "w")
    writer.write(b"gone")
    writer.reset()
    writer.write(b"stays")
    writer.close()
    assert read_all(MXRecordIO(str(tmp_path / "b.rec"), "r")) == [b"stays"]


def test_a_dropped_writer_has_written(tmp_path):
    writer = MXRecordIO(str(tmp_path / "a.rec"), "w")
    writer.write(b"abc")
    del writer
    assert read_all(MXRecordIO(str(tmp_path / "a.rec"), "r")) == [b"abc"]


def test_an_index_finds_each_record(tmp_path):
    paths = str(tmp_path / "a.idx"), str(tmp_path / "a.rec")
    writer = MXIndexedRecordIO(*paths, "w")
    for key, record in enumerate(RECORDS):
        writer.write_idx(10 * key, record)
    assert writer.tell() == writer.idx[80] + 8 + 1000
    writer.close()
    assert (tmp_path / "a.idx").read_text().startswith("0\t0\n10\t8\n20\t20\n")
    reader = MXIndexedRecordIO(*paths, "r")
    assert reader.keys == [10 * key for key in range(len(RECORDS))]
    assert [reader.read_idx(key) for key in reversed(reader.keys)] == RECORDS[::-1]
    reader.seek(30)
    assert reader.read() == RECORDS[3] and reader.read() == RECORDS[4]


def test_keys_of_another_type(tmp_path):
    paths = str(tmp_path / "a.idx"), str(tmp_path / "a.rec")
    writer = MXIndexedRecordIO(*paths, "w", key_type=str)
    writer.write_idx("cat", b"meow")
    writer.close()
    assert MXIndexedRecordIO(*paths, "r", key_type=str).read_idx("cat") == b"meow"


def test_readers_are_pickled_and_writers_not(tmp_path):
    paths = str(tmp_path / "a.idx"), str(tmp_path / "a.rec")
    writer = MXIndexedRecordIO(*paths, "w")
    writer.write_idx(7, b"seven")
    with pytest.raises(MXNetError, match="a.rec: an open writer cannot be pickled; close it first"):
        pickle.dumps(writer)
    writer.close()
    reader = MXIndexedRecordIO(*paths, "r")
    assert reader.read() == b"seven"
    twin = pickle.loads(pickle.dumps(reader))
    assert twin.read() == twin.read_idx(7) == b"seven" and reader.read() is None
    reader.close()
    assert not copy.copy(reader).is_open


def test_a_forked_process_is_told_apart(tmp_path, monkeypatch):
    paths = str(tmp_path / "a.idx"), str(tmp_path / "a.rec")
    writer = MXIndexedRecordIO(*paths, "w")
    writer.write_idx(7, b"seven")
    writer.close()
    plain, indexed = MXRecordIO(paths[1], "r"), MXIndexedRecordIO(*paths, "r")
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    with pytest.raises(MXNetError, match="cannot read: opened by the process that this one was forked from"):
        plain.read()
    assert indexed.read_idx(7) == b"seven"  # which opens the file anew


def test_wrong_use(tmp_path):
    path = str(write(tmp_path / "a.rec"))
    with pytest.raises(ParameterError, match="MXRecordIO: flag must be 'r' or 'w', got 'a'"):
        MXRecordIO(path, "a")
    reader, writer = MXRecordIO(path, "r"), MXRecordIO(str(tmp_path / "b.rec"), "w")
    with pytest.raises(MXNetError, match="a.rec: cannot write: opened with flag 'r'"):
        reader.write(b"x")
    with pytest.raises(MXNetError, match="b.rec: cannot read: opened with flag 'w'"):
        writer.read()
    with pytest.raises(DTypeError, match="b.rec: a record must be bytes, got str; encode text first"):
        writer.write("text")
    reader.close()
    with pytest.raises(MXNetError, match=r"cannot read: the file is closed; call open\(\) or reset\(\)"):
        reader.read()
    (tmp_path / "a.idx").write_text("1\t0\n")
    indexed = MXIndexedRecordIO(str(tmp_path / "a.idx"), path, "r")
    with pytest.raises(ParameterError, match="no key 2 in .*a.idx, which has 1 keys"):
        indexed.read_idx(2)
    (tmp_path / "a.idx").write_text("1 0\n")
    with pytest.raises(FormatError, match="a.idx: not an index of records: each line must be a key, a tab and a byte"):
        MXIndexedRecordIO(str(tmp_path / "a.idx"), path, "r")
    with pytest.raises(FileNotFoundError):
        MXRecordIO(str(tmp_path / "none.rec"), "r")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"no record", "6e 6f 20 72 instead of the magic word 0a 23 d7 ce"),
        (MAGIC + struct.pack("<I", 5) + b"abc", "the end of the file within a record, before byte 11"),
        (MAGIC + struct.pack("<I", 1 << 29), "the end of the file within a record"),
        (MAGIC + struct.pack("<I", 3 << 29), "a record's middle where one should begin"),
        ((MAGIC + struct.pack("<I", 1 << 29)) * 2, "a record that begins within another one"),
    ],
)
def test_damaged_files(tmp_path, content, found):
    (tmp_path / "a.rec").write_bytes(content)
    with pytest.raises(FormatError, match=f"a.rec: damaged or no RecordIO file: found {found}"):
        MXRecordIO(str(tmp_path / "a.rec"), "r").read()


def test_header_with_one_label():
    packed = pack(IRHeader(5, 2.5, 7, 8), b"sample")
    assert packed == struct.pack("<IfQQ", 0, 2.5, 7, 8) + b"sample"
    assert unpack(packed) == (IRHeader(0, 2.5, 7, 8), b"sample")


@pytest.mark.parametrize("label", [[1, 2, 3], np.array([1.0, 2, 3], "float32"), (1, 2, 3)])
def test_header_with_many_labels(label):
    packed = pack((0, label, 7, 0), b"sample")
    assert packed == struct.pack("<IfQQfff", 3, 0, 7, 0, 1, 2, 3) + b"sample"
    header, sample = unpack(packed)
    assert header.flag == 3 and header.id == 7 and header.label.tolist() == [1, 2, 3] and sample == b"sample"
    header.label[0] = 9  # the caller's own


def test_headers_that_are_cut_short():
    with pytest.raises(FormatError, match="unpack: a record's header has 24 bytes, got 3 bytes in all"):
        unpack(b"abc")
    with pytest.raises(FormatError, match=r"the header tells of 3 labels \(12 bytes\), but only 4 bytes follow it"):
        unpack(pack((0, [1, 2, 3], 0, 0), b"")[:28])
