"""The operator RNN: its parameters' errors, names, and bounded cells. Values are checked by its rows in the table."""

from __future__ import annotations

import numpy as np
import pytest

from raymx.errors import ParameterError, ShapeError
from raymx.ops.infer import infer_call, infer_shapes
from raymx.ops.op import make


def rnn(**params):
    return make("RNN", **{"mode": "lstm", "state_size": 3, "num_layers": 2, **params})


def test_inputs_and_outputs_follow_the_mode():
    assert rnn().inputs() == ("data", "parameters", "state", "state_cell")
    assert rnn(mode="gru", use_sequence_length=True).inputs() == ("data", "parameters", "state", "sequence_length")
    assert rnn().output_labels()[: rnn().visible_outputs()] == ("output",)
    op = rnn(state_outputs=True)
    assert op.output_labels()[: op.visible_outputs()] == ("output", "state_output", "statecell_output")
    assert rnn(mode="gru", state_outputs=True).visible_outputs() == 2


def test_shapes_follow_from_the_data():
    op = rnn(bidirectional=True)
    known = {"data": (5, 2, 4), **dict.fromkeys((*op.inputs()[1:], *op.outputs()))}
    shapes = infer_shapes(op, known)
    assert shapes["parameters"] == (480,)
    assert shapes["state"] == shapes["state_cell"] == (4, 2, 3)
    assert shapes["out"] == (5, 2, 6)


def test_wrong_inputs():
    with pytest.raises(ShapeError, match=r"RNN: data must be \(steps, sequences, inputs\) \(got data \(5, 2\)"):
        infer_call(rnn(mode="gru"), ((5, 2), (1,), (2, 2, 3)), (np.dtype("float32"),) * 3)
    with pytest.raises(ShapeError, match=r"RNN: parameters must be \(153,\) for data \(5, 2, 4\)"):
        infer_call(rnn(mode="gru"), ((5, 2, 4), (150,), (2, 2, 3)), (np.dtype("float32"),) * 3)


def test_wrong_parameters():
    with pytest.raises(ParameterError, match="projection_size is not supported, got 2; put a FullyConnected behind"):
        rnn(projection_size=2)
    with pytest.raises(ParameterError, match="belong together, got None and 1.0; give both or none"):
        rnn(lstm_state_clip_max=1)
    with pytest.raises(ParameterError, match="mode must be one of 'rnn_relu', 'rnn_tanh', 'lstm', 'gru', got 'ltsm'"):
        rnn(mode="ltsm")


@pytest.mark.parametrize(("drop", "expected"), [(False, np.nan), (True, -0.5)])
def test_nan_in_a_bounded_cell(drop, expected):
    op = make("RNN", mode="lstm", state_size=1, num_layers=1, state_outputs=True,
              lstm_state_clip_min=-0.5, lstm_state_clip_max=0.5, lstm_state_clip_nan=drop)  # fmt: skip
    ins = [np.zeros((1, 1, 1)), np.zeros(16), np.zeros((1, 1, 1)), np.full((1, 1, 1), np.nan)]
    shapes = infer_call(op, tuple(a.shape for a in ins), (np.dtype("float64"),) * 4)
    outs = [np.empty(shape) for shape, _ in shapes]
    op.prepare(np, ins, outs, is_train=False, rng=None, turned=np.empty((4, 1, 1)))()
    np.testing.assert_array_equal(outs[2].ravel(), [expected])
