"""MNISTIter and idx files: values, order, parts, sources, and damaged files."""

import gzip
import struct
import uuid

import numpy as np
import pytest

import raymx as mx
from raymx.errors import FormatError, MXNetError, ParameterError, ShapeError

IMAGES = np.broadcast_to((np.arange(10, dtype="u1") * 10)[:, None, None], (10, 3, 2))
LABELS = np.arange(10, dtype="u1")
CODES = {"u1": 0x08, "i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}


def idx(array, code="u1"):
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[code], array.ndim, *array.shape)
    return head + array.astype(code).tobytes()


@pytest.fixture
def files(tmp_path):
    (tmp_path / "images").write_bytes(idx(IMAGES))
    (tmp_path / "labels").write_bytes(idx(LABELS))
    return {"image": str(tmp_path / "images"), "label": str(tmp_path / "labels"), "silent": True}


def labels(iterator):
    return [batch.label[0].asnumpy().astype(int).tolist() for batch in iterator]


def test_batches_in_order(files):
    iterator = mx.io.MNISTIter(**files, batch_size=4, shuffle=False)
    assert iterator.provide_data == [("data", (4, 1, 3, 2))]
    assert iterator.provide_label == [("softmax_label", (4,))]
    assert labels(iterator) == [[0, 1, 2, 3], [4, 5, 6, 7]], "a rest that fills no batch is dropped"
    iterator.reset()
    assert len(labels(iterator)) == 2


def test_parts_of_a_batch_are_arrays(files):
    iterator = mx.io.MNISTIter(**files, batch_size=4, shuffle=False)
    assert iterator.iter_next()
    assert iterator.getdata().shape == (4, 1, 3, 2)
    assert iterator.getlabel().asnumpy().tolist() == [0, 1, 2, 3]
    assert (iterator.getpad(), iterator.getindex().tolist()) == (0, [0, 1, 2, 3])


def test_pixels_are_parts_of_256(files):
    iterator = mx.io.MNISTIter(**files, batch_size=4, shuffle=False, flat=True)
    next(iterator)
    batch = next(iterator)
    assert batch.data[0].shape == (4, 6)
    assert batch.data[0].dtype == np.float32
    assert (batch.data[0].asnumpy()[:, 0] * 256).tolist() == [40, 50, 60, 70]


def test_shuffle_keeps_one_order_that_the_seed_decides(files):
    iterator = mx.io.MNISTIter(**files, batch_size=5, seed=5)
    first = labels(iterator)
    iterator.reset()
    assert labels(iterator) == first
    assert sorted(sum(first, [])) == list(range(10))
    assert labels(mx.io.MNISTIter(**files, batch_size=5, seed=5)) == first
    assert labels(mx.io.MNISTIter(**files, batch_size=5, seed=6)) != first


def test_images_and_labels_stay_together(files):
    for batch in mx.io.MNISTIter(**files, batch_size=5):
        assert (batch.data[0].asnumpy()[:, 0, 0, 0] * 25.6).round().tolist() == batch.label[0].asnumpy().tolist()


def test_parts_cover_the_file_without_overlap(files):
    parts = [labels(mx.io.MNISTIter(**files, batch_size=1, shuffle=False, num_parts=3, part_index=i)) for i in range(3)]
    assert [[row[0] for row in part] for part in parts] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]


def test_names_and_old_parameters(files):
    iterator = mx.io.MNISTIter(**files, batch_size=2, flat=1, shuffle=1, data_shape=(6,), label_name="sm_label")
    assert iterator.provide_label == [("sm_label", (2,))]
    with pytest.raises(ShapeError, match=r"data_shape \(784,\) does not fit the file's samples of shape \(6,\)"):
        mx.io.MNISTIter(**files, batch_size=2, flat=True, input_shape=(784,))


def test_gzip_is_recognised_whatever_the_name(files, tmp_path):
    (tmp_path / "images").write_bytes(gzip.compress(idx(IMAGES)))
    assert labels(mx.io.MNISTIter(**files, batch_size=10, shuffle=False)) == [list(range(10))]


def test_a_name_may_leave_out_gz(tmp_path):
    (tmp_path / "i.gz").write_bytes(gzip.compress(idx(IMAGES)))
    (tmp_path / "l.gz").write_bytes(gzip.compress(idx(LABELS)))
    iterator = mx.io.MNISTIter(str(tmp_path / "i"), str(tmp_path / "l"), 10, shuffle=False, silent=True)
    assert labels(iterator) == [list(range(10))]


def test_files_may_lie_behind_a_url():
    folder = f"memory://{uuid.uuid4().hex}"
    mx.storage.write_bytes(f"{folder}/i", gzip.compress(idx(IMAGES)))
    mx.storage.write_bytes(f"{folder}/l", idx(LABELS))
    assert labels(mx.io.MNISTIter(f"{folder}/i", f"{folder}/l", 10, shuffle=False)) == [list(range(10))]


def test_a_line_to_the_log_unless_silent(files, caplog):
    caplog.set_level("INFO", "raymx")
    mx.io.MNISTIter(**files, batch_size=2)
    assert not caplog.records
    mx.io.MNISTIter(**{**files, "silent": False}, batch_size=2)
    assert caplog.messages == [f"MNISTIter: 10 images of shape (1, 3, 2) from {files['image']}"]


@pytest.mark.parametrize("code", CODES)
def test_idx_files_of_every_type(tmp_path, code):
    values = np.array([[1, 2, 3], [4, 5, 100]])
    (tmp_path / "x").write_bytes(idx(values, code))
    found = mx.io.read_idx(tmp_path / "x")
    assert found.dtype == np.dtype(code).newbyteorder("=")
    np.testing.assert_array_equal(found, values)
    found[0, 0] = 7  # the array is the caller's own


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"PK\x03\x04 a zip", "no idx file of 3 dimensions: it begins with 50 4b 03 04, expected 00 00 08 03."),
        (b"", "no idx file of 3 dimensions: it begins with nothing, expected 00 00 08 03."),
        (idx(LABELS), "no idx file of 3 dimensions: it begins with 00 00 08 01, expected 00 00 08 03."),
        (idx(IMAGES)[:10], "truncated idx file: it ends within the 3 dimensions of its head."),
        (idx(IMAGES)[:-1], r"truncated idx file: shape \(10, 3, 2\) needs 60 bytes after the head, found only 59."),
        (idx(IMAGES) + b"x", "overlong idx file: .* needs 60 bytes after the head, found more."),
        (gzip.compress(idx(IMAGES))[:-20], r"damaged gzip file \(.*\); fetch it again."),
        (gzip.compress(idx(IMAGES)[:-1]), "truncated idx file: .* found only 59."),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, *[2**31] * 3), "truncated idx file: .* found only 0."),
    ],
)
def test_damaged_files(files, tmp_path, content, text):
    (tmp_path / "images").write_bytes(content)
    with pytest.raises(FormatError, match=f"{files['image']}: {text}"):
        mx.io.MNISTIter(**files)


def test_missing_files(files):
    with pytest.raises(MXNetError, match="MNISTIter: image file /no/where does not exist, nor does /no/where.gz; give "
                                         "the path or URL of an idx file such as train-images-idx3-ubyte."):
        mx.io.MNISTIter(**{**files, "image": "/no/where"})
    with pytest.raises(MXNetError, match="label file /no/where does not .* such as train-labels-idx1-ubyte."):
        mx.io.MNISTIter(**{**files, "label": "/no/where"})


def test_other_refusals(files, tmp_path):
    with pytest.raises(ParameterError, match="part_index must be from 0 to num_parts - 1 = 1, got 2."):
        mx.io.MNISTIter(**files, num_parts=2, part_index=2)
    (tmp_path / "labels").write_bytes(idx(LABELS[:4]))
    with pytest.raises(ShapeError, match="images has 10 images but .*labels has 4 labels"):
        mx.io.MNISTIter(**files)
