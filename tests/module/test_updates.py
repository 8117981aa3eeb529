"""Which store a model gets, what is updated as one, and optimizer states in files."""

import numpy as np
import pytest

import raymx as mx
from raymx.errors import FormatError, ParameterError
from raymx.module import updates
from raymx.module.executor_group import DataParallelExecutorGroup
from raymx.module.updates import Updates, create_kvstore


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
    store, where = create_kvstore(kvstore, devices, {"a": mx.nd.ones((2,))})
    assert (store and store.type, where) == (type, in_store)


def test_large_models_are_updated_by_the_devices():
    class Large:
        size = 16 * 1024 * 1024

    assert create_kvstore("local", 2, {"a": Large()})[0].type == "local_allreduce_cpu"


def test_a_store_of_the_users_is_taken():
    mine = mx.kv.create("local")
    assert create_kvstore(mine, 1, {}) == (mine, True)


def test_refusals():
    with pytest.raises(ParameterError, match="kvstore must be a KVStore, the name of a type, or None, got 3."):
        create_kvstore(3, 2, {})


@pytest.mark.parametrize(("wd", "alike"), [(0.0, True), (0.1, False)])
def test_what_decays_differently_is_not_merged(wd, alike):
    optimizer = mx.optimizer.SGD(wd=wd, param_idx2name={0: "a_weight", 1: "a_bias"})
    key = updates._alike(optimizer)
    assert (key("a_weight") == key("a_bias")) is alike
    optimizer.set_lr_mult({"a_bias": 2.0})
    assert updates._alike(optimizer)("a_weight") != updates._alike(optimizer)("a_bias")
    optimizer.set_lr_mult({1: 2.0})
    assert updates._alike(optimizer)("a_weight") != updates._alike(optimizer)("a_bias"), "an index may mean any"


def test_rules_that_are_not_elementwise_are_not_merged():
    class Normed(mx.optimizer.SGD):
        def update(self, index, weight, grad, state):
            super().update(index, weight, grad / mx.nd.norm(grad), state)

    assert updates._alike(Normed())("a") != updates._alike(Normed())("b")


def test_what_goes_through_a_store_as_one():
    assert updates._joining(None, private=False)(10**9)
    assert not updates._joining(mx.kv.create("local"), private=False)(10), "a user's store has a key per parameter"
    assert all(updates._joining(mx.kv.create(type), private=True)(10**9) for type in ("local", "device"))


def test_updates_of_several_devices_are_summed_and_equal():
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), name="fc", num_hidden=2, no_bias=True)
    net = mx.sym.MakeLoss(mx.sym.sum(net))
    group = DataParallelExecutorGroup(net, [mx.cpu()] * 2, None, [("data", (4, 3))], [], ["fc_weight"])
    group.set_params({"fc_weight": mx.nd.ones((2, 3))}, {})
    update = Updates(group, mx.optimizer.SGD(learning_rate=0.5), mx.kv.create("local_allreduce_cpu"), False)
    group.load([np.ones((4, 3), "float32")])
    group.forward(is_train=True)
    group.backward()
    update()
    for weights in group.param_arrays[0]:
        assert (weights.asnumpy() == 1 - 0.5 * 4).all()


# ---- states ----

NET = mx.sym.FullyConnected(mx.sym.Variable("data"), name="a", num_hidden=3)
NET = mx.sym.FullyConnected(NET, name="b", num_hidden=2)
NET = mx.sym.LinearRegressionOutput(NET, mx.sym.Variable("label"), name="loss")
NAMES = [n for n in NET.list_arguments() if n not in ("data", "label")]


class Trained:
    """A group with an optimizer, on some devices, that takes steps on one batch."""

    def __init__(self, devices, store, values=None, optimizer="sgd", **settings):
        random = np.random.RandomState(0)
        self.batch = [random.randn(4, 5).astype("float32")], [random.randn(4, 2).astype("float32")]
        shapes = [("data", (4, 5))], [("label", (4, 2))]
        self.group = DataParallelExecutorGroup(NET, [mx.cpu()] * devices, None, *shapes, NAMES)
        made = {n: random.randn(*x[0].shape) for n, x in zip(NAMES, self.group.param_arrays, strict=True)}
        self.group.set_params(values or {name: mx.nd.array(value) for name, value in made.items()}, {})
        store, in_store = create_kvstore(store, devices, {})
        copies = 1 if in_store else devices
        rule = updates.make_optimizer(optimizer, self.group, store, copies, {"learning_rate": 0.01, **settings})
        self.update = Updates(self.group, rule, store, in_store)

    def steps(self, count):
        for _ in range(count):
            self.group.load(*self.batch)
            self.group.forward(is_train=True)
            self.group.backward()
            self.update()
        return {name: arrays[0].copy() for name, arrays in zip(NAMES, self.group.param_arrays, strict=True)}


SGD, ADAM, DECAY = {"momentum": 0.9}, {"optimizer": "adam"}, {"momentum": 0.9, "wd": 0.1}
WAYS = [(1, None), (2, "local"), (2, "device")]


@pytest.mark.parametrize("settings", [SGD, ADAM, DECAY])
@pytest.mark.parametrize(("before", "after"), [(a, b) for a in WAYS for b in WAYS])
def test_training_goes_on_from_saved_states_with_other_devices_and_stores(tmp_path, settings, before, after):
    expected = Trained(*before, **settings).steps(3)
    first = Trained(*before, **settings)
    values = first.steps(2)
    first.update.save_states(tmp_path / "s.states")
    second = Trained(*after, values, **settings)
    second.update.load_states(tmp_path / "s.states")
    for name, value in second.steps(1).items():
        np.testing.assert_allclose(value.asnumpy(), expected[name].asnumpy(), rtol=1e-5, atol=1e-6)


def test_states_of_another_optimizer_are_refused(tmp_path):
    sgd = Trained(1, None, **SGD)
    sgd.steps(1)
    sgd.update.save_states(tmp_path / "s.states")
    adam = Trained(1, None, **ADAM)
    with pytest.raises(FormatError, match="the state of .* for Adam, got nothing; it is another optimizer's"):
        adam.update.load_states(tmp_path / "s.states")
    mx.nd.save(tmp_path / "list", [mx.nd.ones((1,))])
    with pytest.raises(FormatError, match="no optimizer states: its arrays have no names"):
        adam.update.load_states(tmp_path / "list")


def test_an_optimizer_by_name_learns_the_names_and_the_batch_size():
    trained = Trained(2, "device", learning_rate=0.5)
    rule = trained.update.optimizer
    assert (rule.lr, rule.rescale_grad) == (0.5, 1 / 4)
    assert rule.idx2name[3] == NAMES[1], "index i * devices + k"
    with pytest.raises(ParameterError, match="optimizer must be a name or an Optimizer, got 3"):
        updates.make_optimizer(3, trained.group, None, 1, {})
