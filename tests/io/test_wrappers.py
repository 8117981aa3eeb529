"""ResizeIter and PrefetchingIter: how many batches, which names, and errors that come where their batch would."""

import threading

import numpy as np
import pytest

import raymx as mx
from raymx.errors import MXNetError, ParameterError


def numbers(count, batch_size=2, **options):
    return mx.io.NDArrayIter(np.arange(count), np.arange(count), batch_size, **options)


def seen(iterator):
    return [batch.data[0].asnumpy().tolist() for batch in iterator]


def test_an_epoch_has_the_size_that_was_asked_for():
    short, long = mx.io.ResizeIter(numbers(6), 2), mx.io.ResizeIter(numbers(4), 3)
    assert seen(short) == [[0, 1], [2, 3]]
    assert seen(long) == [[0, 1], [2, 3], [0, 1]]
    short.reset()
    assert seen(short) == [[0, 1], [2, 3]], "the inner one was reset, too"
    assert short.provide_data == [("data", (2,))]
    assert (short.getpad(), short.getindex().tolist()) == (0, [2, 3])


def test_the_inner_iterator_may_go_on():
    resized = mx.io.ResizeIter(numbers(6), 2, reset_internal=False)
    assert seen(resized) == [[0, 1], [2, 3]]
    resized.reset()
    assert seen(resized) == [[4, 5], [0, 1]]


def test_prefetching_gives_the_same_batches():
    ahead = mx.io.PrefetchingIter(numbers(7))
    for _ in range(2):
        assert seen(ahead) == seen(numbers(7))
        assert ahead.getpad() == 1
        assert seen(ahead) == [], "until it is reset"
        ahead.reset()
    assert ahead.next().label[0].asnumpy().tolist() == [0, 1]
    ahead.reset()
    assert len(seen(ahead)) == 4
    ahead.close()


def test_several_iterators_side_by_side():
    both = mx.io.PrefetchingIter([numbers(4), numbers(4)], [{"data": "a"}, {"data": "b"}],
                                 [{"softmax_label": "x"}, {"softmax_label": "y"}])  # fmt: skip
    assert both.provide_data == [("a", (2,)), ("b", (2,))]
    assert both.provide_label == [("x", (2,)), ("y", (2,))]
    batch = both.next()
    assert [len(batch.data), len(batch.label)] == [2, 2]
    both.close()


def test_threads_end():
    before = threading.active_count()
    ahead = mx.io.PrefetchingIter(numbers(100))
    ahead.next()
    ahead.close()
    assert threading.active_count() == before


class Failing(mx.io.DataIter):
    provide_data, provide_label = [("data", (2,))], []

    def next(self):
        raise OSError("no disk")


def test_an_error_comes_where_its_batch_would():
    with pytest.raises(OSError, match="no disk"):
        mx.io.PrefetchingIter(Failing(2)).next()


def test_refusals():
    with pytest.raises(MXNetError, match="the iterators give different numbers of batches"):
        seen(mx.io.PrefetchingIter([numbers(4), numbers(6)]))
    with pytest.raises(MXNetError, match=r"the iterators pad differently: \[1, 0\]"):
        seen(mx.io.PrefetchingIter([numbers(3), numbers(4)]))
    with pytest.raises(ParameterError, match="rename_data must have a dict for each of 1 iterators, got 2"):
        mx.io.PrefetchingIter(numbers(4), [{}, {}])
    with pytest.raises(ParameterError, match="give at least one iterator"):
        mx.io.PrefetchingIter([])
    empty = numbers(4)
    empty.reset = lambda: None
    seen(empty)
    with pytest.raises(MXNetError, match="ResizeIter: the iterator gives no batches"):
        mx.io.ResizeIter(empty, 2).next()
