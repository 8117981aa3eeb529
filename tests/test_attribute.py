"""AttrScope: what holds in a block reaches operators, the variables they create, and no further."""

from __future__ import annotations

import pytest

import raymx as mx
from raymx.attribute import AttrScope, check_attributes
from raymx.errors import ParameterError


def test_scopes_nest_and_the_innermost_wins():
    with AttrScope(ctx_group="a", mood="calm"):
        with AttrScope(ctx_group="b"):
            assert AttrScope.current.get({}) == {"ctx_group": "b", "mood": "calm"}
        assert AttrScope.current.get(None) == {"ctx_group": "a", "mood": "calm"}
    assert AttrScope.current.get(None) == {}


def test_explicit_attributes_win_over_scopes():
    with AttrScope(group="4", data="great"):
        both = mx.sym.Variable("data", attr={"group": "1"})
        scoped = mx.sym.Variable("data2")
    assert both.attr("group") == "1" and both.attr("data") == "great"
    assert scoped.attr("group") == "4"


def test_a_scope_can_be_entered_twice_and_forgets_where_it_was():
    scope = AttrScope(b="2")
    with AttrScope(a="1"), scope:
        assert AttrScope.current.get() == {"a": "1", "b": "2"}
    with scope:
        assert AttrScope.current.get() == {"b": "2"}


def test_operators_hand_their_attributes_to_the_variables_they_create():
    data = mx.sym.Variable("data")
    with AttrScope(__group__="4"):
        fc1 = mx.sym.Activation(data, act_type="relu")
        with AttrScope(__init_bias__="0.0"):
            fc2 = mx.sym.FullyConnected(fc1, num_hidden=10, name="fc2")
    listed = fc2.attr_dict()
    assert fc1.attr("__group__") == "4" and fc1.attr("__init_bias__") is None
    assert listed["fc2_weight"] == {"__group__": "4", "__init_bias__": "0.0"}
    assert "data" not in listed


def test_values_must_be_strings():
    with pytest.raises(
        ParameterError, match=r"AttrScope: attribute 'lr_mult' must be a string, got 2 \(int\); write '2'."
    ):
        AttrScope(lr_mult=2)


def test_attributes_must_be_a_dict():
    with pytest.raises(ParameterError, match=r"Variable 'x': attributes must be a dict of strings, got 'a'."):
        mx.sym.Variable("x", attr="a")
    assert check_attributes(None, "x") == {}


def test_checked_attributes_are_a_copy():
    given = {"a": "b"}
    assert check_attributes(given, "x") == given
    assert check_attributes(given, "x") is not given
