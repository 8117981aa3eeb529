"""The example with a loss written in Python: it learns in every way in which the loss can be written."""

import importlib

import numpy as np
import pytest

import raymx as mx


@pytest.fixture(scope="module")
def example():
    return importlib.import_module("custom_softmax")


@pytest.mark.parametrize("kind", ["custom", "numpy", "function"])
def test_digits(example, kind, capsys):
    accuracy = example.main(["--kind", kind, "--num-epochs", "6"])
    assert accuracy >= 0.93
    assert capsys.readouterr().out.splitlines()[-1] == f"{kind}: test accuracy {accuracy:.4f}"


@pytest.mark.ray
def test_on_a_device_actor(example):
    assert example.main(["--ctx", "gpu", "--num-epochs", "6"]) >= 0.93


def test_all_give_the_gradients_of_softmax_output(example):
    x, label = np.random.default_rng(0).normal(size=(5, 10)), np.arange(5)
    data, target = mx.sym.Variable("data"), mx.sym.Variable("label")
    found = []
    for net in (
        mx.sym.SoftmaxOutput(data, target), mx.sym.Custom(data, target, op_type="own_softmax"),
        example.NumpySoftmax()(data, target),
    ):  # fmt: skip
        exe = net.simple_bind(mx.cpu(), data=x.shape, label=label.shape)
        exe.forward(True, data=x, label=label)
        exe.backward()
        found.append(exe.grad_dict["data"].asnumpy())
    variable = mx.nd.array(x)
    variable.attach_grad()
    with mx.autograd.record():
        y = example.SoftmaxFunction()(variable, mx.nd.array(label))
    y.backward()
    for each in (*found[1:], variable.grad.asnumpy()):
        np.testing.assert_allclose(each, found[0], rtol=1e-5, atol=1e-6)
