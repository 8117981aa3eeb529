"""The training loop: what is pushed before what is read, epochs, and which store a model gets."""

import numpy as np
import pytest

import raymx as mx
from raymx import training
from raymx.errors import KVStoreError, MXNetError, ParameterError


class Log(list):
    """Stands for executors, their snapshots and a metric: writes down who did what."""

    def group(self):
        log = self

        class Snapshot:
            def __init__(self, name):
                self.name = name

            def feed(self, metric, pad=0):
                log.append(f"feed {self.name} {pad}")

            def outputs(self, pad):
                log.append(f"read {self.name} {pad}")
                return [self.name]

        class Group:
            def load(self, data, label=None):
                self.name = data
                log.append(f"load {data}")

            def forward(self, is_train):
                log.append("forward")

            def backward(self):
                log.append("backward")

            def snapshot(self, labels):
                log.append("snapshot")
                return Snapshot(self.name)

        return Group()


class Groups:
    def __init__(self, group):
        self.main = group

    def for_batch(self, batch, default):
        return default


class Batches(mx.io.DataIter):
    def __init__(self, count, pad=0):
        super().__init__()
        self.count, self.pad, self.at = count, pad, 0

    def reset(self):
        self.at = 0

    def next(self):
        if self.at == self.count:
            raise StopIteration
        self.at += 1
        return mx.io.DataBatch(self.at, None, self.pad if self.at == self.count else 0)


STEP = ["forward", "backward", "update", "snapshot"]


def test_a_batch_is_read_only_after_the_next_one_was_pushed():
    log = Log()
    metric = mx.metric.create("acc")
    training.train_epoch(Groups(log.group()), lambda: log.append("update"), 0, Batches(3), None, metric,
                         lambda param: log.append(f"callback {param.nbatch}"))  # fmt: skip
    assert log == [
        "load 1", *STEP, "callback 1",
        "load 2", *STEP, "feed 1 0", "callback 2",
        "load 3", *STEP, "feed 2 0", "callback 3",
        "feed 3 0",
    ]  # fmt: skip


def test_without_a_metric_nothing_is_read():
    log = Log()
    training.train_epoch(Groups(log.group()), lambda: log.append("update"), 0, Batches(2), None, None, None)
    assert log == ["load 1", *STEP[:3], "load 2", *STEP[:3]]


def test_scores_leave_out_padding():
    log = Log()
    group = log.group()
    training.score(lambda batch: group, 0, Batches(3, pad=2), mx.metric.create("acc"), None, num_batch=None)
    assert [entry for entry in log if entry.startswith("feed")] == ["feed 1 0", "feed 2 0", "feed 3 2"]
    assert log.index("feed 1 0") > log.index("load 2")


def test_predictions_are_read_one_batch_late():
    log = Log()
    found = [outputs for _, outputs in training.predict(log.group(), Batches(4, pad=1), num_batch=3)]
    assert found == [[1], [2], [3]]
    assert [e for e in log if e[0] in "lr"] == ["load 1", "load 2", "read 1 0", "load 3", "read 2 0", "read 3 0"]


# ---- epochs ----


def epochs(data, epoch_size, count):
    return [[batch.data for batch in training._epoch(data, epoch_size)] for _ in range(count)]


def test_an_epoch_is_one_pass():
    assert epochs(Batches(3), None, 2) == [[1, 2, 3]] * 2


def test_an_epoch_of_a_given_size_goes_on_where_the_last_stopped():
    assert epochs(Batches(3), 2, 3) == [[1, 2], [3, 1], [2, 3]]
    assert epochs(Batches(3), 3, 2) == [[1, 2, 3]] * 2
    assert epochs(Batches(2), 5, 2) == [[1, 2, 1, 2, 1], [2, 1, 2, 1, 2]]


@pytest.mark.parametrize("epoch_size", [None, 2])
def test_an_iterator_without_batches_is_an_error(epoch_size):
    with pytest.raises(MXNetError, match="fit: the training iterator gives no batches"):
        epochs(Batches(0), epoch_size, 1)


# ---- stores ----


@pytest.mark.parametrize(
    ("kvstore", "devices", "type", "in_store"),
    [
        ("local", 1, None, False),
        ("device", 1, None, False),
        (None, 2, None, False),
        ("local", 2, "local_update_cpu", True),
        ("local_allreduce_cpu", 2, "local_allreduce_cpu", False),
        ("device", 2, "device", False),
        ("local_allreduce_device", 2, "local_allreduce_device", False),
    ],
)
def test_which_store_and_who_updates(kvstore, devices, type, in_store):
    store, where = training.create_kvstore(kvstore, devices, {"a": mx.nd.ones((2,))})
    assert (store and store.type, where) == (type, in_store)


def test_large_models_are_updated_by_the_devices():
    class Large:
        size = 16 * 1024 * 1024

    assert training.create_kvstore("local", 2, {"a": Large()})[0].type == "local_allreduce_cpu"


def test_a_store_of_the_users_is_taken():
    mine = mx.kv.create("local")
    assert training.create_kvstore(mine, 1, {}) == (mine, True)


def test_refusals():
    with pytest.raises(ParameterError, match="kvstore must be a KVStore, the name of a type, or None, got 3."):
        training.create_kvstore(3, 2, {})
    with pytest.raises(KVStoreError, match="'dist_sync': stores over several machines are not available yet"):
        training.create_kvstore("dist_sync", 1, {})


@pytest.mark.parametrize(("wd", "alike"), [(0.0, True), (0.1, False)])
def test_what_decays_differently_is_not_merged(wd, alike):
    optimizer = mx.optimizer.SGD(wd=wd, param_idx2name={0: "a_weight", 1: "a_bias"})
    key = training._alike(optimizer)
    assert (key("a_weight") == key("a_bias")) is alike
    optimizer.set_lr_mult({"a_bias": 2.0})
    assert training._alike(optimizer)("a_weight") != training._alike(optimizer)("a_bias")
    optimizer.set_lr_mult({1: 2.0})
    assert training._alike(optimizer)("a_weight") != training._alike(optimizer)("a_bias"), "an index may mean any"


def test_rules_that_are_not_elementwise_are_not_merged():
    class Normed(mx.optimizer.SGD):
        def update(self, index, weight, grad, state):
            super().update(index, weight, grad / mx.nd.norm(grad), state)

    assert training._alike(Normed())("a") != training._alike(Normed())("b")


def test_what_goes_through_a_store_as_one():
    assert training._joining(None, private=False)(10**9)
    assert not training._joining(mx.kv.create("local"), private=False)(10), "a user's store has a key per parameter"
    assert training._joining(mx.kv.create("local"), private=True)(10**9)
    device = training._joining(mx.kv.create("device"), private=True)
    assert (device(10**6), device(10**9)) == (True, False)


def test_updates_of_several_devices_are_summed_and_equal():
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), name="fc", num_hidden=2, no_bias=True)
    net = mx.sym.MakeLoss(mx.sym.sum(net))
    groups = training.Groups(lambda key: net, [mx.cpu()] * 2, None, ["fc_weight"])
    group = groups.find([("data", (4, 3))], [], None, True)
    group.set_params({"fc_weight": mx.nd.ones((2, 3))}, {})
    store = mx.kv.create("local_allreduce_cpu")
    update = training.updating(group, mx.optimizer.SGD(learning_rate=0.5), store, False)
    group.load([np.ones((4, 3), "float32")])
    group.forward(is_train=True)
    group.backward()
    update()
    for weights in group.param_arrays[0]:
        assert (weights.asnumpy() == 1 - 0.5 * 4).all()
