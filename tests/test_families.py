"""Operators under the name of their family."""

import pytest

import raymx as mx


def test_an_operator_of_a_family():
    assert mx.nd.contrib.div_sqrt_dim(mx.nd.ones((1, 4))).asnumpy().tolist() == [[0.5] * 4]
    net = mx.sym.contrib.AdaptiveAvgPooling2D(mx.sym.Variable("data"), output_size=2)
    assert net.infer_shape(data=(2, 3, 5, 6))[1] == [(2, 3, 2, 2)]
    with mx.name.NameManager():
        named = mx.sym.contrib.AdaptiveAvgPooling2D(mx.sym.Variable("data"))
    assert named.list_outputs() == ["adaptiveavgpooling2d0_output"]
    assert "AdaptiveAvgPooling2D" in dir(mx.sym.contrib)


@pytest.mark.parametrize("module", [mx.nd, mx.sym])
def test_unknown_ones(module):
    with pytest.raises(AttributeError, match=r"contrib has no operator 'div_sqrt_dom'; did you mean 'div_sqrt_dim'"):
        _ = module.contrib.div_sqrt_dom
