"""Checkpoints whose weights are written gate by gate."""

from __future__ import annotations

import numpy as np
import pytest

import raymx as mx


def network(cell):
    return mx.sym.Group([cell.unroll(2, mx.sym.Variable("data"), layout="TNC", merge_outputs=True)[0]])


def test_a_checkpoint_goes_from_fused_to_unfused(tmp_path):
    fused = mx.rnn.FusedRNNCell(3, num_layers=2, prefix="net_")
    flat = mx.nd.array(np.random.default_rng(0).random(4 * 3 * (5 + 3 + 2 + 3 + 3 + 2)).astype("float32"))
    mx.rnn.save_rnn_checkpoint(fused, tmp_path / "model", 1, network(fused), {"net_parameters": flat}, {})
    written = mx.nd.load(str(tmp_path / "model-0001.params"))
    assert "arg:net_l0_i2h_f_weight" in written
    _, args, aux = mx.rnn.load_rnn_checkpoint([fused.unfuse()], tmp_path / "model", 1)
    assert args["net_l1_i2h_weight"].shape == (12, 3)
    assert aux == {}
    _, args, _ = mx.rnn.load_rnn_checkpoint(fused, tmp_path / "model", 1)
    np.testing.assert_array_equal(args["net_parameters"].asnumpy(), flat.asnumpy())


def test_callback_saves_every_few_epochs(tmp_path):
    cell = mx.rnn.RNNCell(3, prefix="a_")
    args = {"a_i2h_weight": mx.nd.ones((3, 3)), "a_h2h_weight": mx.nd.ones((3, 3)),
            "a_i2h_bias": mx.nd.ones((3,)), "a_h2h_bias": mx.nd.ones((3,))}  # fmt: skip
    save = mx.rnn.do_rnn_checkpoint(cell, tmp_path / "model", period=2)
    for epoch in range(4):
        save(epoch, network(cell), args, {})
    assert sorted(p.name for p in tmp_path.glob("*.params")) == ["model-0002.params", "model-0004.params"]


def test_the_older_unroll():
    with pytest.warns(UserWarning, match="older form; call cell.unroll"):
        outputs, _ = mx.rnn.rnn_unroll(mx.rnn.RNNCell(3), 2, mx.sym.Variable("data"))
    assert len(outputs) == 2
