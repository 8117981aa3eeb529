"""Module: binding, parameters, optimizers, batches of any shape, and training over several executors."""

import collections
import logging

import numpy as np
import pytest

import raymx as mx
from raymx.errors import BindError, FormatError, ParameterError, ShapeError

TWO = [mx.cpu()] * 2
rng = np.random.RandomState(0)
X = rng.randn(96, 5).astype("float32")
Y = (X[:, 0] > 0).astype("float32")


def network():
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), name="fc1", num_hidden=8)
    net = mx.sym.Activation(net, name="relu1", act_type="relu")
    net = mx.sym.FullyConnected(net, name="fc2", num_hidden=2)
    return mx.sym.SoftmaxOutput(net, name="softmax")


PARAMS = ["fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias"]


def bound(context=None, rows=8, **options):
    module = mx.mod.Module(network(), context=context)
    module.bind([("data", (rows, 5))], [("softmax_label", (rows,))], **options)
    mx.random.seed(0)
    module.init_params(mx.init.Xavier())
    return module


def batch(rows=8, begin=0):
    return mx.io.DataBatch([mx.nd.array(X[begin : begin + rows])], [mx.nd.array(Y[begin : begin + rows])])


def values(module):
    return {name: value.asnumpy() for name, value in module.get_params()[0].items()}


def equal(one, other, rtol=0.0):
    assert sorted(one) == sorted(other)
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=rtol, atol=1e-6 if rtol else 0, err_msg=name)


# ---- fit, score, predict ----


@pytest.mark.parametrize(("context", "kvstore"), [(None, "local"), (TWO, "local"), (TWO, "device"), (TWO, None)])
def test_fit_learns(context, kvstore):
    mx.random.seed(0)
    module = mx.mod.Module(network(), context=context)
    data = mx.io.NDArrayIter(X, Y, 16)
    module.fit(data, num_epoch=12, initializer=mx.init.Xavier(), kvstore=kvstore,
               optimizer_params={"learning_rate": 0.5, "momentum": 0.9})  # fmt: skip
    assert dict(module.score(data, ["acc", "ce"]))["accuracy"] > 0.9


def test_several_devices_learn_what_one_learns():
    found = []
    for context in (None, TWO, [mx.cpu()] * 3):
        module = bound(context, 12)
        module.init_optimizer(optimizer_params={"learning_rate": 0.1, "momentum": 0.9})
        for begin in range(0, 96, 12):
            module.forward_backward(batch(12, begin))
            module.update()
        found.append(values(module))
    equal(found[0], found[1], rtol=1e-4)
    equal(found[0], found[2], rtol=1e-4)


def test_modules_and_feed_forward_learn_the_same_bits():
    data = mx.io.NDArrayIter(X, Y, 16)
    mx.random.seed(0)
    model = mx.model.FeedForward(network(), num_epoch=2, learning_rate=0.1, initializer=mx.init.Xavier()).fit(data)
    data.reset()
    mx.random.seed(0)
    module = mx.mod.Module(network())
    module.fit(data, num_epoch=2, initializer=mx.init.Xavier(), optimizer_params={"learning_rate": 0.1})
    equal(values(module), {name: value.asnumpy() for name, value in model.arg_params.items()})


def test_what_fit_tells_and_to_whom(caplog):
    seen, epochs, ends, evals = [], [], [], []
    module, data = mx.mod.Module(network()), mx.io.NDArrayIter(X, Y, 32)
    with caplog.at_level(logging.INFO, "raymx"):
        module.fit(
            data, eval_data=mx.io.NDArrayIter(X[:40], Y[:40], 32), num_epoch=2, validation_metric="ce",
            batch_end_callback=lambda p: seen.append((p.epoch, p.nbatch, p.eval_metric.num_inst)),
            epoch_end_callback=lambda epoch, symbol, args, auxes: epochs.append((epoch, sorted(args), auxes)),
            eval_end_callback=lambda p: ends.append((p.epoch, p.nbatch, p.eval_metric.num_inst)),
            eval_batch_end_callback=lambda p: evals.append((p.epoch, p.nbatch)),
        )  # fmt: skip
    assert seen == [(epoch, n, 32 * (n + 1)) for epoch in (0, 1) for n in range(3)]
    assert epochs == [(epoch, sorted(PARAMS), {}) for epoch in (0, 1)]
    assert ends == [(0, 2, 40), (1, 2, 40)], "padding does not count"
    assert evals == [(0, 0), (0, 1), (1, 0), (1, 1)]
    lines = [record.getMessage().split("=")[0] for record in caplog.records]
    for epoch in (0, 1):
        for line in ("Train-accuracy", "Time cost", "Validation-cross-entropy"):
            assert f"Epoch[{epoch}] {line}" in lines


def test_a_metric_that_is_reset_within_an_epoch_is_logged_whole(caplog):
    module, data = mx.mod.Module(network()), mx.io.NDArrayIter(X, Y, 32)
    with caplog.at_level(logging.INFO, "raymx"):
        module.fit(data, num_epoch=1, batch_end_callback=lambda p: p.eval_metric.reset_local(),
                   initializer=mx.init.One())  # fmt: skip
    found = [r.getMessage() for r in caplog.records if "Train-accuracy" in r.getMessage()]
    assert len(found) == 1
    assert "nan" not in found[0]


def test_fit_goes_on_with_what_the_module_has():
    module, data = mx.mod.Module(network()), mx.io.NDArrayIter(X, Y, 16)
    module.fit(data, num_epoch=1)
    before = values(module)
    module.fit(data, num_epoch=1, optimizer_params={"learning_rate": 0.0})
    assert any((before[name] != value).any() for name, value in values(module).items()), "it has an optimizer"
    module.fit(data, begin_epoch=3, num_epoch=3, arg_params={"fc1_bias": mx.nd.ones((8,))}, allow_missing=True,
               force_init=True)  # fmt: skip
    assert (values(module)["fc1_bias"] == 1).all()


def test_predict_leaves_out_padding_and_joins_batches():
    module = bound(rows=8)
    expected = np.concatenate([module.predict(X[i : i + 8]).asnumpy() for i in (0, 8)])
    data = mx.io.NDArrayIter(X[:13], None, 8)
    np.testing.assert_array_equal(module.predict(data).asnumpy(), expected[:13])
    assert [len(x.asnumpy()) for (x,) in module.predict(data, merge_batches=False)] == [8, 5]
    assert isinstance(module.predict(data, always_output_list=True), list)
    assert module.predict(data, num_batch=1).shape == (8, 2)
    found = [(outputs[0].shape, nbatch, b.pad) for outputs, nbatch, b in module.iter_predict(data)]
    assert found == [((8, 2), 0, 0), ((5, 2), 1, 3)]
    with pytest.raises(ParameterError, match="predict: eval_data must be a data iterator or an array, got 3"):
        module.predict(3)


# ---- shapes ----


@pytest.mark.parametrize("context", [None, TWO])
def test_batches_of_other_shapes_are_taken_as_they_come(context):
    module = bound(context)
    module.init_optimizer(optimizer_params={"learning_rate": 0.0})
    whole = module.predict(X[:8]).asnumpy()
    for rows in (6, 12, 4, 8):
        module.forward_backward(batch(rows))
        module.update()
        assert module.get_outputs()[0].shape == (rows, 2)
        assert module.data_shapes[0].shape == (rows, 5)
        np.testing.assert_allclose(module.get_outputs()[0].asnumpy()[:4], whole[:4], rtol=1e-5)
    assert len(module._groups) == 4, "executors are kept"


def test_reshaped_executors_use_the_memory_of_the_first():
    module = bound(rows=12)
    main = module._exec_group
    module.reshape([("data", (4, 5))], [("softmax_label", (4,))])
    assert module._exec_group.execs[0]._loaded[0].arena is main.execs[0]._loaded[0].arena
    assert module._exec_group.param_arrays[0][0] is main.param_arrays[0][0]
    assert module.output_shapes == [("softmax_output", (4, 2))]


def test_a_batch_without_labels_is_resized_as_well():
    module = bound()
    module.forward(mx.io.DataBatch([mx.nd.array(X[:3])]), is_train=False)
    assert module.get_outputs()[0].shape == (3, 2)
    assert module.label_shapes[0].shape == (3,)


def test_anything_with_data_is_a_batch():
    module, only = bound(), collections.namedtuple("Batch", ["data"])
    expected = module.predict(X[:8]).asnumpy()
    for rows in (8, 5):
        module.forward(only([mx.nd.array(X[:rows])]), is_train=False)
        np.testing.assert_allclose(module.get_outputs()[0].asnumpy(), expected[:rows], rtol=1e-6)


def test_a_batch_may_come_in_parts_for_each_device():
    module = bound(TWO)
    expected = module.predict(X[:8]).asnumpy()
    parts = [batch(4), batch(4, 4)]
    module.forward(parts, is_train=False)
    np.testing.assert_array_equal(module.get_outputs()[0].asnumpy(), expected)
    metric = mx.metric.create("acc")
    module.update_metric(metric, [part.label for part in parts], pre_sliced=True)
    assert metric.num_inst == 8


def test_work_loads_and_unmerged_outputs():
    module = mx.mod.Module(network(), context=TWO, work_load_list=[3, 1])
    module.bind([("data", (8, 5))], [("softmax_label", (8,))])
    module.init_params()
    module.forward(batch())
    assert [x.shape for x in module.get_outputs(merge_multi_context=False)[0]] == [(6, 2), (2, 2)]


def test_layouts_reach_the_devices():
    net = mx.sym.Activation(mx.sym.Variable("data"), act_type="relu", attr={"__layout__": "TNC"})
    module = mx.mod.Module(net, label_names=None, context=TWO)
    module.bind([mx.io.DataDesc("data", (3, 8, 7), layout="TNC")], inputs_need_grad=True)
    module.init_params()
    module.forward(mx.io.DataBatch([mx.nd.ones((3, 8, 7))]))
    module.backward([mx.nd.ones((3, 8, 7))])
    assert [x.shape for x in module.get_outputs(merge_multi_context=False)[0]] == [(3, 4, 7)] * 2
    assert module.get_input_grads()[0].shape == (3, 8, 7)


def test_gradients_of_inputs_come_in_the_order_of_the_data():
    a, b, c = (mx.sym.Variable(name) for name in "abc")
    module = mx.mod.Module(a + 2 * b + 3 * c, ["b", "c", "a"], None, context=TWO)
    module.bind([[name, (4, 2)] for name in "bca"], inputs_need_grad=True)
    module.init_params()
    module.forward(mx.io.DataBatch([mx.nd.ones((4, 2))] * 3))
    module.backward([mx.nd.ones((4, 2))])
    assert [float(g.asnumpy().mean()) for g in module.get_input_grads()] == [2, 3, 1]
    assert [g[0].shape for g in module.get_input_grads(merge_multi_context=False)] == [(2, 2)] * 3


def test_gradients_may_add_up():
    module = bound(grad_req="add")
    for _ in range(3):
        module.forward_backward(batch())
    once = bound()
    once.forward_backward(batch())
    for three, one in zip(module._exec_group.grad_arrays, once._exec_group.grad_arrays, strict=True):
        np.testing.assert_allclose(three[0].asnumpy(), 3 * one[0].asnumpy(), rtol=1e-4, atol=1e-6)


# ---- parameters ----


def test_first_values_come_from_what_is_given_then_the_initializer():
    module = bound()
    given = {"fc1_weight": mx.nd.ones((8, 5)), "fc1_bias": mx.nd.ones((8,))}
    with pytest.raises(BindError, match="no value for the parameter 'fc2_bias'.*allow_missing=True"):
        module.init_params(arg_params=given, aux_params={}, force_init=True)
    module.init_params(mx.init.Constant(7), given, {}, allow_missing=True, force_init=True)
    found = values(module)
    assert (found["fc1_weight"] == 1).all()
    assert (found["fc2_weight"] == 7).all()
    module.init_params(mx.init.Zero())
    assert (values(module)["fc2_weight"] == 7).all(), "there are values, and no force_init"
    assert (module._exec_group.execs[0].arg_dict["fc2_weight"].asnumpy() == 7).all()


def test_set_params_refuses_what_is_missing_or_unknown():
    module = bound()
    args = module.get_params()[0]
    extra = {**args, "fc3_bias": mx.nd.ones((1,))}
    module.set_params(extra, {}, allow_extra=True)
    with pytest.raises(ValueError, match="'fc3_bias' is no parameter of the symbol; did you mean 'fc"):
        module.set_params(extra, {})
    some = {"fc1_bias": mx.nd.ones((8,))}
    with pytest.raises(RuntimeError, match="no value for the parameter"):
        module.set_params(some, {})
    before = values(module)
    module.set_params(some, {}, allow_missing=True)
    equal(values(module), {**before, "fc1_bias": np.ones(8, "float32")})


def test_attributes_of_a_variable_choose_its_initializer():
    weight = mx.sym.Variable("fc1_weight", init=mx.init.Constant(3))
    module = mx.mod.Module(mx.sym.FullyConnected(mx.sym.Variable("data"), weight=weight, name="fc1", num_hidden=2))
    module.bind([("data", (4, 5))])
    module.init_params()
    assert (values(module)["fc1_weight"] == 3).all()


def test_the_slope_of_a_prelu_begins_at_a_quarter():
    module = mx.mod.Module(mx.sym.LeakyReLU(mx.sym.Variable("data"), act_type="prelu", name="act"))
    module.bind([("data", (4, 5))])
    module.init_params()
    assert (values(module)["act_gamma"] == 0.25).all()


def test_fixed_parameters_stay():
    module = mx.mod.Module(network(), fixed_param_names=["fc1_weight", "fc1_bias"])
    module.fit(mx.io.NDArrayIter(X, Y, 16), num_epoch=1, initializer=mx.init.One(),
               optimizer_params={"learning_rate": 0.1, "momentum": 0.9})  # fmt: skip
    found = values(module)
    assert (found["fc1_weight"] == 1).all()
    assert (found["fc2_weight"] != 1).any()


@pytest.mark.parametrize("context", [None, TWO])
def test_states_are_carried_from_batch_to_batch(context):
    data, state = mx.sym.Variable("data"), mx.sym.Variable("state")
    module = mx.mod.Module(data + state, label_names=None, state_names=["state"], context=context)
    module.bind([("data", (4, 3))], for_training=False)
    module.init_params()
    module.set_states(value=1)
    step = mx.io.DataBatch([mx.nd.ones((4, 3))])
    for expected in (2, 3, 4):
        module.forward(step)
        outputs = module.get_outputs(merge_multi_context=False)
        assert (module.get_outputs()[0].asnumpy() == expected).all()
        module.set_states(states=outputs)
    assert (module.get_states()[0].asnumpy() == 4).all()
    module.set_states(states=[mx.nd.full((4, 3), 9)])
    assert (module.get_states()[0].asnumpy() == 9).all()
    with pytest.raises(ParameterError, match="set_states: 2 states came for state"):
        module.set_states(states=[1, 2])


# ---- files ----


@pytest.mark.parametrize("context", [None, TWO])
def test_a_loaded_checkpoint_goes_on_bit_for_bit(tmp_path, context):
    settings = {"optimizer": "adam", "optimizer_params": {"learning_rate": 0.01}}

    def train(module, begins):
        for begin in begins:
            module.forward_backward(batch(8, begin))
            module.update()

    module = bound(context)
    module.init_optimizer(**settings)
    train(module, (0, 8))
    module.save_checkpoint(tmp_path / "net", 2, save_optimizer_states=True)
    train(module, (16, 24))
    other = mx.mod.Module.load(tmp_path / "net", 2, load_optimizer_states=True, context=context)
    other.bind([("data", (8, 5))], [("softmax_label", (8,))])
    other.init_optimizer(**settings)
    train(other, (16, 24))
    equal(values(module), values(other))
    assert other.symbol.tojson() == module.symbol.tojson()


def test_parameters_in_files(tmp_path):
    module, other = bound(), bound()
    module.init_params(mx.init.One(), force_init=True)
    module.save_params(tmp_path / "p.params")
    other.load_params(tmp_path / "p.params")
    equal(values(module), values(other))
    mx.nd.save(tmp_path / "list", [mx.nd.ones((1,))])
    with pytest.raises(FormatError, match="its arrays have no names; expected arg:<name>"):
        other.load_params(tmp_path / "list")


# ---- shared memory ----


def test_modules_may_share_parameters_and_optimizer():
    module = bound()
    module.init_optimizer(optimizer_params={"learning_rate": 0.5})
    other = mx.mod.Module(network())
    other.bind([("data", (4, 5))], [("softmax_label", (4,))], shared_module=module)
    assert other.params_initialized
    assert other.optimizer_initialized
    before = values(module)
    other.forward_backward(batch(4))
    other.update()
    after = values(module)
    assert any((before[name] != after[name]).any() for name in PARAMS)
    equal(values(other), after)
    with pytest.raises(BindError, match="bind: shared_module: the module has no memory yet"):
        mx.mod.Module(network()).bind([("data", (4, 5))], shared_module=mx.mod.Module(network()))


def test_binding_anew_keeps_parameters():
    module = bound()
    module.init_optimizer(optimizer_params={"learning_rate": 0.5})
    module.forward_backward(batch())
    module.update()
    before = values(module)
    module.bind([("data", (2, 5))], for_training=False, force_rebind=True)
    equal(values(module), before)
    module.forward(mx.io.DataBatch([mx.nd.array(X[:2])]))
    with pytest.raises(BindError, match="bound with for_training=False"):
        module.backward()


@pytest.mark.parametrize(("context", "kvstore"), [(None, None), (TWO, "local"), (TWO, "device")])
def test_updates_after_binding_anew_reach_the_new_executors(context, kvstore):
    module = bound(context)
    module.init_optimizer(kvstore, optimizer_params={"learning_rate": 0.5})
    module.bind([("data", (4, 5))], [("softmax_label", (4,))], force_rebind=True)
    before = values(module)
    module.forward_backward(batch(4))
    module.update()
    assert any((before[name] != value).any() for name, value in values(module).items())


# ---- monitors, metrics, refusals ----


def test_a_monitor_watches_executors_of_every_shape():
    module, monitor = bound(), mx.mon.Monitor(1, pattern="softmax_output")
    module.install_monitor(monitor)
    for rows in (8, 3):
        monitor.tic()
        module.forward(batch(rows), is_train=False)
        assert [name for _, name, _ in monitor.toc()] == ["softmax_output"]


def test_a_module_may_judge_in_its_own_way():
    class Mine(mx.mod.Module):
        def update_metric(self, eval_metric, labels, pre_sliced=False):
            eval_metric.update(labels, [mx.nd.array(labels[0].asnumpy())])

    module = Mine(network())
    module.bind([("data", (8, 5))], [("softmax_label", (8,))])
    module.init_params()
    assert module.score(mx.io.NDArrayIter(X, Y, 8), "acc") == [("accuracy", 1.0)]


def test_states_of_batch_norm_are_averaged_over_devices_at_the_end_of_an_epoch():
    net = mx.sym.FullyConnected(mx.sym.BatchNorm(mx.sym.Variable("data"), name="bn"), name="fc", num_hidden=2)
    module = mx.mod.Module(mx.sym.SoftmaxOutput(net, name="softmax"), context=TWO)
    module.fit(mx.io.NDArrayIter(X, Y, 16), num_epoch=1)
    first, second = module._exec_group.aux_arrays[0]
    np.testing.assert_array_equal(first.asnumpy(), second.asnumpy())
    assert (module.get_params()[1]["bn_moving_var"].asnumpy() != 1).all()


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (lambda: mx.mod.Module(network(), ["date"]), BindError,
         r"data_names has 'date', which is no argument of the symbol; did you mean 'data'\?"),
        (lambda: mx.mod.Module(network(), fixed_param_names=["fc9"]), BindError, "fixed_param_names has 'fc9'"),
        (lambda: mx.mod.Module(network()).init_params(), BindError, r"init_params: call bind\(\) first"),
        (lambda: mx.mod.Module(network()).forward(batch()), BindError, r"the module has no memory yet; call bind\(\)"),
        (lambda: bound().update(), BindError, r"the module has no optimizer yet; call init_optimizer\(\)"),
        (lambda: bound().fit(mx.io.NDArrayIter(X, Y, 8)), ParameterError, "fit: num_epoch is missing"),
        (lambda: mx.mod.Module(network()).bind([("dat", (8, 5))]), BindError,
         r"bind: data_shapes has 'dat', which is not among the module's data; did you mean 'data'\?"),
        (lambda: mx.mod.Module(network()).bind([]), BindError, "data_shapes lacks 'data'; got nothing"),
        (lambda: mx.mod.Module(network()).bind([("data", (8, 5))], [("label", (8,))]), BindError,
         "label_shapes lacks 'softmax_label'; got label"),
        (lambda: bound(for_training=False, inputs_need_grad=True), BindError, "needs for_training=True"),
        (lambda: bound().forward(mx.io.DataBatch([mx.nd.ones((8, 5))] * 2)), ShapeError,
         "a batch has 2 arrays for data"),
        (lambda: bound().init_params(arg_params={"fc1_bias": mx.nd.ones((3,))}, allow_missing=True, force_init=True),
         BindError, r"the parameter 'fc1_bias' must have shape \(8,\) here, the given value has \(3,\)"),
        (lambda: bound().get_input_grads(), BindError, "inputs_need_grad=True"),
    ],
)  # fmt: skip
def test_refusals(act, error, text):
    with pytest.raises(error, match=text):
        act()


@pytest.mark.ray
def test_actors_learn_the_bits_that_executors_here_learn():
    found = []
    for context in (TWO, [mx.cpu(1), mx.cpu(2)]):
        mx.random.seed(0)
        module = mx.mod.Module(network(), context=context)
        module.fit(mx.io.NDArrayIter(X, Y, 20), num_epoch=2, kvstore="local_allreduce_cpu",
                   optimizer_params={"learning_rate": 0.1, "momentum": 0.9})  # fmt: skip
        found.append((values(module), module.score(mx.io.NDArrayIter(X, Y, 20), ["acc", "ce"])))
    equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
