"""CSVIter: shapes, types, padding, and files that do not fit."""

from pathlib import Path

import numpy as np
import pytest

import raymx as mx
from raymx.errors import FormatError, ParameterError, ShapeError


@pytest.fixture
def files(tmp_path):
    np.savetxt(tmp_path / "x.csv", np.arange(20).reshape(5, 4), "%d", ",")
    np.savetxt(tmp_path / "y.csv", np.arange(5), "%d")
    return str(tmp_path / "x.csv"), str(tmp_path / "y.csv")


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_batches(files, dtype):
    data = mx.io.CSVIter(files[0], (2, 2), files[1], batch_size=2, dtype=dtype)
    assert (data.provide_data, data.provide_label) == ([("data", (2, 2, 2))], [("label", (2,))])
    found = [(data.getdata().asnumpy(), batch.label[0].asnumpy().tolist(), batch.pad) for batch in data]
    assert found[0][0].tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert found[0][0].dtype == np.dtype(dtype)
    assert [f[1:] for f in found] == [([0, 1], 0), ([2, 3], 0), ([4, 0], 1)]


def test_the_rest_may_be_dropped_and_labels_missing(files):
    data = mx.io.CSVIter(data_csv=files[0], data_shape=(4,), batch_size=2, round_batch=False)
    assert [batch.label[0].asnumpy().tolist() for batch in data] == [[0, 0], [0, 0]]


def test_urls_are_read(files):
    mx.storage.write_bytes("memory://x.csv", Path(files[0]).read_bytes())
    assert mx.io.CSVIter("memory://x.csv", (4,), batch_size=5).next().data[0].shape == (5, 4)


def test_refusals(files, tmp_path):
    with pytest.raises(ShapeError, match=r"has 4 numbers in a line, shape \(3,\) needs 3"):
        mx.io.CSVIter(files[0], (3,))
    (tmp_path / "bad.csv").write_text("1,b\n")
    with pytest.raises(FormatError, match=r"bad.csv: no lines of comma-separated numbers"):
        mx.io.CSVIter(str(tmp_path / "bad.csv"), (2,))
    (tmp_path / "two.csv").write_text("1\n2\n")
    with pytest.raises(ShapeError, match="has 5 lines but .*two.csv has 2"):
        mx.io.CSVIter(files[0], (4,), str(tmp_path / "two.csv"))
    with pytest.raises(ParameterError, match="dtype must be of numbers, got 'str'"):
        mx.io.CSVIter(files[0], (4,), dtype="str")
