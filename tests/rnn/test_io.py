"""Sentences as numbers and in buckets."""

from __future__ import annotations

import numpy as np
import pytest

import raymx as mx
from raymx.errors import ParameterError


def test_words_are_numbered_as_they_come():
    coded, vocab = mx.rnn.encode_sentences([["a", "b"], ["b", "c"]], start_label=1, invalid_label=0)
    assert coded == [[1, 2], [2, 3]]
    assert vocab == {"\n": 0, "a": 1, "b": 2, "c": 3}


def test_the_invalid_label_is_left_out():
    coded, _ = mx.rnn.encode_sentences([["a", "b", "c"]], invalid_label=1)
    assert coded == [[0, 2, 3]]


def test_words_that_a_vocabulary_lacks():
    vocab = {"\n": 0, "a": 1, "?": 2}
    coded, _ = mx.rnn.encode_sentences([["a", "x"]], vocab=vocab, unknown_token="?")
    assert coded == [[1, 2]]
    with pytest.raises(ParameterError, match="the word 'x' is not in vocab; give unknown_token for it"):
        mx.rnn.encode_sentences([["a", "x"]], vocab=vocab)


sentences = [[1, 2]] * 4 + [[3, 4, 5]] * 5 + [[1] * 9]


@pytest.mark.parametrize("layout", ["NT", "TN"])
def test_batches_by_length(layout, caplog):
    it = mx.rnn.BucketSentenceIter(sentences, 2, buckets=[4, 2], invalid_label=0, layout=layout)
    assert "discarded 1 sentences longer than the largest bucket (4)" in caplog.text
    assert it.buckets == [2, 4]
    assert it.default_bucket_key == 4
    assert it.provide_data[0].shape == ((2, 4) if layout == "NT" else (4, 2))
    batches = list(it)
    assert sorted(b.bucket_key for b in batches) == [2, 2, 4, 4]  # the fifth sentence fills no batch
    for batch in batches:
        data, label = (x[0].asnumpy() if layout == "NT" else x[0].asnumpy().T for x in (batch.data, batch.label))
        assert data.shape == (2, batch.bucket_key)
        assert tuple(batch.provide_data[0])[1] == batch.data[0].shape
        np.testing.assert_array_equal(label[:, :-1], data[:, 1:])
        np.testing.assert_array_equal(label[:, -1], 0)
    it.reset()
    assert len(list(it)) == 4


def test_buckets_of_frequent_lengths():
    it = mx.rnn.BucketSentenceIter(sentences, 4)
    assert it.buckets == [2, 3]


def test_what_fits_nowhere():
    with pytest.raises(ParameterError, match="no length has 8 sentences for a batch; give buckets"):
        mx.rnn.BucketSentenceIter(sentences, 8)
    with pytest.raises(ParameterError, match=r"no sentence fits the buckets \[1\]"):
        mx.rnn.BucketSentenceIter(sentences, 2, buckets=[1])
    with pytest.raises(ParameterError, match="layout must begin with 'NT' or 'TN', got 'CT'"):
        mx.rnn.BucketSentenceIter(sentences, 2, layout="CT")
