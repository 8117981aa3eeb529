"""Indexing: NumPy's meaning, views where strides can express them, copies elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

import raymx as mx
from raymx import indexing
from raymx.errors import ShapeError
from raymx.indexing import Positions, Window
from tests import devices

FLOAT32 = np.dtype("float32")


def counting(*shape) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def resolve(key, shape=(4, 6)) -> Window | Positions:
    keys = key if isinstance(key, tuple) else (key,)
    return indexing.resolve(keys, shape, indexing.contiguous_strides(shape, 4), FLOAT32)


# ---- the pure part ----


def test_contiguous_strides():
    assert indexing.contiguous_strides((2, 3, 4), 4) == (48, 16, 4)
    assert indexing.contiguous_strides((5,), 8) == (8,)


@pytest.mark.parametrize(
    ("key", "window"),
    [
        (1, ((6,), (4,), 24)), (-1, ((6,), (4,), 72)), (slice(1, 3), ((2, 6), (24, 4), 24)),
        (slice(None, None, -1), ((4, 6), (-24, 4), 72)), ((slice(None), 2), ((4,), (24,), 8)),
        ((1, 2), ((1,), (4,), 32)), ((1, 2, ...), ((1,), (4,), 32)),
        ((..., slice(4, None, -2)), ((4, 3), (24, -8), 16)),
        ((None, 0), ((1, 6), (0, 4), 0)), ((), ((4, 6), (24, 4), 0)), (np.int64(2), ((6,), (4,), 48)),
    ],
)  # fmt: skip
def test_windows(key, window):
    assert resolve(key) == Window(*window)


def test_no_memory_is_read_to_resolve_an_index():
    """The element lies terabytes behind the one byte that stands for the array."""
    shape = (1 << 20, 1 << 22)
    assert resolve(((1 << 20) - 1, (1 << 22) - 1), shape).offset == 4 * ((1 << 42) - 1)


def test_positions_do_not_follow_their_source():
    key, nested = np.array([0, 1]), [1, 2]
    found, listed = resolve(key), resolve(nested)
    key[:], nested[:] = 3, [3, 3]
    assert found.index[0].tolist() == [0, 1] and found.shape == (2, 6)
    assert listed.index[0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (4, "index 4 is out of bounds for axis 0 with size 4"), (-5, "index -5 is out of bounds"),
        ((0, 6), "index 6 is out of bounds for axis 1 with size 6"), ((0, 0, 0), "too many indices for array"),
        (1.0, "only integers, slices"), ("a", "only integers, slices"),
        (slice(2, 2), r"index \[2:2\] selects nothing from"),
        ((..., slice(9, None, 2)), r"index \[\.\.\., 9::2\] selects nothing from shape \(4, 6\); there are no arrays"),
        ([], r"index \[\[\]\] selects nothing"), (np.zeros((4, 6), bool), "selects nothing from shape"),
        (False, r"index \[False\] selects nothing"), ([0, 4], "index 4 is out of bounds for axis 0"),
        (np.ones(3, bool), "boolean index did not match"), (np.ones(2), "arrays used as indices must be of integer"),
        ((..., ...), "only have a single ellipsis"),
    ],
)  # fmt: skip
def test_refusals(key, text):
    with pytest.raises(IndexError, match=text):
        resolve(key)
    with pytest.raises(IndexError, match=text):
        mx.nd.array(counting(4, 6))[key]


@given(st_np.array_shapes(max_dims=4, max_side=4), st.data())
def test_reshape_finds_the_strides_that_numpy_finds(shape, data):
    host = counting(*shape)[data.draw(st_np.basic_indices(shape))]
    assume(host.size and host.ndim)
    size, new_shape = host.size, []
    while size > 1:
        new_shape.append(data.draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0])))
        size //= new_shape[-1]
    new_shape = tuple(new_shape) or (1,)
    found = indexing.reshape(host.shape, host.strides, host.dtype, new_shape)
    shares = np.shares_memory(host.reshape(new_shape), host)
    assert (found is not None) == shares
    if found is not None:
        window = np.lib.stride_tricks.as_strided(host, found.shape, found.strides)
        np.testing.assert_array_equal(window, host.reshape(new_shape))


@given(st.integers(1, 5), st.one_of(st.integers(-7, 7), st.slices(5)))
def test_rows_are_what_resolve_finds(length, key):
    """The short way for integers and row slices says the same as the long one, or nothing."""
    found = indexing.rows(key, (length, 3))
    if found is not None:
        start, shape = found
        assert resolve(key, (length, 3)) == Window(shape, indexing.contiguous_strides(shape, 4), start * 12)


# ---- on arrays ----


def same(got, expected) -> None:
    expected = np.asarray(expected)
    assert got.shape == (expected.shape or (1,))
    np.testing.assert_array_equal(got.asnumpy(), expected.reshape(got.shape))


VIEWS = [
    0, -1, np.int32(2), slice(1, 3), slice(None, None, 2), slice(None, None, -1), slice(-2, None), slice(3, 0, -2),
    ..., (), None, (0, 1, 2), (..., 0), (0, ...), (slice(None), 1), (slice(None), slice(1), slice(None, None, -1)),
    (None, slice(1, None), ..., None), (slice(None), -1, None), (..., slice(None, None, 3)), (3, 2, 4),
]  # fmt: skip


@pytest.mark.parametrize("key", VIEWS, ids=str)
def test_views(key):
    host = counting(4, 3, 5)
    x = mx.nd.array(host)
    part = x[key]
    same(part, host[key])
    part[:] = -1
    host[key] = -1
    same(x, host)
    x[key] = 5
    host[key] = 5
    same(part, np.broadcast_to(5, np.shape(host[key])))
    same(x, host)


COPIES = [
    [0, 2], [-1, -1, 0], np.array([1, 3]), np.array([[0, 1], [2, 3]]), ([0, 1], [2, 1]), (slice(None), [0, 2]),
    ([0, 3], slice(None), 1), (0, [1, 1]), (..., [0, 4, 4]), ([[0], [1]], [[0, 2]]), (None, [1, 2]), np.array(2),
    [True, False, True, False], np.arange(4) > 1, (slice(None), np.array([True, False, True])), True, (0, True),
    np.arange(60).reshape(4, 3, 5) % 7 == 0, (slice(None, None, -1), [2, 0]), np.uint8([1, 2]),
]  # fmt: skip


@pytest.mark.parametrize("key", COPIES, ids=str)
def test_integer_and_boolean_arrays_copy(key):
    host = counting(4, 3, 5)
    x = mx.nd.array(host)
    part = x[key]
    same(part, host[key])
    part[:] = -1
    same(x, host)
    x[key] = 5
    host[key] = 5
    same(x, host)
    value = -counting(*np.shape(host[key]))
    x[key] = value
    host[key] = value
    same(x, host)


def test_indexing_with_ndarrays():
    host = counting(4, 3)
    x = mx.nd.array(host)
    same(x[mx.nd.array([0, 2])], host[[0, 2]])  # float32 by default, and an index all the same
    same(x[mx.nd.array([3, 0], dtype="int8"), mx.nd.array([1, 1])], host[[3, 0], [1, 1]])
    same(x[(x > 4).astype(bool)], host[host > 4])
    same(x[mx.nd.array([1], dtype="int32") :], host[1:])
    x[(x > 4).astype(bool)] = 0
    host[host > 4] = 0
    same(x, host)


def test_indices_from_another_device():
    with devices.in_this_process():
        x = mx.nd.array(counting(4, 3))
        same(x[mx.nd.array([2, 1], mx.cpu(1))], counting(4, 3)[[2, 1]])


def test_what_an_index_reads_is_what_was_there_before():
    x = mx.nd.array(counting(4))
    key = np.array([0, 1])
    taken = x[key]
    key[:] = 3
    x += 10
    same(taken, [0, 1])


def test_repeated_positions_take_the_last_value():
    x = mx.nd.zeros((3,))
    x[[1, 1, 2]] = [5, 6, 7]
    same(x, [0, 6, 7])


def test_views_of_read_only_arrays_cannot_be_assigned_but_copies_can():
    x = mx.nd.array(counting(4))
    x.writable = False
    taken = x[[0, 1]]
    taken[:] = 9
    same(taken, [9, 9])
    with pytest.raises(ValueError, match="read-only"):
        x[1:][0] = 1


# ---- random indices on random views ----


@st.composite
def arrays_and_views(draw):
    """An NDArray and a NumPy array with the same elements, perhaps both seen through the same views."""
    host = counting(*draw(st_np.array_shapes(max_dims=4, max_side=5)))
    ours, theirs = [mx.nd.array(host)], [host]
    for _ in range(draw(st.integers(0, 2))):
        key = draw(st_np.basic_indices(theirs[-1].shape, allow_newaxis=True))
        if np.size(theirs[-1][key]) and np.ndim(theirs[-1][key]):
            ours.append(ours[-1][key])
            theirs.append(theirs[-1][key])
    return ours, theirs


@given(arrays_and_views(), st.data())
def test_basic_indices_mean_what_they_mean_in_numpy(pair, data):
    """Reading, writing and sharing, on arrays and on views of views."""
    ours, theirs = pair
    key = data.draw(st_np.basic_indices(theirs[-1].shape, allow_newaxis=True))
    expected = theirs[-1][key]
    if not np.size(expected):
        with pytest.raises(IndexError, match="selects nothing"):
            ours[-1][key]
        return
    part = ours[-1][key]
    same(part, expected)
    value = data.draw(st.sampled_from([-1.0, -counting(*np.shape(expected)) - 1]))
    if data.draw(st.booleans()):
        ours[-1][key] = value
    else:
        part[:] = value
    theirs[-1][key] = value
    for got, want in zip((*ours, part), (*theirs, theirs[-1][key]), strict=True):
        same(got, want)


@given(arrays_and_views(), st.data())
def test_array_indices_mean_what_they_mean_in_numpy(pair, data):
    ours, theirs = pair
    shape = theirs[-1].shape
    keys = data.draw(
        st.one_of(
            st_np.integer_array_indices(shape, result_shape=st_np.array_shapes(max_dims=2, max_side=3)),
            st_np.arrays(bool, shape).map(lambda mask: (mask,)),
        )
    )
    if not theirs[-1][keys].size:
        with pytest.raises(IndexError, match="selects nothing"):
            ours[-1][keys]
        return
    same(ours[-1][keys], theirs[-1][keys])
    ours[-1][keys] = -1
    theirs[-1][keys] = -1
    for got, want in zip(ours, theirs, strict=True):
        same(got, want)


@given(arrays_and_views(), st.data())
def test_assignment_stretches_as_in_numpy(pair, data):
    ours, theirs = pair
    shape = data.draw(st_np.broadcastable_shapes(theirs[-1].shape, max_dims=4, max_side=5))
    value = -counting(*shape)
    try:
        theirs[-1][:] = value
    except ValueError:
        fewer_axes = len(shape) <= theirs[-1].ndim
        if fewer_axes or [n for n in shape if n > 1] != [n for n in theirs[-1].shape if n > 1]:
            with pytest.raises(ShapeError, match="assignment: shape .* does not broadcast to"):
                ours[-1][:] = value
            return
        theirs[-1][:] = value.reshape(theirs[-1].shape)  # MXNet lets axes of size 1 stand anywhere
    ours[-1][:] = value
    for got, want in zip(ours, theirs, strict=True):
        same(got, want)
