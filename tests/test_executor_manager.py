"""The names of 2015: a training loop by hand over executors on several devices."""

import numpy as np
import pytest

import raymx as mx
from raymx.executor_manager import DataParallelExecutorManager, _split_input_slice

X = np.random.RandomState(0).randn(64, 4).astype("float32")
Y = (X[:, 0] > 0).astype("float32")


def network(key=None):
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), name="fc", num_hidden=2)
    return mx.sym.SoftmaxOutput(net, name="softmax")


@pytest.mark.parametrize("sym_gen", [None, network])
def test_a_loop_by_hand_learns(sym_gen):
    data = mx.io.NDArrayIter(X, Y, 16)
    data.default_bucket_key = 0
    manager = DataParallelExecutorManager(network(), [mx.cpu()] * 2, data, work_load_list=[1, 1], sym_gen=sym_gen)
    params = {"fc_weight": mx.nd.zeros((2, 4)), "fc_bias": mx.nd.zeros((2,))}
    manager.set_params({**params, "more": mx.nd.ones((1,))}, {})
    update, metric = mx.optimizer.get_updater(mx.optimizer.SGD(learning_rate=0.5, rescale_grad=1 / 16)), None
    for _ in range(10):
        metric = mx.metric.create("acc")
        data.reset()
        for batch in data:
            manager.load_data_batch(batch)
            manager.forward(is_train=True)
            manager.backward()
            for i, (weights, grads) in enumerate(zip(manager.param_arrays, manager.grad_arrays, strict=True)):
                total = grads[0] + grads[1]
                for k, weight in enumerate(weights):
                    update(2 * i + k, total, weight)
            manager.update_metric(metric, batch.label)
    assert metric.get()[1] > 0.9
    manager.copy_to(params, {})
    assert params["fc_weight"].asnumpy().any()
    assert manager.aux_arrays == []


def test_cutting_a_batch():
    assert _split_input_slice(6, [1, 2]) == [slice(0, 2), slice(2, 6)]
