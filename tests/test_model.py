"""FeedForward: training, prediction and files, end to end on small networks."""

import json
import logging
import pickle
import uuid

import numpy as np
import pytest

import raymx as mx
from raymx.errors import BindError, FormatError, MXNetError, ParameterError, ShapeError

CENTERS = np.array([[2, 0, 0], [0, 2, 0], [0, 0, 2]], "float32")


def points(count=90, seed=0):
    """Three well separated clouds and their numbers."""
    rng = np.random.RandomState(seed)
    y = rng.randint(0, 3, count)
    return (CENTERS[y] + 0.3 * rng.randn(count, 3)).astype("float32"), y.astype("float32")


X, Y = points()
X_TEST, Y_TEST = points(37, seed=1)


def network(hidden=16, name="softmax"):
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=hidden, name="fc1")
    net = mx.sym.Activation(net, act_type="relu", name="relu1")
    net = mx.sym.FullyConnected(net, num_hidden=3, name="fc2")
    return mx.sym.SoftmaxOutput(net, name=name)


def trained(net=None, seed=0, ctx=None, fit=None, **settings):
    mx.random.seed(seed)
    np.random.seed(seed)
    usual = {"num_epoch": 3, "learning_rate": 0.3, "numpy_batch_size": 16, "initializer": mx.init.Xavier()}
    model = mx.model.FeedForward(network() if net is None else net, ctx=ctx, **{**usual, **settings})
    return model.fit(X, Y, **(fit or {}))


def weights(model):
    return {name: value.asnumpy() for name, value in model.arg_params.items()}


def assert_same(one, other):
    assert list(one) == list(other)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.fixture(scope="module")
def model():
    return trained(num_epoch=10, momentum=0.5)


# ---- training ----


def test_training_separates_the_clouds(model):
    assert (model.predict(X_TEST).argmax(axis=1) == Y_TEST).mean() == 1.0
    assert list(model.arg_params) == ["fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias"]
    assert {value.context for value in model.arg_params.values()} == {mx.cpu()}


def test_a_line_through_points():
    np.random.seed(0)
    x = np.linspace(-1, 1, 100)
    y = 5 * x + np.random.normal(0, 0.5, 100)
    line = mx.symbol.FullyConnected(data=mx.symbol.Variable("data"), num_hidden=1, name="pre")
    loss = mx.symbol.LinearRegressionOutput(data=line, label=mx.symbol.Variable("softmax_label"), name="loss")
    model = mx.model.FeedForward(ctx=mx.cpu(), symbol=loss, num_epoch=100, learning_rate=0.001, numpy_batch_size=1)
    model.fit(X=x, y=y)
    prediction = model.predict(x)
    assert prediction.shape == (100, 1)
    assert np.polyfit(x, prediction[:, 0], 1)[0] == pytest.approx(5, abs=0.6)


def test_one_step_by_hand():
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=1, no_bias=True, name="fc")
    net = mx.sym.LinearRegressionOutput(net, mx.sym.Variable("label"))
    model = mx.model.FeedForward(net, num_epoch=1, learning_rate=0.1, wd=0.5, numpy_batch_size=2,
                                 arg_params={"fc_weight": mx.nd.array([[1.0, 2.0]])})  # fmt: skip
    model.fit(np.array([[1, 0], [0, 1]]), np.array([3, 0]), eval_metric="mse")
    # gradients of the two rows: (1 - 3) (1, 0) and (2 - 0) (0, 1), halved for the batch; then decay
    np.testing.assert_allclose(model.arg_params["fc_weight"].asnumpy(), [[1 + 0.1 - 0.05, 2 - 0.1 - 0.1]], rtol=1e-6)


def test_equal_seeds_give_equal_bits():
    assert_same(weights(trained(seed=4)), weights(trained(seed=4)))
    assert not np.array_equal(weights(trained(seed=5))["fc1_weight"], weights(trained(seed=4))["fc1_weight"])


TWO = [mx.cpu(), mx.cpu()]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("wd", [0.0, 0.01])
def test_who_updates_makes_no_difference(optimizer, wd):
    settings = {"ctx": TWO, "optimizer": optimizer, "wd": wd, "learning_rate": 0.05}
    expected = weights(trained(**settings))
    for kvstore in ("local_update_cpu", "local_allreduce_cpu", "device", mx.kv.create("local")):
        assert_same(weights(trained(**settings, fit={"kvstore": kvstore})), expected)


@pytest.mark.parametrize("ctx", [None, TWO])
def test_an_optimizer_of_the_users_does_the_same(ctx):
    mine = mx.optimizer.SGD(learning_rate=0.3, momentum=0.9, rescale_grad=1 / 16)
    assert_same(weights(trained(ctx=ctx, optimizer=mine)), weights(trained(ctx=ctx, momentum=0.9)))


def test_several_devices_learn_what_one_learns():
    one, two = weights(trained()), weights(trained(ctx=TWO, fit={"work_load_list": [3, 1]}))
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-3, atol=1e-5)


def test_training_goes_on_from_given_parameters():
    data = mx.io.NDArrayIter(X, Y, 30)
    mx.random.seed(0)
    whole = mx.model.FeedForward(network(), num_epoch=4, learning_rate=0.3).fit(data)
    mx.random.seed(0)
    first = mx.model.FeedForward(network(), num_epoch=2, learning_rate=0.3).fit(data)
    seen = []
    second = mx.model.FeedForward(network(), num_epoch=4, begin_epoch=2, learning_rate=0.3,
                                  arg_params=first.arg_params)  # fmt: skip
    second.fit(data, epoch_end_callback=lambda epoch, *args: seen.append(epoch))
    assert seen == [2, 3]
    assert_same(weights(second), weights(whole))


def test_fixed_multipliers_of_the_symbol_hold():
    data = mx.sym.Variable("data")
    net = mx.sym.FullyConnected(data, num_hidden=3, name="fc", attr={"lr_mult": "0"})
    model = trained(mx.sym.SoftmaxOutput(net, name="softmax"), arg_params={"fc_weight": mx.nd.ones((3, 3))})
    assert (model.arg_params["fc_weight"].asnumpy() == 1).all()


def test_create_is_constructor_and_fit():
    model = mx.model.FeedForward.create(network(), X, Y, num_epoch=2, learning_rate=0.3, numpy_batch_size=16)
    assert model.predict(X_TEST).shape == (37, 3)


def test_the_label_gets_the_name_that_the_symbol_has():
    assert trained(network(name="out"), num_epoch=10).score((X_TEST, Y_TEST)) == 1.0


def test_data_of_several_inputs():
    net = mx.sym.FullyConnected(mx.sym.Variable("left") + mx.sym.Variable("right"), num_hidden=3, name="fc")
    model = mx.model.FeedForward(mx.sym.SoftmaxOutput(net, name="softmax"), num_epoch=30, learning_rate=0.5,
                                 numpy_batch_size=16)  # fmt: skip
    model.fit({"left": X / 2, "right": X / 2}, Y)
    assert model.score(({"left": X_TEST, "right": 0 * X_TEST}, Y_TEST)) == 1.0


def test_lists_and_column_labels_are_taken():
    model = mx.model.FeedForward(network(), num_epoch=1)
    model.fit(X.tolist(), Y.reshape(-1, 1))
    assert model.predict(X_TEST.tolist()).shape == (37, 3)


def test_labels_of_several_columns():
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=3, name="fc")
    model = mx.model.FeedForward(mx.sym.LinearRegressionOutput(net, name="lro"), num_epoch=40, learning_rate=0.3)
    model.fit(X, X[:, ::-1], eval_metric="mse")
    assert model.score((X_TEST, X_TEST[:, ::-1]), "mse") < 0.05


class Lengths(mx.io.DataIter):
    """Batches of points that come as one long row of 1, 2 or 3 of them, by bucket."""

    default_bucket_key = 3

    def __init__(self):
        super().__init__(4)
        self.provide_data, self.provide_label = self._shapes(3)
        self.reset()

    def _shapes(self, length):
        return [("data", (4, length, 3))], [("softmax_label", (4,))]

    def reset(self):
        self.keys = iter([3, 1, 2, 3, 2, 1] * 5)
        self.rng = np.random.RandomState(0)

    def next(self):
        length = next(self.keys)
        y = self.rng.randint(0, 3, 4)
        data = np.repeat(CENTERS[y][:, None], length, axis=1)
        return mx.io.DataBatch([data], [y], 0, None, length, *self._shapes(length))


def test_buckets_share_their_parameters():
    def net(length):
        data = mx.sym.Reshape(mx.sym.Variable("data"), shape=(-1, 3))
        each = mx.sym.FullyConnected(data, num_hidden=3, name="fc")
        total = mx.sym.sum(mx.sym.Reshape(each, shape=(-1, length, 3)), axis=1)
        return mx.sym.SoftmaxOutput(total, name="softmax")

    counts = []
    model = mx.model.FeedForward(net, num_epoch=3, learning_rate=0.5)
    model.fit(Lengths(), eval_data=Lengths(), eval_end_callback=lambda p: counts.append(p.eval_metric.num_inst),
              batch_end_callback=lambda p: counts.append(p.nbatch))  # fmt: skip
    assert counts[-2:] == [30, 120]
    assert model.symbol.list_arguments() == ["data", "fc_weight", "fc_bias", "softmax_label"]
    whole = [(np.repeat(CENTERS[:, None], 3, axis=1), np.arange(3))]
    assert [model.score(pair) for pair in whole] == [1.0]


# ---- what callbacks see ----


def test_callbacks_and_metrics():
    seen, epochs, evals = [], [], []

    def at_batch(param):
        seen.append((param.epoch, param.nbatch, param.eval_metric.num_inst, sorted(param.locals)[:1]))

    def at_epoch(epoch, symbol, arg_params, aux_params):
        epochs.append((epoch, metric.num_inst, sorted(arg_params), aux_params))

    metric = mx.metric.create("acc")
    data = mx.io.NDArrayIter(X, Y, 30)
    mx.model.FeedForward(network(), num_epoch=2).fit(
        data, eval_data=(X_TEST, Y_TEST), eval_metric=metric, batch_end_callback=[at_batch],
        epoch_end_callback=[at_epoch], eval_batch_end_callback=lambda p: evals.append(("batch", p.epoch)),
        eval_end_callback=lambda p: evals.append(("end", p.epoch, p.eval_metric.num_inst)),
    )  # fmt: skip
    all_so_far = [(1, 30), (2, 60), (3, 90)]
    assert [s[:3] for s in seen] == [(epoch, n, count) for epoch in (0, 1) for n, count in all_so_far]
    names = ["fc1_bias", "fc1_weight", "fc2_bias", "fc2_weight"]
    assert epochs == [(epoch, 90, names, {}) for epoch in (0, 1)]
    assert evals == [e for epoch in (0, 1) for e in (("batch", epoch), ("end", epoch, 37))], "padding does not count"


def test_an_epoch_of_a_given_size():
    counts = []
    model = mx.model.FeedForward(network(), num_epoch=2, epoch_size=4)
    model.fit(mx.io.NDArrayIter(X, Y, 30), epoch_end_callback=lambda *args: counts.append(metric.num_inst),
              eval_metric=(metric := mx.metric.create("acc")))  # fmt: skip
    assert counts == [120, 120]


def test_lines_of_the_log(caplog):
    caplog.set_level(logging.INFO, "raymx")
    trained(num_epoch=1, fit={"eval_data": (X_TEST, Y_TEST), "eval_metric": ["acc", "ce"]})
    words = [" ".join(message.split()[:2]).split("=")[0] for message in caplog.messages]
    assert words == ["Start training", "Epoch[0] Train-accuracy", "Epoch[0] Train-cross-entropy", "Epoch[0] Time",
                     "Epoch[0] Validation-accuracy", "Epoch[0] Validation-cross-entropy"]  # fmt: skip
    mine = logging.getLogger("mine")
    caplog.clear()
    caplog.set_level(logging.INFO, "mine")
    trained(num_epoch=1, fit={"logger": mine})
    assert {record.name for record in caplog.records} == {"mine"}


def test_training_without_a_metric_is_the_same():
    assert_same(weights(trained(fit={"eval_metric": None})), weights(trained()))


def test_a_metric_may_want_ndarrays():
    class Rows(mx.metric.EvalMetric):
        def update(self, labels, preds):
            self.sum_metric += float(mx.nd.sum(preds[0]).asscalar())
            self.num_inst += labels[0].shape[0]

    rows = Rows("rows")
    trained(num_epoch=1, fit={"eval_metric": rows})
    assert rows.get()[1] == pytest.approx(1.0), "each row of probabilities sums to one"


def test_a_monitor_watches_training(caplog):
    caplog.set_level(logging.INFO, "raymx")
    trained(num_epoch=1, fit={"monitor": mx.mon.Monitor(3, pattern="fc1_weight$")})
    steps = [int(message.split()[1]) for message in caplog.messages if message.startswith("Batch:")]
    assert steps == [1, 4]


# ---- prediction ----


def test_padding_is_cut_off(model):
    whole = model.predict(X_TEST)
    assert whole.shape == (37, 3)
    np.testing.assert_allclose(whole.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(model.predict(mx.io.NDArrayIter(X_TEST, None, 5)), whole, rtol=1e-5)
    np.testing.assert_allclose(model.predict(mx.nd.array(X_TEST)), whole, rtol=1e-5)


def test_some_batches_and_no_reset(model):
    data = mx.io.NDArrayIter(X_TEST, Y_TEST, 5)
    whole = model.predict(data)
    np.testing.assert_array_equal(model.predict(data, num_batch=2), whole[:10])
    data.reset()
    next(data)
    np.testing.assert_array_equal(model.predict(data, reset=False), whole[5:])


def test_data_and_labels_may_come_along(model):
    outputs, data, label = model.predict(mx.io.NDArrayIter(X_TEST, Y_TEST, 5), return_data=True)
    assert outputs.shape == (37, 3)
    np.testing.assert_array_equal(data, X_TEST)
    np.testing.assert_array_equal(label, Y_TEST)


def test_several_outputs(model):
    internals = network().get_internals()
    both = mx.sym.Group([internals["fc1_output"], internals["softmax_output"]])
    hidden, probabilities = mx.model.FeedForward(both, arg_params=model.arg_params).predict(X_TEST)
    assert hidden.shape == (37, 16)
    np.testing.assert_array_equal(probabilities, model.predict(X_TEST))


def test_features_within_the_network(model):
    inner = network().get_internals()["fc1_output"]
    features = mx.model.FeedForward(inner, arg_params=model.arg_params, aux_params=model.aux_params,
                                    allow_extra_params=True).predict(mx.io.NDArrayIter(X_TEST, Y_TEST, 5))  # fmt: skip
    params = weights(model)
    np.testing.assert_allclose(features, X_TEST @ params["fc1_weight"].T + params["fc1_bias"], rtol=1e-4, atol=1e-5)


def test_prediction_follows_new_parameters(model):
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=1, no_bias=True, name="fc")
    mine = mx.model.FeedForward(net, arg_params={"fc_weight": mx.nd.ones((1, 3))})
    before = mine.predict(X_TEST)
    mine.arg_params["fc_weight"][:] = 2
    np.testing.assert_array_equal(mine.predict(X_TEST), 2 * before)


def test_scores(model):
    predicted = model.predict(X_TEST)
    expected = -np.log(predicted[np.arange(37), Y_TEST.astype(int)]).mean()
    assert model.score((X_TEST, Y_TEST), "ce") == pytest.approx(expected, rel=1e-4)
    assert model.score(X_TEST, y=Y_TEST) == 1.0
    assert model.score(mx.io.NDArrayIter(X_TEST, Y_TEST, 5), ["acc", "ce"], num_batch=3)[0] == 1.0


# ---- keeping ----


def test_a_pickled_model_predicts_the_same_bits(model):
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X_TEST), model.predict(X_TEST))


@pytest.mark.parametrize("where", ["local", "memory"])
def test_checkpoints(model, tmp_path, where):
    prefix = str(tmp_path / "net") if where == "local" else f"memory://{uuid.uuid4().hex}/net"
    model.save(prefix, 7)
    arrays = mx.nd.load(f"{prefix}-0007.params")
    assert sorted(arrays) == ["arg:fc1_bias", "arg:fc1_weight", "arg:fc2_bias", "arg:fc2_weight"]
    assert "nodes" in json.loads(mx.storage.read_bytes(f"{prefix}-symbol.json"))
    loaded = mx.model.FeedForward.load(prefix, 7, numpy_batch_size=16)
    assert loaded.begin_epoch == 7
    np.testing.assert_array_equal(loaded.predict(X_TEST), model.predict(X_TEST))


def test_saving_takes_num_epoch_by_default(model, tmp_path):
    model.save(str(tmp_path / "net"))
    assert (tmp_path / "net-0010.params").exists()


def test_checkpoints_while_training(tmp_path):
    prefix = str(tmp_path / "net")
    model = trained(num_epoch=2, fit={"epoch_end_callback": mx.callback.do_checkpoint(prefix)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net-0001.params", "net-0002.params", "net-symbol.json"]
    np.testing.assert_array_equal(
        mx.model.FeedForward.load(prefix, 2, numpy_batch_size=16).predict(X_TEST), model.predict(X_TEST)
    )


def test_states_are_saved_as_aux(tmp_path):
    prefix = str(tmp_path / "net")
    arg_params, aux_params = {"fc1_weight": mx.nd.ones((2, 2))}, {"mean": mx.nd.zeros((3,))}
    mx.model.save_checkpoint(prefix, 1, network(), arg_params, aux_params)
    assert sorted(mx.nd.load(f"{prefix}-0001.params")) == ["arg:fc1_weight", "aux:mean"]
    found = mx.model.load_checkpoint(prefix, 1)
    assert (list(found[1]), list(found[2])) == (["fc1_weight"], ["mean"])


def test_scikit_learn_can_clone_and_search():
    from sklearn.base import clone

    model = trained(learning_rate=0.25)
    params = model.get_params()
    assert (params["learning_rate"], params["num_epoch"], params["numpy_batch_size"]) == (0.25, 3, 16)
    fresh = clone(model)
    assert fresh.arg_params is None
    assert fresh.symbol.tojson() == model.symbol.tojson()
    assert fresh.set_params(num_epoch=5).num_epoch == 5
    fresh.fit(X, Y)
    assert fresh.predict(X_TEST).shape == (37, 3)


# ---- refusals ----


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (lambda: mx.model.FeedForward(network(), num_epoch=1).fit(X, Y[:80]), ShapeError,
         "FeedForward.fit: X has 90 rows but y has 80; they must agree."),
        (lambda: mx.model.FeedForward(network(), num_epoch=1).fit(X), ParameterError, "FeedForward.fit: y is missing"),
        (lambda: mx.model.FeedForward(network()).fit(X, Y), ParameterError, "FeedForward.fit: num_epoch is missing"),
        (lambda: mx.model.FeedForward(network(), num_epoch=1).fit(X, Y, eval_data=3), ParameterError,
         r"eval_data must be a data iterator or a pair \(X, y\), got int"),
        (lambda: mx.model.FeedForward(network(), num_epoch=1).fit(X, Y, eval_data=(X, Y[:3])), ShapeError,
         "FeedForward.fit: eval_data: X has 90 rows but y has 3"),
        (lambda: mx.model.FeedForward(network(), num_epoch=1).fit(mx.io.NDArrayIter(X, Y, label_name="softmaxlabel")),
         BindError, r"FeedForward.fit: the data has 'softmaxlabel', which is no argument of the symbol; did you mean "
         r"'softmax_label'\? \(its arguments: data, fc1_weight"),
        (lambda: mx.model.FeedForward(network(), num_epoch=1).fit({"date": X}, Y), BindError, "the data has 'date'"),
        (lambda: mx.model.FeedForward(network(), num_epoch=1, optimizer="sdg").fit(X, Y), ParameterError,
         "no optimizer is called 'sdg'; did you mean 'sgd'"),
        (lambda: mx.model.FeedForward(network(), num_epoch=1, learning_rte=1).fit(X, Y), ParameterError,
         "SGD: unknown parameter 'learning_rte'; did you mean 'learning_rate'"),
        (lambda: mx.model.FeedForward(network(), num_epoch=1).fit(X, Y, eval_metric="accu"), ParameterError,
         "no metric is called 'accu'"),
        (lambda: mx.model.FeedForward(network(), num_epoch=1).fit(X, Y, kvstore="lokal"), MXNetError, None),
        (lambda: mx.model.FeedForward(network(), TWO, num_epoch=1).fit(X, Y, kvstore="lokal"), MXNetError,
         "no kvstore type is called 'lokal'; did you mean 'local'"),
        (lambda: mx.model.FeedForward(network(), [mx.cpu()] * 20, num_epoch=1, numpy_batch_size=8).fit(X, Y),
         ParameterError, "a batch of 8 cut by the work loads .* leaves nothing for device"),
        (lambda: mx.model.FeedForward(network(), arg_params={"fc1_wight": mx.nd.ones((1,))}), BindError,
         "arg_params has 'fc1_wight', which the symbol does not; did you mean 'fc1_weight'.*allow_extra_params=True"),
        (lambda: mx.model.FeedForward(network(), num_epoch=1, arg_params={"fc1_bias": mx.nd.ones((3,))}).fit(X, Y),
         BindError, r"'fc1_bias' must have shape \(16,\) here, the given value has \(3,\)"),
        (lambda: mx.model.FeedForward(network()).predict(X), BindError, "the model has no parameters yet; fit it,"),
        (lambda: mx.model.FeedForward(network(), arg_params={"fc1_bias": mx.nd.ones((16,))}).predict(X), BindError,
         "no value for the parameter 'fc1_weight'"),
        (lambda: mx.model.FeedForward(network()).save("x", 1), MXNetError, "the model has no parameters yet; fit it"),
        (lambda: mx.model.FeedForward(network(), arg_params={}).save("x"), ParameterError, "epoch is missing"),
        (lambda: mx.model.FeedForward("net"), ParameterError, "symbol must be a Symbol or a function that makes one"),
    ],
)  # fmt: skip
def test_refusals(act, error, text):
    if text is None:  # one device needs no store, whatever its name
        act()
        return
    with pytest.raises(error, match=text):
        act()


def test_data_that_does_not_tell_all_shapes():
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=3, name="fc") + mx.sym.Variable("more")
    other = mx.sym.dot(net, mx.sym.Variable("matrix_weight"))
    model = mx.model.FeedForward(mx.sym.LinearRegressionOutput(other, name="loss"), num_epoch=1)
    with pytest.raises(BindError, match=r"the shapes of 'matrix_weight' cannot be told from data=\(90, 3\)"):
        model.fit(X, Y)


def test_files_of_another_kind(tmp_path):
    prefix = str(tmp_path / "net")
    with pytest.raises(FileNotFoundError, match="net-0001.params"):
        mx.model.FeedForward.load(prefix, 1)
    network().save(f"{prefix}-symbol.json")
    mx.nd.save(f"{prefix}-0001.params", {"fc1_weight": mx.nd.ones((2,))})
    with pytest.raises(FormatError, match="net-0001.params: no checkpoint: it has an array 'fc1_weight'; expected "
                                          "names that begin with arg: or aux:"):
        mx.model.FeedForward.load(prefix, 1)
    mx.nd.save(f"{prefix}-0002.params", [mx.nd.ones((2,))])
    with pytest.raises(FormatError, match="net-0002.params: no checkpoint: its arrays have no names"):
        mx.model.FeedForward.load(prefix, 2)


# ---- on device actors ----


@pytest.mark.ray
def test_an_actor_learns_the_same_bits():
    assert_same(weights(trained(ctx=mx.gpu(0), momentum=0.9)), weights(trained(momentum=0.9)))


@pytest.mark.ray
@pytest.mark.parametrize("kvstore", ["local", "device"])
def test_two_actors_learn_the_same_bits_as_two_executors_here(kvstore):
    expected = weights(trained(ctx=TWO, momentum=0.9))
    model = trained(ctx=[mx.gpu(0), mx.gpu(1)], momentum=0.9, fit={"kvstore": kvstore})
    assert_same(weights(model), expected)
    assert model.predict(X_TEST).shape == (37, 3)
