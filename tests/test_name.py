"""Names: counters by hint, prefixes, scopes that nest and end."""

from __future__ import annotations

import threading

import pytest

import raymx as mx
from raymx.name import NameManager, Prefix


def test_made_names_are_counted_by_hint():
    manager = NameManager()
    assert [manager.get(None, hint) for hint in ("conv", "conv", "pool", "conv")] == [
        "conv0",
        "conv1",
        "pool0",
        "conv2",
    ]


def test_a_given_name_is_kept_and_not_counted():
    manager = NameManager()
    assert manager.get("mine", "conv") == "mine"
    assert manager.get("", "conv") == "conv0"


def test_prefix_goes_before_given_and_made_names():
    prefix = Prefix("enc_")
    assert prefix.get("mine", "conv") == "enc_mine"
    assert prefix.get(None, "conv") == "enc_conv0"


def test_the_innermost_open_manager_is_current():
    outer, inner = NameManager(), Prefix("p_")
    default = NameManager.current
    with outer as entered:
        assert entered is outer and NameManager.current is outer
        with inner:
            assert NameManager.current is inner and Prefix.current is inner
            with outer:
                assert NameManager.current is outer
            assert NameManager.current is inner
        assert NameManager.current is outer
    assert NameManager.current is default


def test_an_error_in_the_block_ends_the_scope():
    default = NameManager.current
    with pytest.raises(KeyError), Prefix("p_"):
        raise KeyError
    assert NameManager.current is default


def test_other_threads_have_scopes_of_their_own():
    seen = []
    with Prefix("p_"):
        thread = threading.Thread(target=lambda: seen.append(NameManager.current))
        thread.start()
        thread.join()
        assert seen == [NameManager._default]
        assert NameManager.current is not NameManager._default


def test_operators_are_named_by_the_current_manager_and_variables_are_not():
    data = mx.sym.Variable("data")
    with mx.name.Prefix("net_"):
        made = mx.sym.FullyConnected(mx.sym.Variable("x"), num_hidden=2)
        given = mx.sym.FullyConnected(data, num_hidden=2, name="fc")
        assert made.list_arguments() == ["x", "net_fullyconnected0_weight", "net_fullyconnected0_bias"]
        assert given.list_arguments() == ["data", "net_fc_weight", "net_fc_bias"]
        with NameManager():
            assert mx.sym.exp(data).name == "exp0"


def test_hints_are_the_called_names_in_lower_case():
    with NameManager():
        a, b = mx.sym.Variable("a"), mx.sym.Variable("b")
        made = [a + b, a + 1, 1 - a, a * 2, a**2, 2**a, -a, mx.sym.Flatten(a), mx.sym.ElementWiseSum(a, b), a + b]
        assert [symbol.name for symbol in made] == [
            "_plus0", "_plusscalar0", "_rminusscalar0", "_mulscalar0", "_powerscalar0", "_rpowerscalar0",
            "_mulscalar1", "flatten0", "elementwisesum0", "_plus1",
        ]  # fmt: skip
