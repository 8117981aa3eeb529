"""Metrics: values that MXNet 1.9.1 gives for the same input, names, and what they refuse."""

import json
import math
import pickle

import numpy as np
import pytest

from raymx import metric
from raymx.errors import ParameterError, ShapeError

rng = np.random.RandomState(0)
PROB = rng.rand(6, 4).astype("float32")
PROB /= PROB.sum(axis=1, keepdims=True)
LABEL = np.array([0, 1, 2, 3, 1, 0], "float32")
TWO = rng.rand(6, 2).astype("float32")
TWO_LABEL = np.array([0, 1, 1, 0, 1, 0], "float32")
VALUE = rng.rand(6, 1).astype("float32")
TARGET = rng.rand(6).astype("float32")
PIXELS = rng.rand(2, 4, 5).astype("float32")
PIXEL_LABEL = rng.randint(0, 4, (2, 5)).astype("float32")


class OnDevice:
    """Stands for an NDArray: nothing but asnumpy."""

    def __init__(self, value):
        self.value = value

    def asnumpy(self):
        return self.value


def fed(m, *batches):
    m = metric.create(m)
    for label, pred in batches:
        m.update([label], [OnDevice(pred)])
    return m


MXNET_VALUES = [
    ("acc", "accuracy", [(LABEL, PROB), (LABEL, PROB)], 1 / 6),
    ("accuracy", "accuracy", [(PIXEL_LABEL, PIXELS)], 0.4),
    ("acc", "accuracy", [(LABEL, LABEL)], 1.0),
    (metric.TopKAccuracy(2), "top_k_accuracy_2", [(LABEL, PROB)], 2 / 3),
    (metric.TopKAccuracy(3), "top_k_accuracy_3", [(LABEL, PROB)], 1.0),
    ("f1", "f1", [(TWO_LABEL, TWO), (TWO_LABEL[:4], TWO[:4])], 0.45),
    ("f1", "f1", [(np.zeros(6), TWO)], 0.0),
    ("mae", "mae", [(TARGET, VALUE), (TARGET[:3], VALUE[:3])], 0.2688407823443413),
    ("mae", "mae", [(TARGET, VALUE[:, 0])], 0.2312731295824051),
    ("mse", "mse", [(TARGET, VALUE), (TARGET[:3], VALUE[:3])], 0.10826421156525612),
    ("rmse", "rmse", [(TARGET, VALUE), (TARGET[:3], VALUE[:3])], 0.32714295387268066),
    ("rmse", "rmse", [(np.stack([TARGET, TARGET], 1), TWO)], 0.3902880847454071),
    ("ce", "cross-entropy", [(LABEL, PROB), (LABEL[:2], PROB[:2])], 1.496069073677063),
    ("cross-entropy", "cross-entropy", [(LABEL, PROB)], 1.5293518702189128),
]


@pytest.mark.parametrize(("make", "name", "batches", "value"), MXNET_VALUES)
def test_values(make, name, batches, value):
    m = fed(make, *batches)
    assert m.get() == (name, pytest.approx(value, rel=1e-6))
    m.reset()
    assert m.get()[0] == name
    assert math.isnan(m.get()[1])


def test_column_labels_fit_class_predictions():
    assert fed("acc", (LABEL.reshape(-1, 1), PROB)).get() == fed("acc", (LABEL, PROB)).get()


def test_one_column_regression_output_may_be_judged_by_accuracy():
    assert fed("acc", (np.array([0.2]), np.array([[7.0]]))).get() == ("accuracy", 1.0)


def test_composite_feeds_all_and_lists_names_and_values():
    both = fed(["acc", metric.CrossEntropy()], (LABEL, PROB))
    names, values = both.get()
    assert names == ["accuracy", "cross-entropy"]
    assert values == pytest.approx([1 / 6, 1.5293518702189128])
    assert both.get_name_value() == list(zip(names, values, strict=True))
    assert both.get_metric(1).name == "cross-entropy"
    both.add("mse")
    both.reset()
    assert [n for n, v in both.get_name_value() if math.isnan(v)] == ["accuracy", "cross-entropy", "mse"]
    with pytest.raises(ParameterError, match="no metric 3; there are 3"):
        both.get_metric(3)


def test_custom_value_is_averaged_over_batches():
    values = iter([1.0, 4.0])
    m = fed(lambda label, pred: next(values), (LABEL, PROB), (LABEL, PROB))
    assert m.get() == ("custom(<lambda>)", 2.5)


def test_custom_sum_and_count():
    def hits(label, pred):
        return float((pred.argmax(1) == label).sum()), label.size

    assert fed(metric.np(hits), (LABEL, PROB)).get() == ("hits", pytest.approx(1 / 6))
    assert metric.np(hits, name="mine").name == "mine"


def test_custom_may_ignore_extra_outputs():
    m = metric.np(lambda label, pred: pred.sum(), allow_extra_outputs=True)
    m.update([np.zeros(2)], [np.ones(2), np.full(2, 50.0)])
    assert m.get()[1] == 2.0


def test_several_values_at_once():
    class Pair(metric.EvalMetric):
        def update(self, labels, preds):
            for i, pred in enumerate(preds):
                self.sum_metric[i] += pred.sum()
                self.num_inst[i] += pred.size

    m = Pair("pair", num=2)
    m.update([], [np.ones(3), np.full(2, 4.0)])
    assert m.get() == (["pair_0", "pair_1"], [1.0, 4.0])


def test_numpy_suffices_unless_a_part_wants_ndarrays():
    class Mine(metric.EvalMetric):
        pass

    assert metric.create("acc").takes_numpy
    assert metric.create(["acc", "ce"]).takes_numpy
    assert not Mine("mine").takes_numpy
    assert not metric.create(["acc", Mine("mine")]).takes_numpy
    with pytest.raises(NotImplementedError, match=r"Mine must define update\(labels, preds\)"):
        Mine("mine").update([], [])


def test_own_metrics_can_be_registered():
    @metric.register("mine")
    class MyMetric(metric.EvalMetric):
        def __init__(self):
            super().__init__("mine")

    assert isinstance(metric.create("mine"), MyMetric)
    assert isinstance(metric.create("MyMetric"), MyMetric)


def test_metrics_pickle_with_what_they_have_counted():
    m = fed("ce", (LABEL, PROB))
    assert pickle.loads(pickle.dumps(m)).get() == m.get()
    assert str(fed("acc", (LABEL, LABEL))) == "EvalMetric: {'accuracy': 1.0}"


@pytest.mark.parametrize(
    ("make", "label", "pred", "text"),
    [
        ("acc", np.zeros(64), np.zeros((32, 10)),
         r"Accuracy: labels \(64,\) do not fit predictions \(32, 10\); expected one label for each row"),
        ("acc", np.zeros(4), np.zeros(3),
         r"Accuracy: labels \(4,\) do not fit predictions \(3,\); expected predictions with classes along axis 1"),
        (metric.TopKAccuracy(2), np.zeros(3), np.zeros(3), r"TopKAccuracy: .* labels \(N,\) for predictions \(N, C\)"),
        ("f1", np.zeros(3), np.zeros((2, 2)), r"F1: labels \(3,\) do not fit predictions \(2, 2\)"),
        ("f1", np.array([0, 1, 2]), np.zeros((3, 2)), r"F1: needs two classes, .* got labels 0, 1, 2 and pred"),
        ("f1", np.array([0, 1]), np.zeros((2, 3)), r"got labels 0, 1 and predictions \(2, 3\)"),
        ("mse", np.zeros(6), np.zeros((6, 2)), r"MSE: labels \(6,\) do not fit predictions \(6, 2\); expected the"),
        ("mae", np.zeros(3), np.zeros((6, 1)), r"MAE: labels \(3,\) do not fit predictions \(6, 1\)"),
        ("ce", np.zeros(3), np.zeros((2, 4)), r"CrossEntropy: labels \(3,\) do not fit predictions \(2, 4\)"),
        ("ce", np.array([0, 4]), np.zeros((2, 4)), "labels from 0 to 4 do not fit .* expected classes 0 to 3"),
    ],
)
def test_misfits(make, label, pred, text):
    with pytest.raises(ShapeError, match=text):
        fed(make, (label, pred))


def test_counts_of_labels_and_outputs_must_agree():
    with pytest.raises(ShapeError, match="Accuracy: 1 labels do not fit 2 outputs; outputs without a label need "
                                         "a CustomMetric with allow_extra_outputs=True."):
        metric.create("acc").update([LABEL], [PROB, PROB])
    with pytest.raises(ShapeError, match="CustomMetric 'f': 2 labels do not fit 1 outputs"):
        metric.np(lambda label, pred: 0, name="f", allow_extra_outputs=True).update([LABEL, LABEL], [PROB])


def test_unknown_names():
    with pytest.raises(ParameterError, match="no metric is called 'accurracy'; did you mean 'accuracy'"):
        metric.create("accurracy")
    with pytest.raises(ParameterError, match="needs a name, a function, a list or an EvalMetric, got 3"):
        metric.create(3)
    with pytest.raises(ParameterError, match="top_k must be at least 2, got 1; for 1 use Accuracy"):
        metric.TopKAccuracy()


# ---- what 1.x added ----


def test_the_global_value_goes_on_where_the_local_one_begins_anew():
    for make in ("acc", "ce", ["acc", "ce"], lambda label, pred: float(pred.sum())):
        one, both = metric.create(make), metric.create(make)
        for part in (slice(0, 3), slice(3, 6)):
            one.update([LABEL[part]], [PROB[part]])
            one.reset_local()
            both.update([LABEL[part]], [PROB[part]])
        assert one.get_global_name_value() == both.get_name_value()
        assert all(math.isnan(value) for _, value in one.get_name_value())
        one.reset()
        assert all(math.isnan(value) for _, value in one.get_global_name_value())


@pytest.mark.parametrize("name", ["f1", "mcc"])
def test_micro_is_of_all_samples_and_macro_of_updates(name):
    micro, macro = (metric.create(name, average=average) for average in ("micro", "macro"))
    whole = metric.create(name)
    whole.update([TWO_LABEL], [TWO])
    parts = []
    for part in (slice(0, 4), slice(4, 6)):
        single = metric.create(name)
        for each in (micro, macro, single):
            each.update([TWO_LABEL[part]], [TWO[part]])
        parts.append(single.get()[1])
    assert micro.get()[1] == pytest.approx(whole.get()[1])
    assert macro.get()[1] == pytest.approx(np.mean(parts))
    assert (micro.num_inst, macro.num_inst) == (6, 2)
    with pytest.raises(ParameterError, match="average must be 'macro' or 'micro', got 'mean'"):
        metric.create(name, average="mean")


def test_correlations():
    table = np.array([[7, 3], [2, 5]])
    truth, guess = (np.repeat([i for _ in range(2) for i in range(2)], table.T.ravel()),
                    np.repeat([j for j in range(2) for _ in range(2)], table.T.ravel()))  # fmt: skip
    prob = np.eye(2)[guess]
    expected = np.corrcoef(truth, guess)[0, 1]
    for name, pred in (("pcc", prob), ("pcc", guess), ("mcc", prob), ("pearsonr", guess)):
        m = metric.create(name)
        m.update([truth], [pred])
        assert m.get()[1] == pytest.approx(expected), name
    micro = metric.create("pearsonr", average="micro")
    for part in (slice(0, 5), slice(5, 17)):
        micro.update([truth[part] + 1e6], [guess[part] + 1e6])
    assert micro.get()[1] == pytest.approx(expected), "values far from zero do not matter"


def test_pcc_grows_with_the_classes_that_come():
    m = metric.create("pcc")
    m.update([np.array([0, 1, 1])], [np.array([0, 1, 0])])
    m.update([np.array([2, 3])], [np.array([2, 2])])
    whole = metric.create("pcc")
    whole.update([np.array([0, 1, 1, 2, 3])], [np.array([0, 1, 0, 2, 2])])
    assert m.get() == whole.get()


def test_perplexity_passes_over_a_label():
    expected = math.exp(-np.log(PROB[[0, 1, 2], [0, 1, 2]]).mean())
    label = np.array([0, 1, 2, -1, -1, -1], "float32")
    assert fed(metric.Perplexity(-1), (label, PROB)).get() == ("perplexity", pytest.approx(expected, rel=1e-6))
    moved = np.moveaxis(PROB.reshape(2, 3, 4), -1, 1)
    found = fed(metric.Perplexity(-1, axis=1), (label.reshape(2, 3), moved)).get()[1]
    assert found == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ShapeError, match="labels from -1 to 2 do not fit"):
        fed(metric.Perplexity(None), (label, PROB))


def test_losses_are_averaged_whatever_the_labels():
    for name in ("loss", "torch", "caffe"):
        m = metric.create(name)
        m.update(None, [np.array([1.0, 3.0]), np.array([5.0])])
        m.update([], np.array([7.0]))
        assert m.get() == (name, 4.0)


def test_a_metric_takes_what_it_is_named_for():
    m = metric.create("acc", output_names=["b"], label_names=["y"])
    m.update_dict({"x": LABEL, "y": TWO_LABEL}, {"a": PROB, "b": TWO})
    assert m.get() == fed("acc", (TWO_LABEL, TWO)).get()
    with pytest.raises(ParameterError, match=r"metric 'accuracy': there is no output called 'b' \(outputs: a\)"):
        m.update_dict({"y": LABEL}, {"a": PROB})


@pytest.mark.parametrize("make", [("acc",), ("top_k_acc", 3), ("f1",), ("perplexity", -1), ("pcc",), ("ce", 1e-8),
                                  ("mse",), (["acc", "f1"],), ("loss",)])  # fmt: skip
def test_configurations_go_round(make):
    m = metric.create(*make)
    again = metric.create(json.dumps(m.get_config()))
    assert type(again) is type(m)
    assert again.get_config() == m.get_config()
    assert again.get()[0] == m.get()[0]


def test_a_subclass_that_says_its_value_itself_says_it_globally():
    class Last(metric.EvalMetric):
        def update(self, labels, preds):
            self.last = preds[0]

        def get(self):
            return self.name, self.last

    m = Last("last")
    m.update([], [7])
    m.reset_local()
    assert m.get_global_name_value() == [("last", 7)]


def test_labels_are_counted_and_compared():
    with pytest.raises(ShapeError, match="labels 1 do not fit predictions 2"):
        metric.check_label_shapes([LABEL], [PROB, PROB])
    with pytest.raises(ShapeError, match=r"labels \(6,\) do not fit predictions \(6, 4\)"):
        metric.check_label_shapes(LABEL, PROB, shape=True)
    assert metric.check_label_shapes([LABEL], [PROB], wrap=True) == ([LABEL], [PROB])
