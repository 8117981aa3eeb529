"""Rows: sequences."""

import numpy as np

from tests.ops.cases.table import INTS, case

# fmt: off
_lengths = np.array([2.0, 4, 1])


def _last(x, lengths, axis=0):
    return np.stack([np.take(x, [n], 1 - axis).take([k - 1], axis)[0, 0] for n, k in enumerate(lengths.astype(int))])


def _masked(x, lengths, value, axis=0):
    x = np.array(x)
    for n, k in enumerate(lengths.astype(int)):
        np.moveaxis(x, axis, 0)[k:, n] = value
    return x


def _reversed(x, lengths):
    x = np.array(x)
    for n, k in enumerate(lengths.astype(int)):
        x[:k, n] = x[:k, n][::-1]
    return x


case("SequenceLast", (4, 3, 2), ref=lambda x: x[-1])
case("SequenceLast", (3, 4), axis=1, dtypes=INTS, between=(0, 100), ref=lambda x: x[:, -1])
case("SequenceLast", (4, 3), _lengths, use_sequence_length=True, ref=_last)
case("SequenceLast", (4, 3, 2, 2), _lengths, use_sequence_length=True, ref=_last)
case("SequenceLast", (3, 4, 2), _lengths, use_sequence_length=True, axis=1, ref=lambda x, k: _last(x, k, 1))
case("SequenceMask", (4, 3, 2), ref=lambda x: x)
case("SequenceMask", (4, 3), _lengths, use_sequence_length=True, value=-1, ref=lambda x, k: _masked(x, k, -1))
case("SequenceMask", (3, 4, 2, 2), _lengths, use_sequence_length=True, axis=1, value=0.5,
     ref=lambda x, k: _masked(x, k, 0.5, 1))
case("SequenceMask", (4, 3), np.array([0.0, 4, 9]), use_sequence_length=True, ref=lambda x, k: _masked(x, k, 0))
case("SequenceReverse", (4, 3, 2), ref=lambda x: x[::-1])
case("SequenceReverse", (4, 3, 2), _lengths, use_sequence_length=True, ref=_reversed)
case("SequenceReverse", (4, 3), _lengths, use_sequence_length=True, dtypes=("int32",), between=(0, 100), ref=_reversed)
