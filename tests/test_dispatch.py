"""Executors over several devices: `group2ctx`."""

from __future__ import annotations

import numpy as np
import pytest

import raymx as mx
from raymx import config, trace
from raymx.errors import BindError, TaskError
from raymx.graph.node import Entry, Node
from raymx.symbol import Symbol
from tests import devices
from tests.faults import actors
from tests.test_executor import Failing
from tests.test_trace import overlap, read, tracing  # noqa: F401 (a fixture)

TWO = {"first": mx.cpu(1), "second": mx.cpu(2)}
RNG = np.random.default_rng(3)


@pytest.fixture(params=range(3), ids=lambda seed: f"seed{seed}")
def lanes(request):
    """Every context is a device of this process; values come late and out of order."""
    with devices.in_this_process(request.param):
        yield


def layered(steps: int = 5, hidden: int = 6, dropout: float = 0.0):
    """Two recurrent layers, each a group, unrolled, with a loss at each step."""
    with mx.AttrScope(ctx_group="first"):
        w1, u1, h1 = (mx.sym.Variable(n) for n in ("w1", "u1", "h1"))
    with mx.AttrScope(ctx_group="second"):
        w2, u2, h2, out = (mx.sym.Variable(n) for n in ("w2", "u2", "h2", "out"))
    heads = []
    for t in range(steps):
        with mx.AttrScope(ctx_group="first"):
            h1 = cell(mx.sym.Variable(f"data{t}"), h1, w1, u1, hidden, f"a{t}")
        with mx.AttrScope(ctx_group="second"):
            h2 = cell(h1, h2, w2, u2, hidden, f"b{t}")
            h2 = mx.sym.Dropout(h2, p=dropout) if dropout else h2
            score = mx.sym.FullyConnected(h2, out, num_hidden=3, no_bias=True, name=f"score{t}")
            heads.append(mx.sym.SoftmaxOutput(score, mx.sym.Variable(f"label{t}"), name=f"loss{t}"))
    return mx.sym.Group(heads)


def cell(x, h, w, u, hidden, name):
    x = mx.sym.FullyConnected(x, w, num_hidden=hidden, no_bias=True, name=f"{name}_x")
    h = mx.sym.FullyConnected(h, u, num_hidden=hidden, no_bias=True, name=f"{name}_h")
    return mx.sym.Activation(x + h, act_type="tanh", name=name)


def shapes(steps: int = 5, batch: int = 4, hidden: int = 6):
    data = {f"data{t}": (batch, 3) for t in range(steps)} | {f"label{t}": (batch,) for t in range(steps)}
    return data | {"h1": (batch, hidden), "h2": (batch, hidden)}


def bound(groups, grad_req="write", net=None, **options):
    net = layered() if net is None else net
    exe = net.simple_bind(mx.cpu(), grad_req=grad_req, group2ctx=groups, **options, **shapes())
    rng = np.random.default_rng(1)
    for name, each in exe.arg_dict.items():
        each[:] = rng.integers(0, 3, each.shape) if "label" in name else rng.uniform(-1, 1, each.shape)
    return exe


def values(arrays):
    return {name: each.asnumpy() for name, each in arrays.items() if each is not None}


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def assert_close(a, b):
    """Up to rounding: one device joins products that several keep apart."""
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-3, atol=1e-4, err_msg=name)


def train(exe, passes=3):
    for _ in range(passes):
        exe.forward(is_train=True)
        exe.backward()
        for name, grad in exe.grad_dict.items():
            if grad is not None and name[0] in "wuo":
                exe.arg_dict[name][:] -= 0.1 * grad
    return exe


# ---- the same bits as on one device ----


@pytest.mark.parametrize("mode", ["none", "mirror", "sqrt"])
@pytest.mark.parametrize("grad_req", ["write", "add"])
@pytest.mark.parametrize("fuse", [False, True])
def test_training_on_two_devices_has_the_bits_of_one(lanes, fuse, grad_req, mode):
    with config.using(recompute=mode, fuse=fuse):
        alone, two = (train(bound(groups, grad_req)) for groups in (None, TWO))
    same = assert_close if fuse and mode == "none" else assert_equal
    same(values(two.arg_dict), values(alone.arg_dict))
    same(values(two.grad_dict), values(alone.grad_dict))
    same(values(two.output_dict), values(alone.output_dict))


def test_prediction_after_training_and_training_after_prediction(lanes):
    results = []
    for groups in (None, TWO):
        exe = train(bound(groups), 1)
        exe.forward(is_train=False)
        exe.forward(is_train=False)
        exe.backward()
        results.append(values(exe.grad_dict))
    assert_close(*results)


def test_new_data_by_keyword_reach_their_device(lanes):
    results = []
    for groups in (None, TWO):
        exe = bound(groups)
        outputs = exe.forward(data0=np.full((4, 3), 0.5), data1=mx.nd.ones((4, 3), mx.cpu(2)))
        results.append({str(i): each.asnumpy() for i, each in enumerate(outputs)})
    assert_close(*results)


def test_shapes_that_need_long_pipelines(lanes):
    """Layers worth a segment for every time step: the segments of both devices alternate."""
    net, batch, hidden = layered(4, 400), 64, 400
    named = shapes(4, batch, hidden)
    executors = [net.simple_bind(mx.cpu(), group2ctx=groups, **named) for groups in (None, TWO)]
    rng = np.random.default_rng(1)
    given = {n: rng.uniform(-0.1, 0.1, x.shape).astype("f") for n, x in executors[0].arg_dict.items()}
    for exe in executors:
        exe.copy_params_from(given)
        exe.forward(is_train=True)
        exe.backward()
    alone, two = executors
    assert_close(values(two.grad_dict), values(alone.grad_dict))
    assert len(two._passes._routes["forward"].segments) >= 6


def test_head_gradients_go_to_the_device_of_their_output(lanes):
    with mx.AttrScope(ctx_group="first"):
        x = mx.sym.Variable("x")
        first = mx.sym.tanh(x)
    with mx.AttrScope(ctx_group="second"):
        second = mx.sym.exp(first)
    exe = mx.sym.Group([first, second]).simple_bind(mx.cpu(), group2ctx=TWO, x=(2, 3))
    given = RNG.uniform(-1, 1, (2, 3)).astype("f")
    exe.forward(is_train=True, x=given)
    exe.backward([mx.nd.ones((2, 3)), np.full((2, 3), 2, "f")])
    slope = 1 - np.tanh(given) ** 2
    expected = (1 + 2 * np.exp(np.tanh(given))) * slope
    np.testing.assert_allclose(exe.grad_dict["x"].asnumpy(), expected, rtol=1e-5)
    assert [each.context for each in exe.outputs] == [mx.cpu(1), mx.cpu(2)]


# ---- where arrays are ----


def test_arrays_are_made_where_their_variable_is_placed():
    with mx.AttrScope(ctx_group="first"):
        net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=4, name="fc1")
    with mx.AttrScope(ctx_group="second"):
        net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, num_hidden=3, name="fc2"), name="softmax")
    with devices.in_this_process():
        exe = net.simple_bind(mx.cpu(), group2ctx=TWO, data=(2, 5))
        where = {name: each.context for name, each in exe.arg_dict.items()}
        assert where == {
            "data": mx.cpu(1), "fc1_weight": mx.cpu(1), "fc1_bias": mx.cpu(1),
            "fc2_weight": mx.cpu(2), "fc2_bias": mx.cpu(2), "softmax_label": mx.cpu(2),
        }  # fmt: skip
        assert {name: each.context for name, each in exe.grad_dict.items()} == where
        assert [each.context for each in exe.outputs] == [mx.cpu(2)]
        assert [(arena.params.context, arena.names) for arena in exe.arenas] == [
            (mx.cpu(1), ("fc1_weight", "fc1_bias")),
            (mx.cpu(2), ("fc2_weight", "fc2_bias", "softmax_label")),
        ]


def test_bound_arrays_may_lie_on_any_of_the_devices(lanes):
    """Values travel to where they are needed, gradients to where their arrays are."""
    with mx.AttrScope(ctx_group="first"):
        net = mx.sym.Variable("x") * mx.sym.Variable("y")
    x, y = RNG.uniform(-1, 1, (2, 2, 3)).astype("f")
    for ctx in (mx.cpu(0), mx.cpu(1), mx.cpu(2)):
        args = [mx.nd.array(x, ctx), mx.nd.array(y, mx.cpu(1))]
        grads = [mx.nd.zeros((2, 3), ctx), mx.nd.zeros((2, 3), mx.cpu(1))]
        exe = net.bind(mx.cpu(), args, grads, group2ctx=TWO)
        exe.forward(is_train=True)
        exe.backward(mx.nd.ones((2, 3)))
        np.testing.assert_array_equal(exe.outputs[0].asnumpy(), x * y)
        np.testing.assert_array_equal(grads[0].asnumpy(), y)
        np.testing.assert_array_equal(grads[1].asnumpy(), x)


def test_two_groups_on_one_device_are_one_program():
    with devices.in_this_process():
        exe = bound({"first": mx.cpu(), "second": mx.cpu(0)})
        assert exe._placed is None and not exe.memory_report().devices


# ---- everything else an executor does ----


def test_a_monitor_sees_the_same_values(lanes):
    seen, net = [], layered()
    for groups in (None, TWO):
        exe = bound(groups, net=net)
        found: dict = {}
        exe.set_monitor_callback(lambda name, value, found=found: found.update({name: value.asnumpy()}), True)
        exe.forward(is_train=True)
        exe.backward()
        seen.append(found)
    assert_equal(*seen)


def test_a_reshaped_executor_shares_the_memory_of_both_devices(lanes):
    exe = train(bound(TWO))
    small = exe.reshape(**shapes(batch=2))
    outputs = small.forward()[0].asnumpy()
    assert small.arg_dict["w1"] is exe.arg_dict["w1"]
    assert [e.arena is s.arena for e, s in zip(exe._loaded, small._loaded, strict=True)] == [True, True]
    np.testing.assert_array_equal(outputs, exe.forward()[0].asnumpy()[:2])


def test_a_shared_executor_lends_the_memory_of_both_devices(lanes):
    large, alone = bound(TWO), train(bound(None))
    shared = train(bound(TWO, shared_exec=large))
    assert [a.arena is b.arena for a, b in zip(large._loaded, shared._loaded, strict=True)] == [True, True]
    assert_close(values(shared.grad_dict), values(alone.grad_dict))


def test_parameters_are_copied_from_any_device(lanes):
    exe = bound(TWO)
    exe.copy_params_from({"w1": mx.nd.ones((6, 3), mx.cpu(2)), "w2": mx.nd.ones((6, 6))})
    assert (exe.arg_dict["w1"].asnumpy() == 1).all() and exe.arg_dict["w1"].context == mx.cpu(1)


def test_the_memory_report_counts_each_device(lanes):
    report = bound(TWO).memory_report()
    assert set(report.devices) == {mx.cpu(1), mx.cpu(2)}
    for i in range(7):
        assert report[i] == sum(each[i] for each in report.devices.values())
    assert report.copies_nbytes > 0 and report.planned_nbytes < report.unplanned_nbytes


def test_debug_str_shows_devices_and_copies(lanes):
    text = bound(TWO).debug_str()
    assert "on cpu(1):" in text and "on cpu(2):" in text
    assert "_CrossDeviceCopy 'a0_copy': cpu(1) -> cpu(2)" in text
    assert "Total 0 MB allocated" in text


def test_random_numbers_follow_the_seed():
    with devices.in_this_process():
        outputs = []
        exe = bound(TWO, net=layered(dropout=0.5))
        for _ in range(2):
            mx.random.seed(4)
            exe.forward(is_train=True)
            outputs.append(values(exe.output_dict))
        assert_equal(*outputs)


def test_a_failure_on_one_device_reaches_the_outputs_of_the_other_and_a_later_pass_heals(lanes):
    picky = Node(Failing(), "picky", {"ctx_group": "first"}, inputs=[Entry(Node(None, "x"))])
    with mx.AttrScope(ctx_group="second"):
        net = mx.sym.exp(Symbol([Entry(picky)]) * 2)
    exe = net.bind(mx.cpu(), [mx.nd.array([-1, 1])], group2ctx={"first": mx.cpu(1), "second": mx.cpu(3)})
    exe.forward()
    with pytest.raises(TaskError, match=r"_test_failing 'picky' with inputs \(2,\): ValueError: negative"):
        exe.outputs[0].asnumpy()
    exe.forward(x=[0, 0])
    assert exe.outputs[0].asnumpy().tolist() == [1, 1]


def test_a_module_trains_over_groups_as_without():
    """Two data-parallel executors, each with its layers on two devices."""
    x = RNG.uniform(-1, 1, (32, 5)).astype("f")
    y = (x.sum(1) > 0).astype("f")
    with mx.AttrScope(ctx_group="first"):
        net = mx.sym.Activation(mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=6, name="a"), act_type="tanh")
    with mx.AttrScope(ctx_group="second"):
        net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, num_hidden=2, name="b"), name="softmax")
    found = []
    with devices.in_this_process():
        groups = {"first": [mx.cpu(0), mx.cpu(1)], "second": [mx.cpu(2), mx.cpu(3)]}
        for group2ctxs in (None, groups):
            mx.random.seed(1)
            np.random.seed(1)
            module = mx.mod.Module(net, context=[mx.cpu(0), mx.cpu(1)], group2ctxs=group2ctxs)
            module.fit(mx.io.NDArrayIter(x, y, batch_size=8), num_epoch=2, initializer=mx.init.Uniform(0.5))
            found.append(values(module.get_params()[0]))
    assert_close(*found)
    for k, executor in enumerate(module._exec_group.execs):
        assert executor.arg_dict["a_weight"].context == groups["first"][k]
        assert executor.arg_dict["b_weight"].context == groups["second"][k]


# ---- device actors ----


def large(groups, steps=10, hidden=1000):
    """Layers whose time steps take a while, over values."""
    named = shapes(steps, 128, hidden)
    exe = layered(steps, hidden).simple_bind(next(iter(groups.values())), group2ctx=groups, **named)
    rng = np.random.default_rng(1)
    exe.copy_params_from({n: rng.uniform(-0.1, 0.1, x.shape).astype("f") for n, x in exe.arg_dict.items()})
    return exe


def passes(exe, count=1):
    for _ in range(count):
        exe.forward(is_train=True)
        exe.backward()
    return values(exe.grad_dict)


@pytest.mark.ray
def test_two_actors_compute_the_bits_of_one():
    with actors(2) as (a, b), config.using(fuse=False):
        alone = passes(large({"first": a, "second": a}))
        assert_equal(passes(large({"first": a, "second": b})), alone)


@pytest.mark.ray
def test_two_actors_work_at_the_same_time(tracing):  # noqa: F811
    """In both passes, for more than a third of the work of the one that has less."""
    with actors(2) as (a, b):
        passes(large({"first": a, "second": b}), 4)
        mx.nd.waitall()
        trace.write()
        rows = read(tracing)
        for name in ("program forward", "program backward"):
            first, second = (last_pass(rows[str(context)], name) for context in (a, b))
            shorter = min(sum(e["dur"] for e in events) for events in (first, second))
            assert overlap(first, second) > shorter / 3


def last_pass(events, name):
    """The segments of the last pass of that name."""
    segments = [e for e in events if e["name"].startswith(name)]
    return segments[-len({e["name"] for e in segments}) :]


# ---- errors ----


def test_arrays_on_other_devices_than_these_are_refused():
    net = mx.sym.Variable("x") * 2
    with devices.in_this_process():
        message = r"bind: args\['x'\] lies on cpu\(3\), but the executor runs on cpu\(0\), cpu\(1\), cpu\(2\); move it"
        with pytest.raises(BindError, match=message):
            net.bind(mx.cpu(), [mx.nd.ones(3, mx.cpu(3))], group2ctx=TWO)
        message = r"args_grad\['x'\] lies on cpu\(2\), but the executor runs on cpu\(1\); move it"
        with pytest.raises(BindError, match=message):
            net.bind(mx.cpu(), [mx.nd.ones(3, mx.cpu(1))], [mx.nd.ones(3, mx.cpu(2))], group2ctx=TWO)


def test_groups_must_have_contexts():
    net = mx.sym.Variable("x") * 2
    with pytest.raises(BindError, match=r"simple_bind: group2ctx\['a'\] must be a Context such as mx.gpu\(1\), got 1"):
        net.simple_bind(mx.cpu(), group2ctx={"a": 1}, x=(2,))
    with pytest.raises(BindError, match="bind: group2ctx must be a dict of contexts by group, got list"):
        net.bind(mx.cpu(), [mx.nd.ones(2)], group2ctx=[mx.cpu()])
