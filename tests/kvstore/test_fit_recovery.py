"""`fit` goes on where a lost worker was: weights, moving averages and random streams end as if nothing had happened."""

from __future__ import annotations

import pytest

from raymx import config
from tests.kvstore.test_dist import launched

pytestmark = pytest.mark.ray


def fit(device: int, how: str = "module"):
    """What a worker does: train a small network on its half of the data; its parameters and states as bytes."""
    import numpy as np

    import raymx as mx

    mx.random.seed(5)
    np.random.seed(7)
    kv = mx.kv.create("dist_sync")
    rng = np.random.default_rng(kv.rank)
    x, y = rng.normal(size=(24, 6)).astype("float32"), rng.integers(0, 3, 24).astype("float32")
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=8, name="fc1")
    net = mx.sym.Activation(mx.sym.BatchNorm(net, fix_gamma=False, name="bn"), act_type="relu")
    net = mx.sym.FullyConnected(mx.sym.Dropout(net, p=0.3), num_hidden=3, name="fc2")
    net = mx.sym.SoftmaxOutput(net, name="softmax")
    settings = {"learning_rate": 0.1, "momentum": 0.9}
    if how == "module":
        module = mx.mod.Module(net, context=mx.cpu(device))
        data = mx.io.NDArrayIter(x, y, 6, shuffle=True)
        module.fit(data, kvstore=kv, num_epoch=3, optimizer_params=settings, initializer=mx.init.Xavier())
        params = module.get_params()
    else:
        model = mx.model.FeedForward(net, ctx=mx.cpu(device), num_epoch=3, numpy_batch_size=7, **settings)
        model.fit(x, y, kvstore=kv)
        params = model.arg_params, model.aux_params
    return kv.restarted, [{name: value.asnumpy().tobytes() for name, value in each.items()} for each in params]


def compare(fault: str, caplog, *args) -> None:
    expected = launched(fit, 2, 2, *args, replicas=1)
    with config.using(fault=fault):
        found = launched(fit, 2, 2, *args, replicas=1)
    assert any("worker 1 was lost" in record.getMessage() for record in caplog.records), f"{fault} did not happen"
    assert [restarted for restarted, _ in found] == [False, True]
    for (_, got), (_, want) in zip(found, expected, strict=True):
        assert got == want, fault
    assert found[0][1][0] == found[1][1][0]


@pytest.mark.parametrize("fault", ["worker 1.0 at push:between 2", "worker 1.0 at pull:after 11"])
def test_fit_goes_on_where_a_worker_was_killed(fault, caplog):
    compare(fault, caplog, 0)


def test_fit_goes_on_where_a_device_of_a_worker_was_killed(caplog):
    compare("device 1.0 at run 25", caplog, 1)


def test_feed_forward_goes_on_with_rows_that_rolled_over(caplog):
    compare("worker 1.0 at pull:after 15", caplog, 0, "model")
