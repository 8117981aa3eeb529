"""Docstrings and signatures made from declarations."""

from __future__ import annotations

import inspect

import pytest

from raymx import opdoc
from raymx.ops.op import REGISTRY, find
from tests.graph.toys import Norm, registered


def test_a_symbols_document():
    assert opdoc.document(find("Activation"), "symbol").splitlines()[1:] == [
        "",
        "Parameters",
        "----------",
        "data : Symbol, made as a variable if left out",
        "act_type : one of 'relu', 'sigmoid', 'tanh', 'softrelu', 'softsign', required",
        "    which function",
        "name : str, optional",
        "    the node's name; made from the operator's if left out",
        "attr : dict of str, optional",
        "    attributes of the node and of the variables it creates",
        "",
        "Returns",
        "-------",
        "Symbol",
    ]


def test_an_arrays_document():
    text = opdoc.document(find("SoftmaxOutput"), "ndarray")
    assert "data : NDArray\nlabel : NDArray\n" in text
    assert "out : NDArray or list of NDArray, optional\n    where the result is written" in text
    assert "grad_scale : a number, default 1.0\n    factor of the gradient" in text
    assert text.endswith("Returns\n-------\nNDArray\n\nAlso called Softmax.")
    assert "Symbol" not in text


def test_optional_inputs_and_variadic_ones():
    assert "bias : Symbol, depends on the parameters\n" in opdoc.document(find("FullyConnected"))
    assert "*args : Symbol\n    as many as num_args\n" in opdoc.document(find("Concat"))


def test_states():
    with registered(_test_norm=Norm):
        cls = find("_test_norm")
        assert opdoc.inputs(cls) == (("data", "gamma", "beta"), frozenset(), ("moving_mean", "moving_var"), False)
        assert (
            "moving_var : NDArray\n    auxiliary state, changed by the operator and not by gradients\n"
            "eps : a number, default 0.001\n    added to the variance\n"
        ) in opdoc.document(cls, "ndarray")


@pytest.mark.parametrize("kind", ["symbol", "ndarray"])
def test_every_operator_is_documented(kind):
    for cls in set(REGISTRY.values()):
        text = opdoc.document(cls, kind)
        assert len(text.splitlines()[0]) > 5 and "Base of all operators" not in text
        for name in cls.declared:
            assert f"\n{name} : " in text
        assert isinstance(opdoc.signature(cls, kind), inspect.Signature)


def test_signatures():
    symbol, ndarray = (opdoc.signature(find("FullyConnected"), kind) for kind in ("symbol", "ndarray"))
    assert str(symbol).startswith("(data=None, weight=None, bias=None, *, num_hidden, no_bias=False")
    assert str(symbol).endswith("name=None, attr=None)")
    assert str(ndarray).startswith("(data, weight, bias=None, *, num_hidden, no_bias=False")
    assert str(ndarray).endswith("out=None)")
    assert str(opdoc.signature(find("Concat"))) == "(*args, num_args, dim=1, name=None, attr=None)"
