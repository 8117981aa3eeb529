"""Callbacks: what they save, log and draw, and when."""

import io
import logging
import pickle

import pytest

import raymx as mx
from raymx.callback import (
    LogValidationMetricsCallback,
    ProgressBar,
    Speedometer,
    do_checkpoint,
    log_train_metric,
    module_checkpoint,
)
from raymx.model import BatchEndParam


class Metric(mx.metric.EvalMetric):
    def __init__(self):
        super().__init__("m")
        self.sum_metric, self.num_inst = 1.0, 2

    resets = 0

    def reset_local(self):
        self.resets += 1


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "raymx")
    return caplog


def batches(callback, count, metric=None, epoch=0):
    for nbatch in range(1, count + 1):
        callback(BatchEndParam(epoch, nbatch, metric, None))


def test_checkpoints_are_saved_at_the_end_of_every_period(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr("raymx.checkpoint.save_checkpoint", lambda *args: saved.append(args))
    callback = do_checkpoint("p", period=2)
    for epoch in range(5):
        callback(epoch, "symbol", {}, {})
    assert saved == [("p", 2, "symbol", {}, {}), ("p", 4, "symbol", {}, {})]


def test_modules_are_saved_with_their_optimizers(tmp_path):
    module = mx.mod.Module(mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, name="fc"), label_names=None)
    module.bind([("data", (4, 3))])
    module.init_params()
    module.init_optimizer(optimizer_params={"momentum": 0.9})
    module.update()
    callback = module_checkpoint(module, tmp_path / "net", period=2, save_optimizer_states=True)
    for epoch in range(3):
        callback(epoch)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net-0002.params", "net-0002.states", "net-symbol.json"]


def test_a_checkpoint_can_be_loaded(tmp_path):
    prefix = str(tmp_path / "net")
    symbol = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, name="fc")
    do_checkpoint(prefix)(0, symbol, {"fc_weight": mx.nd.ones((2, 3))}, {"mean": mx.nd.zeros((2,))})
    found, arg_params, aux_params = mx.model.load_checkpoint(prefix, 1)
    assert found.tojson() == symbol.tojson()
    assert (arg_params["fc_weight"].asnumpy() == 1).all()
    assert list(aux_params) == ["mean"]


def test_the_metric_is_logged_every_period(log):
    metric = Metric()
    batches(log_train_metric(2), 5, metric, epoch=3)
    assert log.messages == [f"Iter[3] Batch[{n}] Train-m=0.500000" for n in (2, 4)]
    assert metric.resets == 0
    batches(log_train_metric(2, auto_reset=True), 2, metric)
    assert metric.resets == 1


def test_the_speedometer_counts_what_was_done_since_it_last_spoke(log):
    clock = iter([10.0, 12.0, 13.0, 100.0, 104.0])
    meter = Speedometer(batch_size=8, frequent=2, clock=lambda: next(clock))
    batches(meter, 5, Metric())  # starts at batch 1; speaks at 2 and 4
    assert log.messages == [
        "Epoch[0] Batch [2]\tSpeed: 4.00 samples/sec\tTrain-m=0.500000",
        "Epoch[0] Batch [4]\tSpeed: 16.00 samples/sec\tTrain-m=0.500000",
    ]
    log.clear()
    batches(meter, 2, None, epoch=1)  # a new epoch starts the clock anew
    assert log.messages == ["Epoch[1] Batch [2]\tSpeed: 2.00 samples/sec"]


def test_the_speedometer_may_reset_the_metric():
    metric = Metric()
    batches(Speedometer(8, 2, auto_reset=True), 2, metric)
    assert metric.resets == 1


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_for_every_epoch_on_a_terminal(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    bar = ProgressBar(total=3, length=60)
    for epoch in (0, 1):
        batches(bar, 3, epoch=epoch)
    import sys

    drawn = sys.stderr.getvalue()
    for epoch in (0, 1):
        assert f"epoch {epoch}: 100%" in drawn
    assert "3/3" in drawn
    assert pickle.loads(pickle.dumps(bar)).total == 3


def test_no_bar_elsewhere(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    batches(ProgressBar(3), 3)
    import sys

    assert sys.stderr.getvalue() == ""


def test_validation_metrics_are_logged(log):
    LogValidationMetricsCallback()(BatchEndParam(4, 0, Metric(), None))
    assert log.messages == ["Epoch[4] Validation-m=0.500000"]
