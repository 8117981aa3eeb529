"""Batches sent together: the same bits as one by one, whatever the iterator gives."""

import numpy as np
import pytest

import raymx as mx
from raymx.module import ahead
from tests.devices import in_this_process

rng = np.random.RandomState(0)
X = rng.randn(200, 5).astype("float32")
Y = (X[:, 0] > 0).astype("float32")


def network():
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), name="fc1", num_hidden=8)
    net = mx.sym.FullyConnected(mx.sym.Activation(net, act_type="relu"), name="fc2", num_hidden=2)
    return mx.sym.SoftmaxOutput(net, name="softmax")


def trained(context, data, **options):
    """What a module has learnt, and what it has told about it."""
    mx.random.seed(0)
    module, seen = mx.mod.Module(network(), context=context), []
    module.fit(data, num_epoch=2, initializer=mx.init.Normal(0.3), eval_metric=["acc", "ce"],
               optimizer_params={"learning_rate": 0.1, "momentum": 0.9},
               epoch_end_callback=lambda epoch, symbol, args, auxes: seen.append(sorted(args)), **options)  # fmt: skip
    found = {name: value.asnumpy() for name, value in module.get_params()[0].items()}
    data.reset()
    found["scores"] = [value for _, value in module.score(data, ["acc", "ce"])]
    found["outputs"] = module.predict(data).asnumpy()
    return found, module


def assert_same(make, devices=1, **options):
    here, _ = trained([mx.cpu()] * devices, make(), **options)
    with in_this_process():
        there, module = trained([mx.cpu(3 * i + 1) for i in range(devices)], make(), **options)
    assert module._convoy is not None, "batches were sent together"
    for name, value in here.items():
        np.testing.assert_array_equal(value, there[name], err_msg=name)


@pytest.mark.parametrize("rows", [2, 7, 16])
def test_the_same_bits_as_in_this_process(rows):
    assert_same(lambda: mx.io.NDArrayIter(X, Y, rows))


@pytest.mark.parametrize("kvstore", ["local_allreduce_cpu", "local"])
def test_several_devices(kvstore):
    assert_same(lambda: mx.io.NDArrayIter(X, Y, 10), 2, kvstore=kvstore)


class Numbered(mx.io.DataIter):
    """Batches of these numbers of rows, in the same arrays again and again if these are equal."""

    def __init__(self, sizes, reuse=False, numpy=False):
        super().__init__(sizes[0])
        self.sizes, self.numpy, self.at = sizes, numpy, 0
        self.provide_data, self.provide_label = [("data", (sizes[0], 5))], [("softmax_label", (sizes[0],))]
        self.kept = (mx.nd.zeros((sizes[0], 5)), mx.nd.zeros((sizes[0],))) if reuse else None

    def reset(self):
        self.at = 0

    def next(self):
        if self.at == len(self.sizes):
            raise StopIteration
        rows = slice(self.at, self.at + self.sizes[self.at])
        self.at += 1
        x, y = X[rows], Y[rows]
        if self.kept is not None:
            self.kept[0][:], self.kept[1][:] = x, y
            return mx.io.DataBatch([self.kept[0]], [self.kept[1]], 0)
        if self.numpy:
            return mx.io.DataBatch([x], [y], 0)
        return mx.io.DataBatch([mx.nd.array(x)], [mx.nd.array(y)], 0)


def test_an_iterator_may_use_its_arrays_again():
    assert_same(lambda: Numbered([4] * 9, reuse=True))


def test_batches_of_numpy_arrays():
    assert_same(lambda: Numbered([4] * 9, numpy=True))


def test_batches_of_other_shapes_in_between():
    assert_same(lambda: Numbered([4, 4, 3, 4, 6, 6, 4]))


def test_a_callback_reads_the_metric_at_any_batch():
    seen = []
    assert_same(lambda: mx.io.NDArrayIter(X, Y, 8),
                batch_end_callback=lambda p: seen.append((p.nbatch, p.eval_metric.get_metric(0).num_inst)))  # fmt: skip
    assert seen == [(n, 8 * (n + 1)) for n in range(25)] * 4


def test_some_batches_of_an_iterator_and_then_the_others():
    with in_this_process():
        module = mx.mod.Module(network(), context=mx.cpu(1))
        data = mx.io.NDArrayIter(X, Y, 10)
        module.bind(data.provide_data, data.provide_label)
        module.init_params(mx.init.Normal(0.3))
        whole = module.predict(data).asnumpy()
        data.reset()
        parts = [module.predict(data, num_batch=n, reset=False).asnumpy() for n in (3, 1, None)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        assert [len(part) for part in parts] == [30, 10, 160]


def test_labels_may_be_missing_in_some_batches():
    with in_this_process():
        module = mx.mod.Module(network(), context=mx.cpu(1))
        module.bind([("data", (4, 5))], [("softmax_label", (4,))])
        module.init_params(mx.init.Normal(0.3))
        batches = [mx.io.DataBatch([X[:4]], None if i % 3 == 2 else [Y[:4]]) for i in range(7)]
        sent = list(module._ahead(batches))
        assert [len(batch.label or ()) for batch in sent] == [1, 1, 0, 1, 1, 0, 1]
        assert all(isinstance(batch, ahead.SentBatch) for batch in sent)
        assert [batch.number for batch in sent] == [0, 1, 0, 0, 1, 0, 0]


def test_which_groups_have_their_batches_sent_together():
    def count(context, rows=4):
        module = mx.mod.Module(network(), context=context)
        module.bind([("data", (rows, 5))], [("softmax_label", (rows,))])
        return ahead.together(module._exec_group)

    assert count(mx.cpu()) == 1
    with in_this_process():
        assert count(mx.cpu(1)) == ahead.TOGETHER
        assert count([mx.cpu(1), mx.cpu(3)]) == ahead.TOGETHER
        assert count([mx.cpu(1), mx.cpu(2)]) == 1, "one of them is here"
        assert count(mx.cpu(1), 60_000) == ahead.TOGETHER_NBYTES // (60_000 * 4 * (5 + 1 + 2))


def test_a_slow_iterator_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(ahead, "PATIENCE_S", 0)
    assert_same(lambda: mx.io.NDArrayIter(X, Y, 8))
