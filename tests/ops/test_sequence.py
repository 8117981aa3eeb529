"""What the operators on sequences infer and refuse."""

import numpy as np
import pytest

import raymx as mx
from raymx.errors import ParameterError, ShapeError

data = mx.sym.Variable("data")


@pytest.mark.parametrize("name", ["SequenceLast", "SequenceMask", "SequenceReverse"])
def test_lengths_are_an_input_of_one_number_a_sequence(name):
    net = getattr(mx.sym, name)(data, use_sequence_length=True, name="s")
    assert net.list_arguments() == ["data", "s_sequence_length"]
    assert net.infer_shape(data=(5, 3, 2))[0] == [(5, 3, 2), (3,)]
    with pytest.raises(ShapeError, match=r"sequence_length must be \(3,\) for data \(5, 3, 2\).*got \(5,\)"):
        net.infer_shape(data=(5, 3, 2), s_sequence_length=(5,))


def test_lengths_may_have_a_type_of_their_own():
    x, lengths = mx.nd.ones((2, 3)), mx.nd.array([1, 2, 0], dtype="int32")
    masked = mx.nd.SequenceMask(x, lengths, use_sequence_length=True)
    np.testing.assert_array_equal(masked.asnumpy(), [[1, 1, 0], [0, 1, 0]])


def test_refusals():
    with pytest.raises(ShapeError, match="SequenceLast 's': data must have at least 2 axes, time and batch"):
        mx.sym.SequenceLast(data, name="s").infer_shape(data=(5,))
    with pytest.raises(ParameterError, match="SequenceReverse.*axis must be one of 0, got 1"):
        mx.sym.SequenceReverse(data, axis=1)
