"""`.params` bytes: what MXNet wrote is read, what is written is its bytes, and damage is a FormatError."""

from __future__ import annotations

import base64
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from raymx import params
from raymx.errors import DTypeError, FormatError, ParameterError, ShapeError

ARTIFACTS = Path(__file__).parents[2] / "shared" / "artifacts"
DTYPES = ["float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool"]

# written by MXNet 1.9.1: one array of each element type; a dict; two sparse arrays
MXNET_LIST = base64.b64decode(
    "EgEAAAAAAAAAAAAAAAAAAAgAAAAAAAAAyfqT+QAAAAACAAAAAQAAAAAAAAACAAAAAAAAAAEAAAAAAAAAAAAAAAAAwD8AAADAyfqT+QAAAAACAAAA"
    "AQAAAAAAAAACAAAAAAAAAAEAAAAAAAAAAQAAAAAAAAAAAPg/AAAAAAAAAMDJ+pP5AAAAAAIAAAABAAAAAAAAAAIAAAAAAAAAAQAAAAAAAAACAAAA"
    "AD4AwMn6k/kAAAAAAgAAAAIAAAAAAAAAAgAAAAAAAAABAAAAAAAAAAMAAAABAgMEyfqT+QAAAAACAAAAAgAAAAAAAAACAAAAAAAAAAEAAAAAAAAA"
    "BAAAAAEAAAACAAAAAwAAAAQAAADJ+pP5AAAAAAIAAAACAAAAAAAAAAIAAAAAAAAAAQAAAAAAAAAFAAAAAQIDBMn6k/kAAAAAAgAAAAIAAAAAAAAA"
    "AgAAAAAAAAABAAAAAAAAAAYAAAABAAAAAAAAAAIAAAAAAAAAAwAAAAAAAAAEAAAAAAAAAMn6k/kAAAAAAQAAAAMAAAAAAAAAAQAAAAAAAAAHAAAA"
    "AQABAAAAAAAAAAA="
)
MXNET_DICT = base64.b64decode(
    "EgEAAAAAAAAAAAAAAAAAAAIAAAAAAAAAyfqT+QAAAAADAAAAAgAAAAAAAAABAAAAAAAAAAIAAAAAAAAAAQAAAAAAAAAAAAAAAACAPwAAgD8AAIA/"
    "AACAP8n6k/kAAAAAAQAAAAEAAAAAAAAAAQAAAAAAAAAGAAAABwAAAAAAAAACAAAAAAAAAAEAAAAAAAAAYgYAAAAAAAAAYSBiL8Op"
)
MXNET_ROW_SPARSE = base64.b64decode(
    "EgEAAAAAAAAAAAAAAAAAAAEAAAAAAAAAyfqT+QEAAAACAAAAAQAAAAAAAAACAAAAAAAAAAIAAAACAAAAAAAAAAIAAAAAAAAAAQAAAAAAAAAAAAAA"
    "BgAAAAEAAAABAAAAAAAAAAAAAAAAAIA/AAAAAAAAAAAAAAAAAAAAAA=="
)
LIST = [
    *(np.array([[1.5, -2]], dtype) for dtype in ("float32", "float64", "float16")),
    *(np.array([[1, 2], [3, 4]], dtype) for dtype in ("uint8", "int32", "int8", "int64")),
    np.array([True, False, True]),
]
DICT = {"b": np.ones((2, 1, 2), "float32"), "a b/é": np.array([7])}


def same(got, expected):
    """Equal values, shapes and element types, under the same names in the same order."""
    if isinstance(expected, dict):
        assert list(got) == list(expected)
        got, expected = list(got.values()), list(expected.values())
    assert isinstance(got, list) and len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        assert (g.dtype, g.shape) == (e.dtype, e.shape)
        assert g.tobytes() == e.tobytes()


def file_of(*arrays: bytes, names: bytes = struct.pack("<Q", 0)) -> bytes:
    return struct.pack("<QQQ", 0x112, 0, len(arrays)) + b"".join(arrays) + names


def v2(shape=(2,), storage=0, dtype=0, elements=bytes(8)) -> bytes:
    head = struct.pack(f"<IiI{len(shape)}q", 0xF993FAC9, storage, len(shape), *shape)
    return head + struct.pack("<iii", 1, 0, dtype) + elements


# ---- MXNet's own bytes ----


def test_reads_what_mxnet_wrote():
    same(params.loads(MXNET_LIST), LIST)
    same(params.loads(MXNET_DICT), DICT)


def test_writes_mxnets_bytes():
    assert params.dumps(LIST) == MXNET_LIST
    assert params.dumps(DICT) == MXNET_DICT


@pytest.mark.parametrize("head", [struct.pack("<III", 2, 1, 3), struct.pack("<IIqq", 0xF993FAC8, 2, 1, 3)])
def test_reads_the_older_forms(head):
    gpu_3 = struct.pack("<iii", 2, 3, 4)
    names = struct.pack("<QQ1sQ1s", 2, 1, b"w", 1, b"b")
    data = file_of(head + gpu_3 + struct.pack("<3i", 5, -6, 7), v2(), names=names)
    same(params.loads(data), {"w": np.array([[5, -6, 7]], "int32"), "b": np.zeros(2, "float32")})


@pytest.mark.parametrize("name", ["nd-list", "nd-dict"])
def test_reads_the_shared_artifacts(name):
    path = ARTIFACTS / f"{name}.params"
    if not path.exists():
        pytest.skip(f"no {path}")
    with np.load(ARTIFACTS / "nd.npz") as arrays:
        expected = {key.split(":", 1)[1]: arrays[key] for key in sorted(arrays)}
    data = path.read_bytes()
    same(params.loads(data), expected if name == "nd-dict" else list(expected.values()))
    assert params.dumps(params.loads(data)) == data


# ---- round trips ----

ARRAYS = st_np.arrays(st.sampled_from(DTYPES), st_np.array_shapes(max_dims=5, max_side=4))


@given(st.one_of(st.lists(ARRAYS, max_size=4), st.dictionaries(st.text(max_size=8), ARRAYS, min_size=1, max_size=4)))
def test_round_trip(arrays):
    same(params.loads(params.dumps(arrays)), arrays)


@given(ARRAYS)
def test_round_trip_of_one_array(array):
    same([params.load_array(params.dump_array(array))], [array])


def test_one_array_is_the_same_bytes_as_in_a_file():
    assert file_of(params.dump_array(LIST[0])) == params.dumps(LIST[:1])


def test_loaded_arrays_are_their_own():
    data = bytearray(params.dumps([np.arange(3)]))
    array = params.loads(data)[0]
    data[:] = bytes(len(data))
    array += 1
    assert array.tolist() == [1, 2, 3]


def test_strided_and_big_endian_arrays_are_written_by_value():
    array = np.arange(6, dtype=">i4").reshape(2, 3).T[::-1]
    same(params.loads(params.dumps([array])), [array.astype("<i4")])


def test_any_nonzero_byte_is_true():
    array = params.load_array(v2((3,), dtype=7, elements=b"\x00\x02\x80"))
    assert array.tolist() == [False, True, True] and array.view("u1").tolist() == [0, 1, 1]


def test_an_empty_dict_comes_back_as_an_empty_list():
    assert params.loads(params.dumps({})) == []


# ---- what cannot be written ----


@pytest.mark.parametrize(
    ("arrays", "kind", "text"),
    [
        ({"w": np.ones(2, "complex64")}, DTypeError, "save: array 'w' must have an element type of float32, "),
        ([np.ones(2), np.array(1.0)], ShapeError, "save: array 1 must have at least one dimension and one element, "),
        ([np.ones((2, 0))], ShapeError, r"and one element, got shape \(2, 0\)\."),
        ({3: np.ones(2)}, ParameterError, "save: names of arrays must be strings, got 3."),
    ],
)
def test_refuses_to_write(arrays, kind, text):
    with pytest.raises(kind, match=text):
        params.dumps(arrays)


# ---- what cannot be read ----


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", r"f\.params: at byte 0: truncated: the head of a \.params file needs 8 bytes, 0 are left\."),
        (b"PK\x03\x04" + bytes(40), r"at byte 0: not a \.params file: expected 0x112, found 0x4034b50\."),
        (file_of(v2())[:60], r"at byte 56: truncated: array 0 of shape \(2,\) and type float32 needs 8 bytes"),
        (struct.pack("<QQQ", 0x112, 0, 2**63), "at byte 16: 9223372036854775808 arrays are announced, but"),
        (file_of(v2((2, -1))), r"at byte 24: array 0 must have dimensions of at least 1, found shape \(2, -1\)\."),
        (file_of(v2((0,))), r"found shape \(0,\)"),
        (file_of(v2(())), r"array 0 must have dimensions of at least 1, found shape \(\)\."),
        (file_of(v2((2**40, 2**40))), r"array 0 of shape \(1099511627776, 1099511627776\) and type float32 needs"),
        (file_of(v2(storage=1)), r"at byte 28: array 0 must have dense storage \(0\), found 1 \(row-sparse\); in MX"),
        (MXNET_ROW_SPARSE, r"array 0 must have dense storage \(0\), found 1 \(row-sparse\); in MXNet, save"),
        (file_of(v2(dtype=12)), r"at byte 52: array 0 has the unknown element type 12 \(known: 0 float32, 1 float64, "),
        (file_of(v2(), b"\xff" * 32), r"array 1: expected an array \(0xf993fac9, 0xf993fac8 or .*, found 0xffffffff\."),
        (file_of(v2(), names=struct.pack("<Q", 3)), "at byte 64: expected 1 names or none, found 3."),
        (file_of(v2(), names=struct.pack("<QQ1s", 1, 2**60, b"a")), "at byte 80: truncated: name 0 needs 11529215046"),
        (file_of(v2(), names=struct.pack("<QQ1s", 1, 1, b"\xff")), r"name 0 must be UTF-8, found b'\\xff'\."),
        (file_of(v2(), v2(), names=struct.pack("<QQ1sQ1s", 2, 1, b"a", 1, b"a")), "two arrays are called 'a'"),
        (MXNET_DICT + b"xyz", "expected the end of the file, found 3 more bytes"),
    ],
)
def test_refuses_to_read(data, text):
    with pytest.raises(FormatError, match=text) as caught:
        params.loads(data, source="f.params")
    assert str(caught.value).startswith("f.params: at byte ")


def test_refuses_to_read_more_than_one_array():
    with pytest.raises(FormatError, match="x: at byte 40: expected the end of the array, found 40 more bytes"):
        params.load_array(v2() + v2(), source="x")


def read_or_refuse(data: bytes):
    """Either a FormatError or arrays no larger than the bytes, whatever the bytes are."""
    try:
        found = params.loads(data)
    except FormatError:
        return
    arrays = found.values() if isinstance(found, dict) else found
    assert sum(array.nbytes for array in arrays) <= len(data)


@pytest.mark.parametrize("data", [MXNET_LIST, MXNET_DICT, MXNET_ROW_SPARSE])
def test_every_truncation_is_refused(data):
    for end in range(len(data)):
        with pytest.raises(FormatError):
            params.loads(data[:end])


@settings(max_examples=500)
@given(st.data())
def test_damage_is_refused_or_harmless(data):
    damaged = bytearray(data.draw(st.sampled_from([MXNET_LIST, MXNET_DICT])))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255)), max_size=8)):
        damaged[at] = value
    read_or_refuse(bytes(damaged))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_harmless(tail):
    read_or_refuse(tail)
    read_or_refuse(file_of(tail))


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<QQQ", 0x112, 0, 2**40),
        file_of(v2((2**33,))),
        file_of(struct.pack("<II", 0xF993FAC8, 2**31)),
        file_of(v2(), names=struct.pack("<QQ", 1, 2**40)),
    ],
    ids=["count", "shape", "ndim", "name"],
)
def test_absurd_sizes_allocate_nothing(data):
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            params.loads(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_arrays_with_numpys_shapes_are_read():
    same(params.loads(file_of(v2().replace(b"\xc9\xfa\x93\xf9", b"\xca\xfa\x93\xf9"))), [np.zeros(2, "float32")])
