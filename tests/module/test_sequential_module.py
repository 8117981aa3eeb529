"""SequentialModule: a chain learns what one network learns; losses in Python at its end."""

import numpy as np
import pytest

import raymx as mx
from raymx.errors import BindError, ParameterError

rng = np.random.RandomState(0)
X = rng.randn(64, 5).astype("float32")
Y = (X[:, 0] > 0).astype("float32")


def first():
    return mx.sym.Activation(mx.sym.FullyConnected(mx.sym.Variable("data"), name="fc1", num_hidden=6), act_type="relu")


def second(data):
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(data, name="fc2", num_hidden=2), name="softmax")


def chain(last=None, **meta):
    net = mx.mod.SequentialModule()
    net.add(mx.mod.Module(first(), label_names=None))
    last = last or mx.mod.Module(second(mx.sym.Variable("hidden")), ["hidden"])
    return net.add(last, **{"take_labels": True, "auto_wiring": True, **meta})


def trained(module):
    mx.random.seed(0)
    module.fit(mx.io.NDArrayIter(X, Y, 16), num_epoch=3, initializer=mx.init.Normal(0.3),
               optimizer_params={"learning_rate": 0.5})  # fmt: skip
    return module


def test_a_chain_learns_what_one_network_learns():
    parts, whole = trained(chain()), trained(mx.mod.Module(second(first())))
    one, two = parts.get_params()[0], whole.get_params()[0]
    assert sorted(one) == sorted(two)
    for name, value in one.items():
        np.testing.assert_allclose(value.asnumpy(), two[name].asnumpy(), rtol=1e-4, atol=1e-6)
    data = mx.io.NDArrayIter(X, Y, 24)
    assert parts.score(data, "ce")[0][1] == pytest.approx(whole.score(data, "ce")[0][1], rel=1e-4)
    np.testing.assert_allclose(parts.predict(data).asnumpy(), whole.predict(data).asnumpy(), rtol=1e-4)


def test_names_and_shapes_are_those_of_the_ends():
    net = chain()
    net.bind([("data", (8, 5))], [("softmax_label", (8,))], inputs_need_grad=True)
    net.init_params()
    assert (net.data_names, net.output_names) == (["data"], ["softmax_output"])
    assert [tuple(d) for d in net.data_shapes] == [("data", (8, 5))]
    assert net.output_shapes == [("softmax_output", (8, 2))]
    assert net.label_shapes == [("softmax_label", (8,))]
    net.forward_backward(mx.io.DataBatch([mx.nd.array(X[:8])], [mx.nd.array(Y[:8])]))
    assert net.get_input_grads()[0].shape == (8, 5)


def test_a_loss_in_python_may_end_the_chain():
    def gradient(scores, labels):
        powers = np.exp(scores.asnumpy())
        return powers / powers.sum(axis=1, keepdims=True) - np.eye(2)[labels.asnumpy().astype(int)]

    net = mx.mod.SequentialModule()
    logits = mx.sym.FullyConnected(first(), name="fc2", num_hidden=2)
    net.add(mx.mod.Module(logits, label_names=None))
    net.add(mx.mod.PythonLossModule(grad_func=gradient), take_labels=True, auto_wiring=True)
    assert trained(net).score(mx.io.NDArrayIter(X, Y, 16), "acc")[0][1] > 0.8


def test_refusals():
    with pytest.raises(ParameterError, match="unknown keyword 'take_label'; did you mean 'take_labels'"):
        mx.mod.SequentialModule().add(mx.mod.Module(first()), take_label=True)
    with pytest.raises(BindError, match=r"the SequentialModule is empty; add\(\) modules first"):
        mx.mod.SequentialModule().bind([("data", (8, 5))])
    twice = chain(mx.mod.Module(mx.sym.FullyConnected(mx.sym.Variable("hidden"), name="fc1", num_hidden=6), ["hidden"]))
    twice.bind([("data", (8, 5))])
    with pytest.raises(BindError, match="modules 0 and 1 both have a parameter called 'fc1_"):
        twice.init_params()
    wide = chain(mx.mod.Module(mx.sym.Variable("a") + mx.sym.Variable("b"), ["a", "b"]))
    with pytest.raises(BindError, match=r"module 1 takes 2 arrays \(a, b\), but the one before puts out 1"):
        wide.bind([("data", (8, 5))])
    net = chain()
    net.bind([("data", (8, 5))], [("softmax_label", (8,))])
    with pytest.raises(BindError, match="no module has a parameter called 'fc3_bias'; did you mean"):
        net.init_params(arg_params={"fc3_bias": mx.nd.ones((1,))}, allow_missing=True)
