"""Monitor: which statistics come, when, and under which names."""

import logging

import numpy as np
import pytest

import raymx as mx


@pytest.fixture
def executor():
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, name="fc")
    executor = net.simple_bind(mx.cpu(), data=(2, 3))
    executor.arg_dict["fc_weight"][:] = 2
    executor.arg_dict["data"][:] = 1
    return executor


def run(monitor, executor):
    monitor.tic()
    executor.forward(is_train=True)
    executor.backward(mx.nd.ones((2, 2)))
    return monitor.toc()


def test_outputs_gradients_and_arguments_every_interval(executor):
    monitor = mx.mon.Monitor(2)
    monitor.install(executor)
    first, second, third = (run(monitor, executor) for _ in range(3))
    found = {name: float(text) for _, name, text in first}
    assert found["fc_output"] == pytest.approx(6.0), "|x| / sqrt(size) of four sixes"
    assert found["fc_weight"] == pytest.approx(2.0)
    assert found["fc_bias"] == 0.0
    assert found["data"] == 1.0
    assert any(name.startswith("fc_backward") for name in found), sorted(found)
    assert second == []
    assert {step for step, _, _ in first} == {1}
    assert {step for step, _, _ in third} == {3}


def test_pattern_statistic_and_order(executor):
    def statistic(x):
        return [mx.nd.max(x), x.reshape((-1,))[:2]]

    monitor = mx.mon.Monitor(1, statistic, pattern="fc_(w|b|o)", sort=True)
    monitor.install(executor)
    found = run(monitor, executor)
    names = [name for _, name, _ in found]
    assert names == sorted(names)
    assert {"fc_bias", "fc_output", "fc_weight"} <= set(names)
    assert "data" not in names
    assert {name: text for _, name, text in found}["fc_weight"] == "2.0\t[2. 2.]\t"


def test_statistics_belong_to_the_moment(executor):
    monitor = mx.mon.Monitor(1, pattern="fc_weight$", stat_func=lambda x: x.reshape((-1,))[:1] + 0)
    monitor.install(executor)
    monitor.tic()
    monitor._collect("fc_weight", executor.arg_dict["fc_weight"])
    executor.arg_dict["fc_weight"][:] = 5
    assert [text.strip() for _, _, text in monitor.toc()] == ["2.0", "5.0"]


def test_toc_print_logs(executor, caplog):
    caplog.set_level(logging.INFO, "raymx")
    monitor = mx.mon.Monitor(1, pattern="fc_bias$")
    monitor.install(executor)
    monitor.toc_print()
    assert caplog.messages == [], "nothing before tic"
    monitor.tic()
    monitor.toc_print()
    assert caplog.messages == [f"Batch: {1:7d} {'fc_bias':>30s} 0.0\t"]


def test_the_watched_network_computes_the_same(executor):
    executor.forward(is_train=True)
    plain = executor.outputs[0].asnumpy()
    monitor = mx.mon.Monitor(1)
    monitor.install(executor)
    run(monitor, executor)
    np.testing.assert_array_equal(executor.outputs[0].asnumpy(), plain)


def test_gradients_of_all_inputs_are_shown_while_a_network_trains():
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=2, name="fc")
    net = mx.sym.LinearRegressionOutput(net, name="out")
    reqs = {"fc_weight": "write", "fc_bias": "write"}
    executor = net.simple_bind(mx.cpu(), grad_req=reqs, data=(2, 3), out_label=(2, 2))
    seen = {}
    executor.set_monitor_callback(lambda name, array: seen.update({name: array.asnumpy()}))
    executor.arg_dict["fc_weight"][:] = 2
    executor.arg_dict["data"][:] = 1
    executor.forward(is_train=True)
    executor.backward()
    assert sorted(seen) == [
        "fc_backward_bias", "fc_backward_data", "fc_backward_weight", "fc_output",
        "out_backward_data", "out_backward_label", "out_output",
    ]  # fmt: skip
    assert (seen["fc_backward_data"] == 12).all(), "6 / 2 values per sample, times 2, for each of 2"
    assert (seen["out_backward_label"] == 0).all()
