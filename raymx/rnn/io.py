"""Sentences as numbers, and batches of sentences of like length."""

from __future__ import annotations

import bisect
import logging
import random
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from raymx import ndarray as nd
from raymx.errors import ParameterError
from raymx.io import DataBatch, DataDesc, DataIter

__all__ = ["BucketSentenceIter", "encode_sentences"]

_log = logging.getLogger("raymx")


def encode_sentences(
    sentences: Iterable[Iterable[Hashable]], vocab: dict | None = None, invalid_label: int = -1,
    invalid_key: Hashable = "\n", start_label: int = 0, unknown_token: Hashable | None = None,
):  # fmt: skip
    """Sentences (lists of words) as lists of numbers, and the numbers by word.

    Without `vocab` a new one is made: words are numbered from `start_label` in the order in which they come, leaving
    out `invalid_label`, which belongs to `invalid_key`. With one, a word that it lacks counts as `unknown_token`;
    without that it raises ParameterError.
    """
    new = vocab is None
    numbers: dict = {invalid_key: invalid_label} if vocab is None else vocab
    coming = start_label

    def number(word):
        nonlocal coming
        if word not in numbers and not new:
            if unknown_token is None:
                raise ParameterError(f"encode_sentences: the word {word!r} is not in vocab; give unknown_token for it.")
            word = unknown_token
        if word not in numbers:
            coming += coming == invalid_label
            numbers[word] = coming
            coming += 1
        return numbers[word]

    return [[number(word) for word in sentence] for sentence in sentences], numbers


class BucketSentenceIter(DataIter):
    """Batches of sentences of like length, for language models: the label of each word is the word after it.

    A sentence goes to the smallest of `buckets` (lengths) that holds it and is filled up with `invalid_label`; longer
    ones are left out, as are those that do not fill a batch. Without `buckets` there is one for each length of which
    there are enough sentences for a batch. A batch's `bucket_key` is its length. `layout` is `NT`, or `TN` for
    (length, batch). Each `reset` shuffles with Python's and NumPy's random streams.
    """

    def __init__(
        self, sentences: Sequence[Sequence[int]], batch_size: int, buckets: Sequence[int] | None = None,
        invalid_label: int = -1, data_name: str = "data", label_name: str = "softmax_label", dtype="float32",
        layout: str = "NT",
    ):  # fmt: skip
        super().__init__(batch_size)
        self.major_axis = layout.find("N")
        if self.major_axis not in (0, 1):
            raise ParameterError(f"BucketSentenceIter: layout must begin with 'NT' or 'TN', got {layout!r}.")
        self.data_name, self.label_name, self.layout = data_name, label_name, layout
        self.dtype, self.invalid_label = dtype, invalid_label
        self._sort(sentences, sorted(buckets) if buckets else _frequent_lengths(sentences, batch_size))
        self.default_bucket_key = max(self.buckets)
        shape = self._shape(self.default_bucket_key)
        self.provide_data = [DataDesc(data_name, shape, layout=layout)]
        self.provide_label = [DataDesc(label_name, shape, layout=layout)]
        self.idx = [
            (number, start)
            for number, rows in enumerate(self.data)
            for start in range(0, len(rows) - batch_size + 1, batch_size)
        ]
        self.reset()

    def _sort(self, sentences, buckets: list[int]) -> None:
        """Fill `buckets` and `data`, an array (sentences, length) for each."""
        if not buckets:
            raise ParameterError(
                f"BucketSentenceIter: no length has {self.batch_size} sentences for a batch; give buckets."
            )
        rows: dict[int, list] = {length: [] for length in buckets}
        discarded = 0
        for sentence in sentences:
            place = bisect.bisect_left(buckets, len(sentence))
            if place == len(buckets):
                discarded += 1
                continue
            row = np.full(buckets[place], self.invalid_label, self.dtype)
            row[: len(sentence)] = sentence
            rows[buckets[place]].append(row)
        if discarded:
            _log.warning("discarded %d sentences longer than the largest bucket (%d).", discarded, buckets[-1])
        self.buckets = [length for length in buckets if rows[length]]
        if not self.buckets:
            raise ParameterError(f"BucketSentenceIter: no sentence fits the buckets {buckets}.")
        self.data = [np.stack(rows[length]) for length in self.buckets]

    def _shape(self, length: int) -> tuple[int, int]:
        return (self.batch_size, length) if self.major_axis == 0 else (length, self.batch_size)

    def reset(self):
        self.curr_idx = 0
        random.shuffle(self.idx)
        self.nddata, self.ndlabel = [], []
        for rows in self.data:
            np.random.shuffle(rows)
            following = np.full_like(rows, self.invalid_label)
            following[:, :-1] = rows[:, 1:]
            self.nddata.append(nd.array(rows, dtype=self.dtype))
            self.ndlabel.append(nd.array(following, dtype=self.dtype))

    def next(self):
        if self.curr_idx == len(self.idx):
            raise StopIteration
        number, start = self.idx[self.curr_idx]
        self.curr_idx += 1
        data, label = (each[number][start : start + self.batch_size] for each in (self.nddata, self.ndlabel))
        if self.major_axis == 1:
            data, label = data.T, label.T
        return DataBatch(
            [data], [label], pad=0, bucket_key=self.buckets[number],
            provide_data=[DataDesc(self.data_name, data.shape, layout=self.layout)],
            provide_label=[DataDesc(self.label_name, label.shape, layout=self.layout)],
        )  # fmt: skip


def _frequent_lengths(sentences, batch_size: int) -> list[int]:
    """The lengths of which there are enough sentences for a batch."""
    counts = np.bincount([len(sentence) for sentence in sentences], minlength=1)
    return [length for length, count in enumerate(counts) if count >= batch_size and length > 0]
