"""Cells: names, shapes, packing, and that a fused cell computes what its unfused stack does."""

from __future__ import annotations

import numpy as np
import pytest

import raymx as mx
from raymx.errors import GraphError, ParameterError
from raymx.ops.op import REGISTRY

MODES = ("rnn_relu", "rnn_tanh", "lstm", "gru")
steps = [mx.sym.Variable(f"t{i}_data") for i in range(3)]


def outputs_of(cell, **kwargs):
    outputs, _ = cell.unroll(3, steps, **kwargs)
    return mx.sym.Group(outputs) if isinstance(outputs, list) else outputs


def shapes_of(symbol):
    return symbol.infer_shape(**{f"t{i}_data": (10, 50) for i in range(3)})[1]


@pytest.mark.parametrize("kind", [mx.rnn.RNNCell, mx.rnn.LSTMCell, mx.rnn.GRUCell])
def test_plain_cells(kind):
    cell = kind(100, prefix="rnn_")
    outputs = outputs_of(cell)
    parameters = [f"rnn_{group}_{kind}" for group in ("h2h", "i2h") for kind in ("bias", "weight")]
    assert sorted(cell.params._params) == parameters
    assert outputs.list_outputs() == [f"rnn_t{i}_out_output" for i in range(3)]
    assert shapes_of(outputs) == [(10, 100)] * 3


def test_a_cell_starts_anew_in_each_unroll():
    cell = mx.rnn.LSTMCell(4, prefix="a_")
    first, second = (cell.unroll(2, mx.sym.Variable("data"))[0] for _ in range(2))
    assert [out.name for out in first] == [out.name for out in second] == ["a_t0_out", "a_t1_out"]


def test_states_may_be_inputs():
    cell = mx.rnn.LSTMCell(4, prefix="a_")
    states = cell.begin_state(func=mx.sym.Variable)
    outputs, _ = cell.unroll(1, mx.sym.Variable("data"), begin_state=states, merge_outputs=True)
    assert [s.name for s in states] == ["a_begin_state_0", "a_begin_state_1"]
    assert {"a_begin_state_0", "a_begin_state_1"} <= set(outputs.list_arguments())
    assert states[0].attr("__layout__") == "NC"


def test_stack_shares_its_names():
    stack = mx.rnn.SequentialRNNCell()
    for i in range(2):
        stack.add(mx.rnn.LSTMCell(100, prefix=f"l{i}_"))
    outputs = outputs_of(stack)
    assert outputs.list_outputs() == [f"l1_t{i}_out_output" for i in range(3)]
    assert {"l0_i2h_weight", "l1_h2h_bias"} <= set(stack.params._params)
    assert stack.state_shape == [(0, 100)] * 4


def test_stack_goes_step_by_step():
    stack = mx.rnn.SequentialRNNCell()
    stack.add(mx.rnn.GRUCell(5, prefix="a_"))
    stack.add(mx.rnn.DropoutCell(0.5))
    stack.add(mx.rnn.LSTMCell(6, prefix="b_"))
    output, states = stack(mx.sym.Variable("data"), stack.begin_state())
    assert mx.sym.Group([output, *states]).infer_shape(data=(2, 3))[1] == [(2, 6), (2, 5), (2, 6), (2, 6)]


def test_bidirectional():
    cell = mx.rnn.BidirectionalCell(
        mx.rnn.LSTMCell(100, prefix="l0_"), mx.rnn.LSTMCell(100, prefix="r0_"), output_prefix="bi_"
    )
    outputs = outputs_of(cell)
    assert outputs.list_outputs() == [f"bi_t{i}_output" for i in range(3)]
    assert shapes_of(outputs) == [(10, 200)] * 3
    assert shapes_of(outputs_of(cell, merge_outputs=True)) == [(10, 3, 200)]
    with pytest.raises(GraphError, match="BidirectionalCell cannot go step by step; use unroll"):
        cell(steps[0], [])


def test_residual_adds_the_inputs():
    cell = mx.rnn.ResidualCell(mx.rnn.RNNCell(50, prefix="rnn_"))
    outputs = outputs_of(cell)
    assert outputs.list_outputs() == [f"rnn_t{i}_out_plus_residual_output" for i in range(3)]
    exe = outputs.simple_bind(mx.cpu(), **{f"t{i}_data": (2, 50) for i in range(3)})
    got = exe.forward(**{f"t{i}_data": np.full((2, 50), i) for i in range(3)})
    for i in range(3):
        np.testing.assert_array_equal(got[i].asnumpy(), i)  # without weights, the state stays 0
    assert shapes_of(outputs_of(cell, merge_outputs=True)) == [(10, 3, 50)]


@pytest.mark.skipif("where" not in REGISTRY, reason="needs the operator where")
def test_zoneout_keeps_what_was():
    cell = mx.rnn.ZoneoutCell(mx.rnn.RNNCell(100, prefix="rnn_"), zoneout_outputs=0.5, zoneout_states=0.5)
    assert shapes_of(outputs_of(cell)) == [(10, 100)] * 3


def test_a_modified_cell_is_used_through_its_modifier():
    base = mx.rnn.RNNCell(5, prefix="a_")
    cell = mx.rnn.ResidualCell(base)
    with pytest.raises(GraphError, match="RNNCell 'a_' stands inside of a modifier"):
        base.begin_state()
    assert len(cell.begin_state()) == 1
    with pytest.raises(GraphError, match="stands inside of a modifier"):
        base.begin_state()


def test_errors_of_cells():
    with pytest.raises(ParameterError, match="ZoneoutCell: a FusedRNNCell cannot go step by step; unfuse it first"):
        mx.rnn.ZoneoutCell(mx.rnn.FusedRNNCell(5))
    with pytest.raises(ParameterError, match="mode must be one of 'rnn_relu', 'rnn_tanh', 'lstm', 'gru', got 'ltsm'"):
        mx.rnn.FusedRNNCell(5, mode="ltsm")
    with pytest.raises(ParameterError, match="dropout must be a number, got '0.5'"):
        mx.rnn.DropoutCell("0.5")
    with pytest.raises(GraphError, match="unroll: inputs must be 4 symbols, one for each step, got 3"):
        mx.rnn.RNNCell(5).unroll(4, steps)
    with pytest.raises(GraphError, match="inputs must be a symbol or a list of symbols, got None"):
        mx.rnn.RNNCell(5).unroll(4, None)
    with pytest.raises(ParameterError, match="LSTMCell 'lstm_': there are no weights called 'lstm_i2h_weight'"):
        mx.rnn.LSTMCell(5).unpack_weights({})
    shared = mx.rnn.RNNParams("s_")
    stack = mx.rnn.SequentialRNNCell(params=shared)
    with pytest.raises(ParameterError, match="params are given for it and for a cell inside of it"):
        stack.add(mx.rnn.RNNCell(5, params=mx.rnn.RNNParams("x_")))


# ---- weights ----


def test_weights_of_a_cell_by_gate():
    cell = mx.rnn.LSTMCell(2, prefix="a_")
    shapes = {"i2h_weight": (8, 3), "i2h_bias": (8,), "h2h_weight": (8, 2), "h2h_bias": (8,)}
    args = {f"a_{name}": mx.nd.array(np.arange(np.prod(shape)).reshape(shape)) for name, shape in shapes.items()}
    parts = cell.unpack_weights({**args, "other": 1})
    assert set(parts) == {
        f"a_{group}_{gate}_{kind}" for group in ("i2h", "h2h") for gate in "ifco" for kind in ("weight", "bias")
    } | {"other"}
    np.testing.assert_array_equal(parts["a_i2h_f_weight"].asnumpy(), args["a_i2h_weight"].asnumpy()[2:4])
    again = cell.pack_weights(parts)
    for name, array in args.items():
        np.testing.assert_array_equal(again[name].asnumpy(), array.asnumpy())


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_fused_equals_unfused(mode, bidirectional):
    fused = mx.rnn.FusedRNNCell(4, num_layers=3, mode=mode, bidirectional=bidirectional, prefix="net_")
    stack = fused.unfuse()
    data = mx.sym.Variable("data")
    one, _ = fused.unroll(5, data, layout="TNC", merge_outputs=True)
    other, _ = stack.unroll(5, data, layout="TNC", merge_outputs=True)
    shapes = dict(zip(one.list_arguments(), one.infer_shape(data=(5, 2, 3))[0], strict=True))
    rng = np.random.default_rng(0)
    flat = {"net_parameters": mx.nd.array(rng.uniform(-0.7, 0.7, shapes["net_parameters"]).astype("float32"))}
    x, head = (rng.uniform(-1, 1, shape).astype("float32") for shape in ((5, 2, 3), (5, 2, 8 if bidirectional else 4)))
    results = []
    for symbol, args in ((one, flat), (other, stack.pack_weights(fused.unpack_weights(flat)))):
        exe = symbol.simple_bind(mx.cpu(), data=(5, 2, 3))
        exe.copy_params_from(args)
        out = exe.forward(is_train=True, data=x)[0].asnumpy()
        exe.backward(mx.nd.array(head))
        grads = {name: exe.grad_dict[name] for name in args}
        results.append((out, exe.grad_dict["data"].asnumpy(), grads))
    (out, d_data, grads), (other_out, other_d_data, other_grads) = results
    np.testing.assert_allclose(out, other_out, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(d_data, other_d_data, rtol=1e-4, atol=1e-6)
    expected = fused.pack_weights(stack.unpack_weights(other_grads))["net_parameters"].asnumpy()
    np.testing.assert_allclose(grads["net_parameters"].asnumpy(), expected, rtol=1e-4, atol=1e-5)


def test_fused_gives_its_states_when_asked():
    cell = mx.rnn.FusedRNNCell(4, num_layers=2, get_next_state=True, prefix="net_")
    outputs, states = cell.unroll(5, mx.sym.Variable("data"), layout="TNC", merge_outputs=False)
    shapes = mx.sym.Group([*outputs, *states]).infer_shape(data=(5, 2, 3))[1]
    assert shapes == [(2, 4)] * 5 + [(2, 2, 4)] * 2
    assert states[0].attr("__layout__") == "LNC"
    with pytest.warns(UserWarning, match="TNC is faster"):
        outputs, states = mx.rnn.FusedRNNCell(4).unroll(5, mx.sym.Variable("data"), merge_outputs=True)
    assert states == []
    assert outputs.infer_shape(data=(2, 5, 3))[1] == [(2, 5, 4)]


def test_fused_refuses_parameters_of_another_size():
    cell = mx.rnn.FusedRNNCell(4, num_layers=2, prefix="net_")
    with pytest.raises(ParameterError, match="260 parameters fit no number of inputs; expected 256 and 16 for each"):
        cell.unpack_weights({"net_parameters": mx.nd.zeros((260,))})
