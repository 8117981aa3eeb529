"""Initializers: what each name gets, the distributions, and what they refuse."""

import json
import math

import numpy as np
import pytest

import raymx as mx
from raymx.errors import ParameterError, ShapeError
from raymx.initializer import InitDesc


def filled(init, name, shape=(2, 3)):
    array = mx.nd.full(shape, 7.0)
    init(name, array)
    return array.asnumpy()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fc_bias", 0), ("bn_beta", 0), ("bn_moving_mean", 0), ("bn_moving_avg", 0), ("bn_moving_inv_var", 0),
        ("q_min", 0), ("bn_gamma", 1), ("bn_moving_var", 1), ("q_max", 1),
    ],
)  # fmt: skip
def test_names_with_fixed_values(name, value):
    assert (filled(mx.init.Uniform(), name) == value).all()


def test_weights_are_filled_in_the_classes_way():
    assert (filled(mx.init.Zero(), "x_weight") == 0).all()
    assert (filled(mx.init.One(), "x_weight") == 1).all()
    assert (filled(mx.init.Constant(2.5), "x_weight") == 2.5).all()
    assert (filled(mx.init.Constant(2.5), "x_bias") == 0).all(), "other names keep their rule"


def test_uniform_and_normal_are_drawn_from_the_seed():
    mx.random.seed(3)
    first = filled(mx.init.Uniform(0.5), "a_weight", (100, 100))
    normal = filled(mx.init.Normal(0.2), "a_weight", (100, 100))
    mx.random.seed(3)
    np.testing.assert_array_equal(filled(mx.init.Uniform(0.5), "a_weight", (100, 100)), first)
    assert -0.5 <= first.min() < -0.49
    assert 0.49 < first.max() < 0.5
    assert normal.std() == pytest.approx(0.2, rel=0.05)
    assert normal.mean() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ("settings", "shape", "scale"),
    [
        ({}, (50, 20, 3, 3), math.sqrt(3 / ((50 + 20) * 9 / 2))),
        ({"factor_type": "in", "magnitude": 2}, (50, 20, 3, 3), math.sqrt(2 / 180)),
        ({"factor_type": "out"}, (400, 60), math.sqrt(3 / 400)),
    ],
)
def test_xavier_scales_by_the_fans(settings, shape, scale):
    uniform = filled(mx.init.Xavier(**settings), "a_weight", shape)
    assert np.abs(uniform).max() == pytest.approx(scale, rel=0.01)
    assert np.abs(uniform).max() <= scale
    gaussian = filled(mx.init.Xavier(rnd_type="gaussian", **settings), "a_weight", shape)
    assert gaussian.std() == pytest.approx(scale, rel=0.05)


def test_msra_is_gaussian_for_leaky_relu():
    values = filled(mx.init.MSRAPrelu("in", slope=0.5), "a_weight", (200, 50))
    assert values.std() == pytest.approx(math.sqrt(2 / 1.25 / 50), rel=0.05)


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (6, 2, 2, 2)])
def test_orthogonal(shape):
    w = filled(mx.init.Orthogonal(), "a_weight", shape).reshape(shape[0], -1)
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, 1.414**2 * np.eye(len(product)), atol=1e-5)


def test_upsampling_gets_bilinear_kernels():
    four = filled(mx.init.Uniform(), "upsampling0_weight", (2, 1, 4, 4))
    edge, center = [0.25, 0.75, 0.75, 0.25], [0.25, 0.75, 0.75, 0.25]
    np.testing.assert_allclose(four[1, 0], np.outer(edge, center))
    three = filled(mx.init.Bilinear(), "any_weight", (1, 1, 3, 3))
    np.testing.assert_allclose(three[0, 0, 0], [0.0625, 0.1875, 0.1875])
    with pytest.raises(ShapeError, match=r"Bilinear: 'upsampling' needs shape \(channels, 1, height, width\), got"):
        filled(mx.init.Uniform(), "upsampling", (2, 3))


def test_a_variable_may_bring_its_own():
    name = InitDesc("strange", attrs={"__init__": mx.init.Constant(3).dumps()})
    assert name == "strange"
    assert (filled(mx.init.Uniform(), name) == 3).all()
    assert mx.init.Xavier().dumps() == '["xavier", {"rnd_type": "uniform", "factor_type": "avg", "magnitude": 3}]'
    assert mx.init.create(mx.init.MSRAPrelu(slope=0.1).dumps()) == mx.init.MSRAPrelu(slope=0.1)


def test_load_takes_values_by_name(tmp_path):
    values = {"arg:fc_weight": mx.nd.full((2, 3), 5.0), "aux:bn_moving_var": mx.nd.full((4,), 6.0)}
    mx.nd.save(str(tmp_path / "x.params"), values)
    for given in (values, str(tmp_path / "x.params"), tmp_path / "x.params"):
        init = mx.init.Load(given, default_init=mx.init.One())
        assert (filled(init, "fc_weight") == 5).all()
        assert (filled(init, "bn_moving_var", (4,)) == 6).all()
        assert (filled(init, "other_weight") == 1).all()


def test_load_says_what_it_did(capsys):
    init = mx.init.Load({"a_weight": mx.nd.ones((2, 3))}, mx.init.Zero(), verbose=True)
    filled(init, "a_weight")
    filled(init, "b_weight")
    assert capsys.readouterr().out == (
        "a_weight initialized from the loaded values\nb_weight initialized by default\n"
    )


def test_mixed_takes_the_first_pattern_that_matches():
    init = mx.init.Mixed(["fc1", ".*weight", ".*"], [mx.init.Constant(4), mx.init.One(), mx.init.Zero()])
    assert [filled(init, n)[0, 0] for n in ("fc1_weight", "fc2_weight", "fc2_gamma")] == [4, 1, 1]


def test_own_initializers_can_be_registered():
    @mx.init.register
    class Ramp(mx.init.Initializer):
        def _init_weight(self, name, arr):
            arr[:] = np.arange(arr.size, dtype="float32").reshape(arr.shape)

    assert filled(mx.init.create("ramp"), "a_weight")[1, 2] == 5


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (lambda: filled(mx.init.Uniform(), "foo"), ParameterError,
         r"Uniform: no rule for a parameter called 'foo'; known endings are weight, bias, .*Make it with Variable"),
        (lambda: mx.init.create("xaver"), ParameterError, "no initializer is called 'xaver'; did you mean 'xavier'"),
        (lambda: mx.init.Xavier(rnd_type="x"), ParameterError, "rnd_type must be one of 'uniform', 'gaussian'"),
        (lambda: mx.init.Xavier(factor_type="x"), ParameterError, "factor_type must be one of 'avg', 'in', 'out'"),
        (lambda: filled(mx.init.Xavier(), "a_weight", (3,)), ShapeError,
         r"Xavier: 'a_weight' needs at least two dimensions \(out, in, ...\), got \(3,\)."),
        (lambda: filled(mx.init.Load({"a": mx.nd.zeros((2,))}), "a"), ShapeError,
         r"Load: 'a' has shape \(2, 3\), the loaded value \(2,\)."),
        (lambda: filled(mx.init.Load({"a": mx.nd.zeros((2,))}), "b"), ParameterError,
         "Load: no value for 'b' among the 1 that were loaded, and no default_init"),
        (lambda: mx.init.Load([mx.nd.zeros((2,))]), ParameterError, "Load: needs arrays with names, got a list"),
        (lambda: filled(mx.init.Mixed(["a"], [mx.init.Zero()]), "b"), ParameterError,
         r"Mixed: no pattern matches the name 'b'; add '\.\*' at the end"),
        (lambda: mx.init.Mixed(["a"], []), ParameterError, "Mixed: 1 patterns but 0 initializers"),
    ],
)  # fmt: skip
def test_refusals(act, error, text):
    with pytest.raises(error, match=text):
        act()


def test_forget_gates_of_cells():
    bias = mx.nd.ones((8,))
    mx.init.Xavier()(mx.init.InitDesc("lstm_i2h_bias", {"__init__": mx.init.LSTMBias(2.0).dumps()}), bias)
    np.testing.assert_array_equal(bias.asnumpy(), [0, 0, 2, 2, 0, 0, 0, 0])


@pytest.mark.parametrize("own", [None, mx.init.One()])
def test_fused_parameters(own):
    cell = mx.rnn.FusedRNNCell(2, num_layers=2, prefix="net_")
    flat = mx.nd.ones((4 * 2 * (3 + 2 + 2 + 2 + 2 + 2),))
    first = mx.init.FusedRNN(own, 2, 2, "lstm", forget_bias=3.0)
    mx.init.Zero()(mx.init.InitDesc("net_parameters", {"__init__": first.dumps()}, mx.init.Constant(5.0)), flat)
    parts = cell.unpack_weights({"net_parameters": flat})
    for name, part in parts.items():
        expected = 3 if name.endswith("_f_bias") else 0 if name.endswith("bias") else 5 if own is None else 1
        np.testing.assert_array_equal(part.asnumpy(), expected, err_msg=name)


def test_fused_parameters_need_an_initializer():
    with pytest.raises(ParameterError, match="FusedRNN: 'net_parameters' needs an initializer"):
        mx.init.FusedRNN(None, 2, 1, "gru")._init_weight("net_parameters", mx.nd.ones((36,)))


def test_values_of_arrays_go_into_the_text_form_and_back():
    values = np.arange(6, dtype="float32").reshape(2, 3)
    for given in (values, mx.nd.array(values), values.tolist()):
        init = mx.init.Constant(given)
        assert init.dumps() == json.dumps(["constant", {"value": values.tolist()}])
        for each in (init, mx.init.create(init.dumps())):
            array = mx.nd.zeros((2, 3))
            each("w_weight", array)
            assert (array.asnumpy() == values).all()


def test_what_is_filled_may_be_logged(caplog):
    with caplog.at_level("INFO", "raymx"):
        mx.init.One().set_verbosity(True)("w_weight", mx.nd.zeros((2, 3)))
        mx.init.One().set_verbosity(True, lambda array: array.shape)("w_weight", mx.nd.zeros((2, 3)))
        mx.init.One()("w_weight", mx.nd.zeros((2, 3)))
    assert [r.getMessage() for r in caplog.records] == [
        "Initialized w_weight by One(): 1.0", "Initialized w_weight by One(): (2, 3)",
    ]  # fmt: skip
