"""What is derived from an operator's declaration: names, parameters, interning, needs, preparation."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from raymx.errors import MXNetError, ParameterError
from raymx.ops.op import REGISTRY, Op, find, make, operator
from raymx.ops.params import param


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(MXNetError, match=r"^no operator is called 'FullyConected'; did you mean 'FullyConnected'\?\.$"):
        find("FullyConected")


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("_Plus", "_plus"), ("elemwise_add", "_plus"), ("broadcast_add", "broadcast_plus"), ("sum_axis", "sum"),
        ("Softmax", "SoftmaxOutput"), ("add_n", "ElementWiseSum"), ("stop_gradient", "BlockGrad"),
        ("reshape", "Reshape"), ("slice", "crop"),
        ("_RDivScalar", "_rdiv_scalar"), ("uniform", "_random_uniform"), ("flatten", "Flatten"), ("cast", "Cast"),
    ],
)  # fmt: skip
def test_names_of_all_eras_reach_one_operator(alias, name):
    assert find(alias) is find(name)
    assert find(alias).name == name


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        ("FullyConnected", {"num_hiden": 3},
         "FullyConnected: unknown parameter 'num_hiden'; did you mean 'num_hidden'? "
         "(known: num_hidden, no_bias, flatten)."),
        ("exp", {"x": 1}, "exp: unknown parameter 'x' (known: none)."),
        ("FullyConnected", {}, "FullyConnected: parameter 'num_hidden' (an integer of at least 1) is missing."),
        ("FullyConnected", {"num_hidden": 0}, "FullyConnected: num_hidden must be an integer of at least 1, got 0."),
        ("FullyConnected", {"num_hidden": "many"},
         "FullyConnected: num_hidden must be an integer of at least 1, got 'many'."),
        ("FullyConnected", {"num_hidden": 2.5},
         "FullyConnected: num_hidden must be an integer of at least 1, got 2.5."),
        ("Dropout", {"p": 1.5}, "Dropout: p must be a number from 0 to 1, got 1.5."),
        ("Activation", {"act_type": "Relu"},
         "Activation: act_type must be one of 'relu', 'sigmoid', 'tanh', 'softrelu', 'softsign', got 'Relu'."),
        ("Cast", {"dtype": "complex64"}, "Cast: dtype must be an element type, got 'complex64'."),
        ("transpose", {"axes": "(1, x)"}, "transpose: axes must be a tuple of integers, got '(1, x)'."),
        ("_plus_scalar", {"scalar": None}, "_plus_scalar: scalar must be a number, got None."),
        ("broadcast_axis", {"axis": 1, "size": (2, 3)},
         "broadcast_axis: axis (1,) and size (2, 3) must be equally long."),
        ("Reshape", {}, "Reshape: parameter 'shape' (a tuple of integers) is missing."),
        ("_arange", {"start": 3, "stop": 1}, "_arange: no number lies from 3 to 1 in steps of 1."),
        ("_random_uniform", {"dtype": "int32"}, "_random_uniform: dtype must be a floating type, got int32."),
    ],
)  # fmt: skip
def test_wrong_parameters_are_named(name, given, text):
    with pytest.raises(ParameterError) as caught:
        make(name, **given)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("name", "strings", "values"),
    [
        ("FullyConnected", {"num_hidden": "128", "no_bias": "True"}, {"num_hidden": 128, "no_bias": True}),
        ("_plus_scalar", {"scalar": "1e-3"}, {"scalar": 0.001}),
        ("_plus_scalar", {"scalar": "3"}, {"scalar": 3}),
        ("transpose", {"axes": "(1,0)"}, {"axes": [1, np.int64(0)]}),
        ("sum", {"axis": "None", "keepdims": "1"}, {"axis": None, "keepdims": True}),
        ("sum", {"axis": "2"}, {"axis": (2,)}),
        ("Cast", {"dtype": "float64"}, {"dtype": np.float64}),
        ("slice_axis", {"axis": "0", "begin": "1", "end": "None"}, {"axis": 0, "begin": 1, "end": None}),
        ("clip", {"a_min": "-inf", "a_max": "2"}, {"a_min": -np.inf, "a_max": 2}),
    ],
)
def test_strings_give_the_same_operator_as_values(name, strings, values):
    assert make(name, **strings) is make(name, **values)


def test_negative_zero_is_another_operator():
    assert make("_div_scalar", scalar=-0.0) is not make("_div_scalar", scalar=0.0)
    assert make("_div_scalar", scalar=-0.0) is make("_div_scalar", scalar=-0.0)


def test_scalars_of_another_type_are_another_operator():
    assert make("_plus_scalar", scalar=1) is not make("_plus_scalar", scalar=1.0)
    assert make("_plus_scalar", scalar=1).attrs == {"scalar": 1}


def test_text_attrs_read_back():
    op = make("Reshape", shape=(np.int64(2), -1), reverse=True)
    assert op.text_attrs()["shape"] == "(2, -1)"
    assert make("Reshape", **op.text_attrs()) is op


def test_2015_scalar_forms_become_todays_operators():
    assert make("_MinusScalar", scalar="2.0") is make("_minus_scalar", scalar=2.0)
    assert make("_MinusScalar", scalar="2.0", scalar_on_left="1") is make("_rminus_scalar", scalar=2.0)


def test_pickling_restores_the_same_object():
    op = make("FullyConnected", num_hidden=7)
    assert pickle.loads(pickle.dumps(op)) is op


def test_interning_survives_a_flood_of_parameters():
    op = make("_plus_scalar", scalar=0.5)
    for i in range(9000):
        make("_mul_scalar", scalar=i)
    assert make("_plus_scalar", scalar=0.5).attrs == op.attrs


def test_signatures_tell_what_backward_needs():
    fc = make("FullyConnected", num_hidden=2)
    assert fc.backward_needs() == ("data", "weight")
    assert fc.has_gradient("bias") and fc.needs_head_gradient()
    assert make("Activation", act_type="relu").backward_needs() == ("out",)
    assert make("_plus").backward_needs() == ()
    assert make("Concat", num_args=2).backward_needs() == ("arg0", "arg1")
    assert not make("sign").has_gradient("data")


def test_losses_ask_for_no_head_gradient_unless_told():
    loss = make("SoftmaxOutput")
    assert not loss.needs_head_gradient()
    assert loss.backward_needs() == ("label", "out")
    assert not loss.has_gradient("label")
    assert make("SoftmaxOutput", out_grad=True).needs_head_gradient()
    assert not make("MakeLoss").needs_head_gradient()


def test_simple_operators_are_run_without_preparation():
    assert make("_plus").short and make("exp").short and make("_zeros", shape=(2,)).short
    assert make("dot").short is None  # has special kernels
    for op in (make("Dropout"), make("norm"), make("SliceChannel", num_outputs=2)):
        assert op.short is None


def test_prepare_leaves_out_what_is_not_wanted():
    data, out = np.arange(6.0).reshape(1, 6), np.empty((1, 3))
    make("SliceChannel", num_outputs=2).prepare(np, [data], [None, out], is_train=True)()
    assert out.tolist() == [[3, 4, 5]]


def test_a_prepared_run_follows_its_arrays():
    data, out = np.ones((2, 3)), np.empty((2, 3))
    run = make("_plus_scalar", scalar=1).prepare(np, [data], [out], rng=None)
    run()
    data += 1
    run()
    assert (out == 3).all()


def test_dropout_needs_no_place_for_its_mask():
    data, out = np.ones((50, 40), "float32"), np.empty((50, 40), "float32")
    run = make("Dropout", p=0.5).prepare(np, [data], [out, None], is_train=True, rng=np.random.default_rng(1))
    run()
    assert set(out.ravel()) == {0, 2}


def test_a_strided_destination_is_refused_where_it_must_be_reshaped():
    lhs, rhs = np.ones((2, 3, 4)), np.ones((4, 5))
    out = np.empty((2, 3, 10))[:, :, ::2]
    with pytest.raises(ValueError, match=r"cannot write a result of shape \(2, 3, 5\) into a strided view"):
        make("dot").forward(np, lhs, rhs, out=out)


def test_a_name_can_be_declared_only_once():
    with pytest.raises(RuntimeError, match=r"^operator 'exp' is declared twice\.$"):

        @operator("exp")
        class Again(Op):
            def forward(self, xp, data, *, out): ...


def test_a_declaration_is_all_that_a_new_operator_needs():
    @operator("_test_scale", "_TestScale")
    class Scale(Op):
        """out = data * factor."""

        factor: float = param(2.0, doc="factor", low=0)

        def infer_shape(self, data):
            return {"out": data}

        def forward(self, xp, data, *, out):
            xp.multiply(data, self.factor, out=out)

    try:
        out = np.empty(3)
        make("_TestScale", factor="3").forward(np, np.ones(3), out=out)
        assert out.tolist() == [3, 3, 3]
        assert repr(make("_test_scale")) == "_test_scale(factor=2.0)"
    finally:
        del REGISTRY["_test_scale"], REGISTRY["_TestScale"]


def test_every_operator_and_parameter_is_described():
    for cls in set(REGISTRY.values()):
        assert cls.__doc__ or cls.canonical is not Op.canonical, cls.name
        assert all(p.doc for p in cls.declared.values()), cls.name
