"""NDArrayIter: which rows come when, names, types, and what it refuses."""

import numpy as np
import pytest

import raymx as mx
from raymx.errors import ParameterError, ShapeError

X = np.arange(10).reshape(10, 1)
Y = np.arange(10)


def rows(batch):
    data, label = batch.data[0].asnumpy().ravel().tolist(), batch.label[0].asnumpy().tolist()
    assert data == label == batch.index.tolist(), "data, label and index stay together"
    return [int(v) for v in data], batch.pad


def epochs(iterator, count=3):
    found = []
    for _ in range(count):
        found.append([rows(batch) for batch in iterator])
        iterator.reset()
    return found


WHOLE = [([0, 1, 2, 3], 0), ([4, 5, 6, 7], 0)]


def test_pad_wraps_to_the_start():
    assert epochs(mx.io.NDArrayIter(X, Y, 4)) == [[*WHOLE, ([8, 9, 0, 1], 2)]] * 3


def test_discard_drops_the_rest():
    assert epochs(mx.io.NDArrayIter(X, Y, 4, last_batch_handle="discard")) == [WHOLE] * 3


def test_roll_over_takes_the_rest_first():
    second = [([8, 9, 0, 1], 0), ([2, 3, 4, 5], 0), ([6, 7, 8, 9], 0)]
    assert epochs(mx.io.NDArrayIter(X, Y, 4, last_batch_handle="roll_over"), 4) == [WHOLE, second, WHOLE, second]


def test_a_reset_in_mid_epoch_drops_the_rest():
    iterator = mx.io.NDArrayIter(X, Y, 4, last_batch_handle="roll_over")
    next(iterator)
    iterator.reset()
    assert epochs(iterator, 1) == [WHOLE]
    iterator.hard_reset()
    assert epochs(iterator, 1) == [WHOLE], "a hard reset forgets what would roll over"


def test_a_batch_larger_than_the_data_wraps_again():
    assert epochs(mx.io.NDArrayIter(X[:2], Y[:2], 5), 2) == [[([0, 1, 0, 1, 0], 3)]] * 2


def test_shuffle_draws_a_new_order_from_numpy_for_every_epoch():
    np.random.seed(3)
    iterator = mx.io.NDArrayIter(X, Y, 4, shuffle=True)
    first, second = epochs(iterator, 2)
    np.random.seed(3)
    order = np.arange(10)
    np.random.shuffle(order)
    order = order.tolist()
    assert first == [(order[:4], 0), (order[4:8], 0), (order[8:] + order[:2], 2)]
    assert sorted(second[0][0] + second[1][0] + second[2][0][:2]) == list(range(10))
    assert second != first


def test_shuffled_rows_roll_over():
    iterator = mx.io.NDArrayIter(X, Y, 4, shuffle=True, last_batch_handle="roll_over")
    first, second = epochs(iterator, 2)
    seen = [row for batch, _ in first + second for row in batch]
    assert len(seen) == 20
    assert sorted(seen) == sorted(list(range(10)) * 2)


def test_parts_one_by_one():
    iterator = mx.io.NDArrayIter(X, Y, 4)
    with pytest.raises(ParameterError, match=r"there is no current batch; call iter_next\(\) or next\(\) first"):
        iterator.getdata()
    assert iterator.iter_next()
    assert iterator.getdata()[0].asnumpy().ravel().tolist() == [0, 1, 2, 3]
    assert iterator.getlabel()[0].shape == (4,)
    assert iterator.getpad() == 0
    assert [iterator.iter_next() for _ in range(4)] == [True, True, False, False]
    with pytest.raises(StopIteration):
        next(iterator)


def test_descriptions():
    iterator = mx.io.NDArrayIter(X, Y, 4, data_name="x", label_name="y")
    assert iterator.provide_data == [("x", (4, 1))]
    assert iterator.provide_label == [("y", (4,))]
    assert (iterator.num_data, iterator.num_batches, iterator.batch_size) == (10, 3, 4)
    assert mx.io.NDArrayIter(X, None, 4).provide_label == []


def test_one_dimensional_data():
    iterator = mx.io.NDArrayIter(np.linspace(-1, 1, 10), Y, 1)
    assert iterator.provide_data == [("data", (1,))]
    assert [b.data[0].shape for b in iterator] == [(1,)] * 10


@pytest.mark.parametrize(
    ("data", "label", "names", "label_names"),
    [
        (X, Y, ["data"], ["softmax_label"]),
        ([X], [Y], ["data"], ["softmax_label"]),
        ([X, X], [Y, Y], ["_0_data", "_1_data"], ["_0_softmax_label", "_1_softmax_label"]),
        ({"b": X, "a": X}, {"z": Y}, ["a", "b"], ["z"]),
        (mx.nd.array(X), mx.nd.array(Y), ["data"], ["softmax_label"]),
    ],
)
def test_names(data, label, names, label_names):
    iterator = mx.io.NDArrayIter(data, label, 5)
    assert [d.name for d in iterator.provide_data] == names
    assert [d.name for d in iterator.provide_label] == label_names
    batch = next(iterator)
    assert [a.shape for a in batch.data] == [(5, 1)] * len(names)
    assert [a.shape for a in batch.label] == [(5,)] * len(label_names)


def test_numpy_becomes_float32_and_ndarrays_keep_their_type():
    iterator = mx.io.NDArrayIter(X.astype("int32"), mx.nd.array(Y, dtype="int32"), 5)
    batch = next(iterator)
    assert (batch.data[0].dtype, iterator.provide_data[0].dtype) == (np.float32, np.float32)
    assert (batch.label[0].dtype, iterator.provide_label[0].dtype) == (np.int32, np.int32)


@pytest.mark.parametrize("handle", ["pad", "roll_over"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_the_users_array_may_change_afterwards(handle, shuffle):
    mine = np.ones((6, 2), "float32")
    iterator = mx.io.NDArrayIter(mine, None, 2, shuffle, handle)
    mine[:] = 5
    for _ in range(2):
        assert all((batch.data[0].asnumpy() == 1).all() for batch in iterator)
        iterator.reset()


def test_batches_stay_when_the_iterator_goes_on():
    iterator = mx.io.NDArrayIter(X, Y, 4, shuffle=True)
    kept = [(batch, batch.index.tolist()) for _ in range(2) for batch in (next(iterator), iterator.reset())[:1]]
    for batch, index in kept:
        assert batch.data[0].asnumpy().ravel().tolist() == index


def test_batches_are_on_this_process_whatever_the_default_is():
    with mx.gpu(1):
        assert next(mx.io.NDArrayIter(X, Y, 4)).data[0].context == mx.cpu()


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: mx.io.NDArrayIter(X, Y[:5], 4), ShapeError,
         "NDArrayIter: 'data' has 10 rows but 'softmax_label' has 5; they must agree."),
        (lambda: mx.io.NDArrayIter([], Y, 4), ShapeError, "NDArrayIter: data is empty"),
        (lambda: mx.io.NDArrayIter(np.zeros((0, 3)), None, 4), ShapeError, "NDArrayIter: 'data' has no rows."),
        (lambda: mx.io.NDArrayIter("s", Y, 4), ParameterError,
         "data 'data' must be a NumPy array or an NDArray, or data a list or dict of them, got str."),
        (lambda: mx.io.NDArrayIter(X, {"y": [1, 2]}, 4), ParameterError, "label 'y' must be .* got list."),
        (lambda: mx.io.NDArrayIter(X, Y, 4, last_batch_handle="rollover"), ParameterError,
         "last_batch_handle must be one of 'pad', 'discard', 'roll_over', got 'rollover'; did you mean 'roll_over'"),
        (lambda: mx.io.NDArrayIter(X, Y, 0), ParameterError, "batch_size must be at least 1, got 0."),
        (lambda: mx.io.NDArrayIter(X, Y, 11, last_batch_handle="discard"), ParameterError,
         "batch_size 11 is more than the 10 rows, and 'discard' needs a whole batch"),
    ],
)  # fmt: skip
def test_refusals(make, error, text):
    with pytest.raises(error, match=text):
        make()
