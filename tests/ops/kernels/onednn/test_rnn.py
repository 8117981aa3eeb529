"""RNN's prepared steps may run many times, on refilled arrays."""

from __future__ import annotations

import numpy as np
import pytest

from raymx import config
from raymx.ops.infer import infer_call
from raymx.ops.kernels import onednn
from raymx.ops.op import make

pytestmark = pytest.mark.skipif(not onednn.load(), reason="oneDNN's library is not installed")


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("mode", ["rnn_relu", "rnn_tanh", "lstm", "gru"])
def test_runs_again_on_refilled_arrays(mode, strided):
    op = make("RNN", mode=mode, state_size=16, num_layers=2, bidirectional=True)
    gates = op.cell.gates
    size = 2 * gates * 16 * (8 + 16 + 2 + 32 + 16 + 2)
    rng = np.random.default_rng(0)
    shapes = [(5, 8, 4) if strided else (5, 4, 8), (size,), *[(4, 4, 16)] * (len(op.inputs()) - 2)]
    ins = [np.zeros(shape, "float32") for shape in shapes]
    data = ins[0]
    ins[0] = data.transpose(0, 2, 1) if strided else data
    specs = infer_call(op, tuple(a.shape for a in ins), (np.dtype("float32"),) * len(ins))
    outs = {on: [np.zeros(shape, "float32") for shape, _ in specs] for on in (True, False)}
    runs = {}
    for on, arrays in outs.items():
        with config.using(onednn=on):
            turned = np.empty((gates, 16, 16), "float32")
            runs[on] = op.prepare(np, ins, arrays, is_train=False, rng=None, turned=turned)
    for _ in range(2):
        for array in (data, *ins[1:]):
            array[...] = rng.uniform(-0.5, 0.5, array.shape)
        for run in runs.values():
            run()
        np.testing.assert_allclose(outs[True][0], outs[False][0], rtol=1e-4, atol=1e-6)
