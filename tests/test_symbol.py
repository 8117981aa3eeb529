"""Symbols: composition, names, attributes, outputs, inference, files, arithmetic, and what wrong use is told."""

from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest

import raymx as mx
from raymx import symbol as sym
from raymx.errors import DTypeError, FormatError, GraphError, MXNetError, ParameterError, ShapeError
from raymx.graph.node import topological
from raymx.ops.op import REGISTRY
from tests.graph.toys import Norm, Split, registered


@pytest.fixture(autouse=True)
def _fresh_names():
    with mx.name.NameManager():
        yield


@pytest.fixture
def toys():
    with registered(_test_norm=Norm, _test_split=Split):
        yield


def mlp():
    net = sym.FullyConnected(sym.Variable("data"), name="fc1", num_hidden=128)
    net = sym.Activation(net, name="relu1", act_type="relu")
    net = sym.FullyConnected(net, name="fc2", num_hidden=64)
    return sym.SoftmaxOutput(net, name="out")


def params_of(symbol) -> dict[str, str]:
    return symbol.heads[0].node.params


# ---- composition by calling operators ----


def test_missing_inputs_become_variables():
    assert mlp().list_arguments() == ["data", "fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias", "out_label"]
    assert sym.FullyConnected(name="fc3", num_hidden=10).list_arguments() == ["fc3_data", "fc3_weight", "fc3_bias"]


def test_a_loss_alone_has_an_output_and_a_label():
    loss = sym.LinearRegressionOutput(sym.Variable("pre"), name="loss")
    assert loss.list_arguments() == ["pre", "loss_label"]
    assert loss.list_outputs() == ["loss_output"]


def test_inputs_by_name_and_by_position():
    data, weight = sym.Variable("data"), sym.Variable("myweight")
    named = sym.FullyConnected(data=data, weight=weight, name="fc1", num_hidden=128)
    placed = sym.FullyConnected(data, weight, name="fc1", num_hidden=128)
    mixed = sym.FullyConnected(data, None, sym.Variable("b"), name="fc1", num_hidden=128)
    assert named.list_arguments() == placed.list_arguments() == ["data", "myweight", "fc1_bias"]
    assert mixed.list_arguments() == ["data", "fc1_weight", "b"]
    assert named.tojson() == placed.tojson()


def test_no_bias_takes_the_input_away():
    net = sym.FullyConnected(sym.Variable("data"), num_hidden=2, no_bias=True, name="fc")
    assert net.list_arguments() == ["data", "fc_weight"]


def test_one_variable_used_twice_is_one_argument_and_two_of_one_name_are_two():
    a = sym.Variable("a")
    assert (a + a).list_arguments() == ["a"]
    assert (sym.Variable("a") + sym.Variable("a")).list_arguments() == ["a", "a"]


def test_variadic_operators_count_their_inputs():
    a, b, c = (sym.Variable(n) for n in "abc")
    for made in (
        sym.Concat(a, b, c),
        sym.Concat([a, b, c]),
        sym.Concat(a, arg1=b, arg2=c),
        sym.Concat(a, b, c, num_args=3),
    ):
        assert made.list_arguments() == ["a", "b", "c"]
        assert params_of(made)["num_args"] == "3"
    assert sym.Concat(a, num_args=2, name="cat").list_arguments() == ["a", "cat_arg1"]


def test_parameters_as_values_as_text_and_by_position():
    data = sym.Variable("data")
    assert sym.FullyConnected(data, num_hidden="7", no_bias="1").infer_shape(data=(2, 3))[0] == [(2, 3), (7, 3)]
    assert sym.Reshape(data, (3, -1)).infer_shape(data=(2, 6))[1] == [(3, 4)]
    assert sym.clip(data, 0, 1).attr_dict() == {"clip0": {"a_min": "0.0", "a_max": "1.0"}}


def test_only_given_parameters_are_shown():
    net = sym.FullyConnected(sym.Variable("data"), num_hidden=np.int64(3), flatten=True)
    assert params_of(net) == {"num_hidden": "3", "flatten": "True"}
    assert params_of(sym.Cast(sym.Variable("x"), dtype=np.float16)) == {"dtype": "float16"}
    assert params_of(sym.Reshape(sym.Variable("x"), shape=(np.int64(2),))) == {"shape": "(2,)"}


def test_states_become_variables(toys):
    net = sym._test_norm(sym.Variable("data"), name="bn")
    assert net.list_arguments() == ["data", "bn_gamma", "bn_beta"]
    assert net.list_auxiliary_states() == ["bn_moving_mean", "bn_moving_var"]
    assert net.list_inputs() == ["data", "bn_gamma", "bn_beta", "bn_moving_mean", "bn_moving_var"]
    given = sym._test_norm(sym.Variable("data"), moving_var=sym.Variable("v"), name="bn")
    assert given.list_auxiliary_states() == ["bn_moving_mean", "v"]


# ---- composition of symbols ----


def test_the_named_composition_is_a_namespace():
    net = sym.FullyConnected(sym.Variable("data"), name="fc1", num_hidden=128)
    net2 = sym.FullyConnected(sym.Variable("data2"), name="net2", num_hidden=128)
    composed = net(data=net2, name="compose")
    assert composed.list_arguments() == ["data2", "net2_weight", "net2_bias", "compose_fc1_weight", "compose_fc1_bias"]
    assert composed.list_outputs() == ["compose_output"] and composed.name == "compose"
    assert net.list_arguments() == ["data", "fc1_weight", "fc1_bias"]


def test_inner_nodes_and_states_get_the_prefix_too(toys):
    net = sym._test_norm(sym.FullyConnected(sym.Variable("x"), name="fc", num_hidden=2), name="bn")
    used = sym.exp(net, name="e")(x=sym.Variable("y"), name="left")
    assert used.list_arguments() == ["y", "left_fc_weight", "left_fc_bias", "left_bn_gamma", "left_bn_beta"]
    assert used.list_auxiliary_states() == ["left_bn_moving_mean", "left_bn_moving_var"]
    assert [s.name for s in used.get_internals() if s.heads[0].node.op] == ["left_fc", "left_bn", "left"]


def test_the_unnamed_composition_keeps_names():
    net2 = sym.Activation(sym.FullyConnected(name="fc3", num_hidden=10), act_type="relu", name="act")
    net1 = sym.FullyConnected(sym.Variable("data"), name="fc1", num_hidden=10)
    composed = net2(fc3_data=net1)
    assert composed.list_arguments() == ["data", "fc1_weight", "fc1_bias", "fc3_weight", "fc3_bias"]
    assert composed.name == "act"
    assert sym.Group([composed, net1]).list_outputs() == ["act_output", "fc1_output"]


def test_composition_by_position_follows_list_arguments():
    a, b, c = (sym.Variable(n) for n in "abc")
    net = (a + b) * c
    assert net(sym.Variable("x"), sym.Variable("y")).list_arguments() == ["x", "y", "c"]


def test_every_use_of_a_variable_is_replaced():
    a = sym.Variable("a")
    assert (a * a + a)(a=sym.Variable("x") * 2).list_arguments() == ["x"]


def test_a_copy_shares_nothing_that_can_change():
    net = mlp()
    used = net()
    used._set_attr(mood="new")
    assert used.attr("mood") == "new" and net.attr("mood") is None
    assert used.tojson() != net.tojson()


def test_groups_compose():
    a = sym.Variable("a")
    group = sym.Group([a + 1, a * 2, a])
    assert group(a=sym.Variable("x")).list_outputs() == ["_plusscalar0_output", "_mulscalar0_output", "x"]
    assert group(name="g").list_outputs() == ["g__plusscalar0_output", "g__mulscalar0_output", "g_a"]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda n, x: n(nonsense=x), r"<Symbol out> has no argument 'nonsense' \(arguments: data, fc1_weight, "),
        (lambda n, x: n(dat=x), r"<Symbol out> has no argument 'dat'; did you mean 'data'\?"),
        (lambda n, x: n(x, data=x), r"compose by position or by name, not both \(got data by name\)."),
        (lambda n, x: n(*[x] * 7), r"<Symbol out> has 6 arguments \(data, .*, out_label\), got 7 symbols."),
        (lambda n, x: n(data=3), r"<Symbol out>: data must be a Symbol, got 3 \(int\)."),
        (
            lambda n, x: n(data=sym.Group([x, x])),
            r"data must be one output, got <Symbol x> with 2; choose one with",
        ),
        (lambda n, x: x(x=n), r"<Symbol x> is a variable: there is nothing in it to replace."),
        (lambda n, x: (sym.Variable("x") + x)(x=n), r"2 variables are called 'x'; compose by position."),
    ],
)
def test_wrong_composition(call, message):
    with pytest.raises(GraphError, match=message):
        call(mlp(), sym.Variable("x"))


# ---- wrong use of operators ----


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda x: sym.FullyConnected(x, num_hiden=3, name="fc"), ParameterError,
            r"FullyConnected 'fc': unknown parameter 'num_hiden'; did you mean 'num_hidden'\? \(known: data, weight, ",
        ),
        (
            lambda x: sym.FullyConnected(x, name="fc"), ParameterError,
            r"FullyConnected 'fc': parameter 'num_hidden' \(an integer of at least 1\) is missing.",
        ),
        (
            lambda x: sym.FullyConnected(x, num_hidden=0), ParameterError,
            r"FullyConnected: num_hidden must be an integer of at least 1, got 0.",
        ),
        (
            lambda x: sym.FullyConnected(x, num_hidden=x), ParameterError,
            r"FullyConnected: num_hidden must be an integer of at least 1, got <Symbol x>.",
        ),
        (lambda x: sym.FullyConnected(data=3, num_hidden=3), GraphError, r"data must be a Symbol, got 3 \(int\)."),
        (lambda x: sym.exp(np.ones(2)), GraphError, r"argument 1 \(data\) must be a Symbol, got a value of type"),
        (
            lambda x: sym.FullyConnected(x, 128), GraphError,
            r"argument 2 \(weight\) must be a Symbol, got 128 \(int\); parameters are given by name \(num_hidden, ",
        ),
        (
            lambda x: sym.FullyConnected(x, x, x, x, num_hidden=3), GraphError,
            r"takes 3 inputs \(data, weight, bias\), got 4 by position.",
        ),
        (
            lambda x: sym.FullyConnected(x, x, x, num_hidden=3, no_bias=True), GraphError,
            r"takes 2 inputs \(data, weight\), got 3 by position.",
        ),
        (
            lambda x: sym.FullyConnected(x, bias=x, num_hidden=3, no_bias=True), GraphError,
            r"FullyConnected: has no input 'bias' \(inputs: data, weight\).",
        ),
        (lambda x: sym.exp(dta=x), GraphError, r"exp: has no input 'dta'; did you mean 'data'\? \(inputs: data\)."),
        (lambda x: sym.exp(x, data=x), GraphError, r"exp: input 'data' is given twice, by position and by name."),
        (lambda x: sym.Reshape(x, (1,), shape=(1,)), ParameterError, r"parameter 'shape' is given twice"),
        (lambda x: sym.exp(x, 1), ParameterError, r"exp: takes 1 inputs \(data\) and 0 parameters .* got 2 argum"),
        (lambda x: sym.exp(sym.Group([x, x])), GraphError, r"exp: data must be one output, got <Symbol x> with 2"),
        (lambda x: sym.Concat(x, x, x, num_args=2), GraphError, r"Concat: takes 2 inputs \(arg0, arg1\), got 3 by "),
        (lambda x: sym.Concat(), ParameterError, r"Concat: num_args must be an integer of at least 1, got 0."),
        (lambda x: sym.exp(x, name=3), ParameterError, r"exp: name must be a string, got 3 \(int\)."),
        (lambda x: sym.exp(x, attr={"a": 1}), ParameterError, r"exp: attribute 'a' must be a string, got 1 \(int\)"),
    ],
)  # fmt: skip
def test_wrong_use_of_an_operator(call, error, message):
    with pytest.raises(error, match=message):
        call(sym.Variable("x"))


def test_a_failed_call_uses_up_no_name():
    with pytest.raises(GraphError):
        sym.exp(3)
    assert sym.exp(sym.Variable("x")).name == "exp0"


def test_a_state_must_be_a_variable(toys):
    x = sym.Variable("x")
    with pytest.raises(GraphError, match=r"_test_norm: state 'moving_var' must be a variable, got <exp 'exp0'>."):
        sym._test_norm(x, moving_var=sym.exp(x))


# ---- operators as functions of the module ----


def test_every_registered_name_is_an_attribute():
    for name in REGISTRY:
        assert getattr(sym, name).__name__ == name or name in sym.__all__
        assert name in dir(sym)


def test_functions_are_documented_and_have_signatures():
    assert sym.FullyConnected is sym.FullyConnected
    assert "num_hidden : an integer of at least 1, required" in sym.FullyConnected.__doc__
    parameters = inspect.signature(sym.FullyConnected).parameters
    assert list(parameters)[:4] == ["data", "weight", "bias", "num_hidden"]
    assert parameters["no_bias"].default is False


def test_operators_do_not_hide_what_the_module_uses():
    """`mx.sym.sum` and `mx.sym.abs` exist, but `sum` inside the module stays Python's."""
    assert sym.sum is not sum and "sum" not in vars(sym) and "abs" not in vars(sym)


def test_an_unknown_operator_suggests_the_nearest():
    with pytest.raises(
        AttributeError, match=r"no operator or function 'FulyConnected'; did you mean 'FullyConnected'\?"
    ):
        sym.FulyConnected  # noqa: B018


# ---- variables ----


def test_variables_keep_what_they_are_told():
    v = sym.Variable(
        "v", attr={"mood": "a"}, shape=(2, np.int64(3)), dtype="float16", lr_mult=2, wd_mult=0.5, init="zero", __x__=1
    )
    assert v.list_attr() == {
        "mood": "a", "__shape__": "(2, 3)", "__dtype__": "2", "__lr_mult__": "2", "lr_mult": "2",
        "__wd_mult__": "0.5", "wd_mult": "0.5", "__init__": "zero", "__x__": "1",
    }  # fmt: skip
    assert v.list_arguments() == v.list_outputs() == ["v"] and v.name == "v"
    assert sym.var is sym.Variable


def test_an_initializer_is_kept_as_text():
    v = sym.Variable("v", init=mx.init.Constant(3))
    assert v.attr("__init__") == mx.init.Constant(3).dumps()


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: sym.Variable(3), ParameterError, r"Variable: name must be a string, got 3 \(int\)."),
        (
            lambda: sym.Variable("v", foo=3),
            ParameterError,
            r"Variable 'v': unknown parameter 'foo'; .* __foo__= or in attr=",
        ),
        (
            lambda: sym.Variable("v", attr={"a": 3}),
            ParameterError,
            r"attribute 'a' must be a string, got 3 \(int\); write",
        ),
        (
            lambda: sym.Variable("v", shape="ab"),
            ShapeError,
            r"Variable 'v': shape must be a shape .*, got 'ab' \(str\).",
        ),
        (
            lambda: sym.Variable("v", dtype="complex64"),
            DTypeError,
            r"Variable 'v': dtype must be an element type, got 'comp",
        ),
        (lambda: sym.Group([]), GraphError, r"Group: expected at least one symbol, got none."),
        (lambda: sym.Group([1]), GraphError, r"Group: expected symbols, got 1 \(int\)."),
        (lambda: sym.load_json(3), GraphError, r"load_json: expected JSON text, got 3 \(int\)."),
    ],
)
def test_wrong_leaves(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- attributes ----


def test_attributes_under_both_spellings():
    net = sym.FullyConnected(
        sym.Variable("x"), num_hidden=2, name="fc", attr={"ctx_group": "g"}, __mood__="m", lr_mult=3
    )
    assert net.attr("ctx_group") == net.attr("__ctx_group__") == "g"
    assert net.attr("mood") == net.attr("__mood__") == "m"
    assert net.attr("num_hidden") == "2" and net.attr("name") == "fc" and net.attr("nope") is None
    assert net.list_attr() == {
        "num_hidden": "2", "ctx_group": "g", "__ctx_group__": "g", "__mood__": "m", "lr_mult": "3", "__lr_mult__": "3",
    }  # fmt: skip


def test_attr_dict_and_recursive_list():
    net = sym.FullyConnected(sym.Variable("x", attr={"mood": "angry"}), num_hidden=2, name="fc", attr={"mood": "so so"})
    assert net.attr_dict() == {
        "x": {"mood": "angry"}, "fc_weight": {"mood": "so so"}, "fc_bias": {"mood": "so so"},
        "fc": {"num_hidden": "2", "mood": "so so"},
    }  # fmt: skip
    assert net.list_attr(recursive=True) == {
        "x_mood": "angry", "fc_mood": "so so", "fc_weight_mood": "so so", "fc_bias_mood": "so so",
    }  # fmt: skip


def test_an_attribute_for_one_input_goes_to_the_variable_made_for_it():
    net = sym.FullyConnected(sym.Variable("x"), num_hidden=2, name="fc", attr={"weight_lr_mult": "5"})
    assert net.attr_dict() == {"fc_weight": {"__lr_mult__": "5", "lr_mult": "5"}, "fc": {"num_hidden": "2"}}
    given = sym.FullyConnected(
        sym.Variable("x"), sym.Variable("w"), num_hidden=2, name="fc", attr={"weight_lr_mult": "5"}
    )
    assert given.attr_dict() == {"fc": {"num_hidden": "2", "weight_lr_mult": "5"}}


def test_a_group_has_no_attributes_of_its_own():
    group = sym.Group([sym.Variable("a"), sym.Variable("b")])
    assert group.attr("name") is None and group.list_attr() == {} and group.name is None
    with pytest.raises(
        GraphError, match=r"<Symbol group \[a, b\]>: attributes belong to one node; choose it with symbol"
    ):
        group._set_attr(a="b")


# ---- outputs ----


def test_outputs_by_number_name_and_slice(toys):
    cut = sym._test_split(sym.Variable("x"), num_outputs=3, name="cut")
    assert cut.list_outputs() == ["cut_output0", "cut_output1", "cut_output2"] and len(cut) == 3 and cut.name == "cut"
    assert cut[1].list_outputs() == cut["cut_output1"].list_outputs() == ["cut_output1"]
    assert cut[-1].list_outputs() == ["cut_output2"]
    assert cut[1:].list_outputs() == ["cut_output1", "cut_output2"]
    assert [part.list_outputs() for part in cut] == [["cut_output0"], ["cut_output1"], ["cut_output2"]]
    assert sym.Concat(*cut, name="again").list_arguments() == ["x"]


def test_hidden_outputs_are_not_listed(toys):
    net = sym._test_norm(sym.Variable("x"), name="bn")
    assert net.list_outputs() == ["bn_output"] and len(net) == 1
    assert net.get_internals().list_outputs()[-2:] == ["bn_moving_var", "bn_output"]


@pytest.mark.parametrize(
    "index, error, message",
    [
        (2, IndexError, r"<Symbol group \[x, x\]>: there is no output 2; it has 2: x, x."),
        (-3, IndexError, r"there is no output -3"),
        ("y", GraphError, r"<Symbol group \[x, x\]>: no output is called 'y' \(outputs: x, x\)."),
        ("x", GraphError, r"<Symbol group \[x, x\]>: 2 outputs are called 'x'; choose one by number."),
        (1.5, GraphError, r"an output is chosen by number, name or slice, got 1.5."),
        (True, GraphError, r"an output is chosen by number, name or slice, got True."),
        (slice(2, 5), GraphError, r"expected at least one symbol"),
    ],
)
def test_wrong_outputs(index, error, message):
    x = sym.Variable("x")
    with pytest.raises(error, match=message):
        sym.Group([x, sym.Variable("x")])[index]


def test_internals_and_children():
    net = mlp()
    internals = net.get_internals()
    assert internals.list_outputs() == [
        "data", "fc1_weight", "fc1_bias", "fc1_output", "relu1_output", "fc2_weight", "fc2_bias", "fc2_output",
        "out_label", "out_output",
    ]  # fmt: skip
    assert internals["fc1_output"].list_arguments() == ["data", "fc1_weight", "fc1_bias"]
    assert net.get_children().list_outputs() == ["fc2_output", "out_label"]
    assert sym.Variable("x").get_children() is None


def test_a_group_keeps_heads_in_order_and_repeats_them():
    net = mlp()
    group = sym.Group([net, net.get_internals()["fc1_output"], net])
    assert group.list_outputs() == ["out_output", "fc1_output", "out_output"]
    assert sym.Group(part for part in group).list_outputs() == group.list_outputs()
    assert sym.Group(net).list_outputs() == ["out_output"]


def test_debug_str_shows_every_node():
    assert sym.FullyConnected(sym.Variable("x"), num_hidden=2, name="fc").debug_str() == (
        "Symbol Outputs:\n\toutput[0]=fc(0)\nVariable:x\nVariable:fc_weight\nVariable:fc_bias\n--------------------\n"
        "Op:FullyConnected, Name=fc\nInputs:\n\tdata=x(0)\n\tweight=fc_weight(0)\n\tbias=fc_bias(0)\nAttrs:\n"
        "\tnum_hidden=2\n"
    )


def test_repr():
    assert repr(mlp()) == "<Symbol out>"
    assert repr(sym.Group([mlp(), sym.Variable("x")])) == "<Symbol group [out, x]>"


# ---- shapes and types ----


def test_infer_shape_of_a_network():
    arguments, outputs, states = mlp().infer_shape(data=(100, 100))
    assert arguments == [(100, 100), (128, 100), (128,), (64, 128), (64,), (100,)]
    assert outputs == [(100, 64)] and states == []


def test_infer_shape_by_position():
    net = sym.FullyConnected(sym.Variable("data"), num_hidden=2)
    assert net.infer_shape((5, 3)) == net.infer_shape([5, np.int64(3)]) == net.infer_shape(data=(5, 3))
    assert net.infer_shape((5, 3), None, (2,))[0] == [(5, 3), (2, 3), (2,)]
    assert (sym.Variable("a") + 1).infer_shape(4)[0] == [(4,)]


def test_incomplete_shapes_are_three_nones_and_partial_ones_empty():
    data, prev = sym.Variable("data"), sym.Variable("prevstate")
    x2h = sym.FullyConnected(data, name="x2h", num_hidden=128)
    h2h = sym.FullyConnected(prev, name="h2h", num_hidden=128)
    out = sym.Activation(x2h + h2h, name="out", act_type="relu")
    assert out.infer_shape(data=(10, 64)) == (None, None, None)
    arguments, outputs, _ = out.infer_shape_partial(data=(10, 64))
    known = dict(zip(out.list_arguments(), arguments, strict=True))
    assert known["data"] == (10, 64) and known["x2h_weight"] == (128, 64)
    assert 0 in (known["h2h_weight"] or (0,))
    complete = out.infer_shape(data=(10, 64), prevstate=outputs[0])
    assert dict(zip(out.list_arguments(), complete[0], strict=True))["h2h_weight"] == (128, 128)
    assert sym.Variable("a").infer_shape() == (None, None, None)
    assert sym.exp(sym.Variable("a")).infer_shape_partial() == ([()], [()], [])


def test_shapes_of_states_are_told(toys):
    assert sym._test_norm(sym.Variable("x")).infer_shape(x=(4, 7)) == ([(4, 7), (7,), (7,)], [(4, 7)], [(7,), (7,)])


def test_a_shape_at_the_call_overrides_the_variables():
    c = sym.Variable("a", shape=(2, 3)) + sym.Variable("b")
    assert c.infer_shape() == ([(2, 3), (2, 3)], [(2, 3)], [])
    assert c.infer_shape(a=(5, 6)) == ([(5, 6), (5, 6)], [(5, 6)], [])


def test_a_name_speaks_for_all_variables_that_bear_it():
    twice = sym.exp(sym.Variable("a")) + sym.FullyConnected(sym.Variable("a"), num_hidden=3)
    assert twice.infer_shape(a=(2, 3))[0][:2] == [(2, 3), (2, 3)]


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda n: n.infer_shape(dta=(2, 3)), GraphError, r"infer_shape: <Symbol out> has no argument 'dta'; did"),
        (lambda n: n.infer_shape((2, 3), data=(2, 3)), GraphError, r"say what is known by position or by name, not b"),
        (lambda n: n.infer_shape(*[(2, 3)] * 7), GraphError, r"infer_shape: <Symbol out> has 6 arguments, got 7 "),
        (lambda n: n.infer_shape(data="ab"), ShapeError, r"infer_shape: data must be a shape .*, got 'ab' \(str\)."),
        (lambda n: n.infer_shape(data=(2.5, 3)), ShapeError, r"infer_shape: data must be a shape .*, got \(2.5, 3\) "),
        (
            lambda n: n.infer_shape(data=(100, 100), fc1_weight=(1, 100)), ShapeError,
            r"FullyConnected 'fc1': weight must be \(128, 100\) for data \(100, 100\) and num_hidden=128, got \(1, 1",
        ),
        (lambda n: n.infer_type(data="float99"), DTypeError, r"infer_type: data must be an element type, got 'float"),
        (
            lambda n: n.infer_type(data="float16", fc1_bias="float32"), DTypeError,
            r"FullyConnected 'fc1': .* must be float16, got float32",
        ),
    ],
)  # fmt: skip
def test_wrong_inference(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call(mlp())
    assert isinstance(caught.value, MXNetError)


def test_infer_type():
    cast = sym.Cast(sym.Variable("data"), dtype="float32")
    net = sym.SoftmaxOutput(sym.FullyConnected(cast, name="fc1", num_hidden=128), name="softmax")
    arguments, outputs, states = net.infer_type(data=np.float16)
    assert arguments == [np.float16, np.float32, np.float32, np.float32]
    assert outputs == [np.float32] and states == []


def test_unknown_types_are_not_guessed():
    a = sym.Variable("a")
    assert mlp().infer_type() == (None, None, None)
    assert sym.Cast(a, dtype="float16").infer_type() == (None, None, None)
    assert sym.Cast(a, dtype="float16").infer_type_partial() == ([None], [np.float16], [])
    assert (sym.Variable("v", dtype="float64") + a).infer_type() == ([np.float64] * 2, [np.float64], [])
    assert mlp().infer_type("float64")[1] == [np.float64]


# ---- files and copies ----


def test_copies_and_pickles_are_equal_and_independent():
    net = sym.Group([mlp(), sym.Variable("x", shape=(2, 3)) * 2])
    for again in (copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net)), sym.load_json(net.tojson())):
        assert again.tojson() == net.tojson()
        assert not {id(n) for n in topological(again.heads)} & {id(n) for n in topological(net.heads)}


def test_a_saved_file_is_loaded(tmp_path):
    path = str(tmp_path / "mlp-symbol.json")
    mlp().save(path)
    assert sym.load(path).tojson() == mlp().tojson()


def test_files_may_be_urls():
    mlp().save("memory://symbols/mlp-symbol.json")
    assert sym.load("memory://symbols/mlp-symbol.json").list_arguments() == mlp().list_arguments()


def test_a_file_that_is_no_symbol_is_named(tmp_path):
    path = tmp_path / "weights.params"
    path.write_bytes(b"\x12\x01" + bytes(20))
    with pytest.raises(FormatError, match=r"weights.params is not a symbol: "):
        sym.load(str(path))


# ---- arithmetic ----

A, B = sym.Variable("a"), sym.Variable("b")


@pytest.mark.parametrize(
    "made, op, scalar",
    [
        (lambda: A + B, "_plus", None), (lambda: A - B, "_minus", None), (lambda: A * B, "_mul", None),
        (lambda: A / B, "_div", None), (lambda: A**B, "_power", None), (lambda: A % B, "_mod", None),
        (lambda: A + 2, "_plus_scalar", 2), (lambda: 2 + A, "_plus_scalar", 2), (lambda: A - 2, "_minus_scalar", 2),
        (lambda: 2 - A, "_rminus_scalar", 2), (lambda: A * 2, "_mul_scalar", 2), (lambda: 2 * A, "_mul_scalar", 2),
        (lambda: A / 2, "_div_scalar", 2), (lambda: 2 / A, "_rdiv_scalar", 2), (lambda: A**2, "_power_scalar", 2),
        (lambda: 2**A, "_rpower_scalar", 2), (lambda: A % 2, "_mod_scalar", 2), (lambda: 2 % A, "_rmod_scalar", 2),
        (lambda: -A, "_mul_scalar", -1), (lambda: abs(A), "abs", None),
        (lambda: A == B, "_equal", None), (lambda: A != 2, "_not_equal_scalar", 2),
        (lambda: A > 2, "_greater_scalar", 2),
        (lambda: A >= B, "_greater_equal", None), (lambda: 2 > A, "_lesser_scalar", 2),
        (lambda: A <= B, "_lesser_equal", None),
        (lambda: sym.pow(A, B), "_power", None), (lambda: sym.pow(A, 2), "_power_scalar", 2),
        (lambda: sym.pow(2, A), "_rpower_scalar", 2), (lambda: sym.maximum(A, B), "_maximum", None),
        (lambda: sym.maximum(2, A), "_maximum_scalar", 2), (lambda: sym.minimum(A, 2), "_minimum_scalar", 2),
        (lambda: sym.hypot(A, B), "_hypot", None), (lambda: sym.hypot(2, A), "_hypot_scalar", 2),
        (lambda: A * np.float32(2), "_mul_scalar", 2), (lambda: np.float64(2) * A, "_mul_scalar", 2),
        (lambda: A + True, "_plus_scalar", 1),
    ],
)  # fmt: skip
def test_operators(made, op, scalar):
    node = made().heads[0].node
    assert node.op.name == op
    assert [e.node.name for e in node.inputs] == (["a", "b"] if len(node.inputs) == 2 else ["a"])
    assert node.op.attrs.get("scalar") == scalar


def test_in_place_operators_make_a_new_symbol():
    total = before = sym.Variable("a")
    total += 1
    assert total is not before and before.name == "a" and total.list_arguments() == ["a"]


def test_constant_symbols():
    """Shapes may be integers, and a 0 is inferred."""
    net = sym.Variable("x") * sym.ones(3) + sym.arange(3) + sym.zeros((0,), name="none")
    assert net.infer_shape() == ([(3,)], [(3,)], [])
    exe = net.bind(mx.cpu(), {"x": mx.nd.array([5, 6, 7])})
    assert exe.forward()[0].asnumpy().tolist() == [5, 7, 9]
    assert sym.ones((2,), dtype="int32").infer_type()[1] == [np.int32]


def test_numbers_among_themselves_stay_numbers():
    assert (sym.pow(2, 3), sym.maximum(2, 3), sym.minimum(2, 3), sym.hypot(3, 4)) == (8, 3, 2, 5.0)


@pytest.mark.parametrize("function", ["pow", "maximum", "minimum", "hypot"])
def test_other_things_are_refused(function):
    with pytest.raises(DTypeError, match=rf"{function}: expected symbols or numbers, got 'x' \(str\)."):
        getattr(sym, function)("x", A)
    with pytest.raises(TypeError, match="unsupported operand"):
        A + "x"


def test_symbols_stay_hashable_and_compare_with_other_things_by_identity():
    assert {A: 1}[A] == 1
    assert (A == None) is False and (A != "x") is True  # noqa: E711
    assert A in [A]


def test_a_symbol_has_no_truth_value():
    with pytest.raises(GraphError, match=r"<Symbol a> has no truth value: it has no values before it is bound."):
        bool(A)


# ---- gradients ----


def test_grad_is_a_symbol_with_an_output_for_each_name():
    net = sym.FullyConnected(sym.Variable("x"), name="fc", num_hidden=2)
    gradient = net.grad(["x", "fc_weight"])
    assert len(gradient) == 2
    assert set(gradient.list_arguments()) == {"x", "fc_weight", "fc_output_grad"}


def test_grad_of_a_loss_needs_no_head_gradient():
    loss = mlp()
    assert not any(name.endswith("_grad") for name in loss.grad("fc1_weight").list_arguments())


def test_grad_of_what_does_not_matter_is_zero():
    gradient = sym.BlockGrad(sym.Variable("x")).grad(["x"])
    assert gradient.heads[0].node.op.name == "zeros_like" and gradient.list_arguments() == ["x"]


def test_grad_with_respect_to_unknown_and_repeated_names():
    with pytest.raises(GraphError, match=r"grad: no argument is called 'fc1_weigt'; did you mean 'fc1_weight'\?"):
        mlp().grad(["fc1_weigt"])
    with pytest.raises(GraphError, match=r"grad: 2 arguments are called 'a' \(arguments: a, a\)."):
        (sym.Variable("a") * sym.Variable("a")).grad(["a"])


# ---- running ----


def test_bind_and_simple_bind_give_executors():
    product = sym.Variable("A") * sym.Variable("B")
    bound = product.bind(mx.cpu(), {"A": mx.nd.ones(3) * 4, "B": mx.nd.ones(3) * 2})
    bound.forward()
    assert bound.outputs[0].asnumpy().tolist() == [8, 8, 8]
    made = product.simple_bind(mx.cpu(), "null", A=(2, 3))
    assert made.arg_dict["B"].shape == (2, 3) and made.grad_arrays == [None, None]


def test_a_gradient_symbol_runs():
    square = sym.square(sym.Variable("x"), name="sq")
    gradient = square.grad(["x"])
    bound = gradient.bind(mx.cpu(), {"x": mx.nd.array([1, 2, 3]), "sq_output_grad": mx.nd.ones(3)})
    bound.forward()
    assert bound.outputs[0].asnumpy().tolist() == [2, 4, 6]
