import gc
import pickle
import weakref

import numpy as np
import pytest

import raymx as mx
from raymx import config
from raymx.errors import BindError, DTypeError, GraphError, MXNetError, ShapeError, TaskError
from raymx.graph.node import Entry, Node
from raymx.ops.op import REGISTRY, Op, operator
from raymx.symbol import Symbol

RNG = np.random.default_rng(11)


def array(*shape):
    return RNG.uniform(0.5, 1.5, shape).astype("float32")


def mlp():
    net = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=8, name="fc1")
    net = mx.sym.Activation(net, act_type="tanh", name="act")
    net = mx.sym.FullyConnected(net, num_hidden=3, name="fc2")
    return mx.sym.SoftmaxOutput(net, name="softmax")


def product():
    """x * y over arrays of 2x3, and their values."""
    return mx.sym.Variable("x") * mx.sym.Variable("y"), array(2, 3), array(2, 3)


def bound_product(grad_req="write"):
    net, x, y = product()
    exe = net.simple_bind(mx.cpu(), grad_req=grad_req, x=(2, 3), y=(2, 3))
    return exe, x, y


def toy(name):
    """Declare an operator that only this file can reach."""

    def declare(cls):
        operator(name)(cls)
        del REGISTRY[name]
        return cls

    return declare


def recorded(lane, name):
    """Calls of a method of `lane`, which has no effect until the returned function is called."""
    calls = []
    setattr(lane, name, lambda *args: calls.append(args))
    return calls, lambda: delattr(lane, name)


# ---- forward and backward ----


def test_bind_and_forward_as_in_the_tutorial():
    a, b = mx.sym.Variable("A"), mx.sym.Variable("B")
    exe = (a * b).bind(ctx=mx.cpu(), args={"A": mx.nd.ones(3) * 4, "B": mx.nd.ones(3) * 2})
    exe.forward()
    assert exe.outputs[0].asnumpy().tolist() == [8.0, 8.0, 8.0]


def test_forward_returns_the_outputs_which_are_always_the_same_arrays():
    exe, x, y = bound_product()
    before = exe.outputs[0]
    assert before.shape == (2, 3)
    assert exe.forward(x=x, y=y)[0] is before and exe.outputs[0] is before
    np.testing.assert_array_equal(before.asnumpy(), x * y)


def test_forward_takes_arrays_of_any_kind_and_sees_later_changes_of_arguments():
    exe, x, y = bound_product()
    exe.forward(x=mx.nd.array(x), y=y.tolist())
    np.testing.assert_array_equal(exe.outputs[0].asnumpy(), x * y)
    exe.arg_dict["x"][:] = 2
    np.testing.assert_array_equal(exe.forward()[0].asnumpy(), 2 * y)


def test_a_pass_is_ordered_with_everything_else():
    exe, x, y = bound_product()
    exe.forward(x=x, y=y)
    total = mx.nd.zeros((2, 3))
    for i in range(5):
        exe.arg_dict["x"][:] = i
        exe.forward()
        total += exe.outputs[0]
    np.testing.assert_allclose(total.asnumpy(), 10 * y, rtol=1e-6)


def test_backward_takes_head_gradients_in_every_form():
    exe, x, y = bound_product()
    g = mx.nd.array(array(2, 3))
    name = exe._symbol.list_outputs()[0]
    for given in (g, [g], (g,), {name: g}, g.asnumpy()):
        exe.grad_dict["x"][:] = 0
        exe.forward(x=x, y=y)
        exe.backward(given)
        np.testing.assert_array_equal(exe.grad_dict["x"].asnumpy(), g.asnumpy() * y)
        np.testing.assert_array_equal(exe.grad_dict["y"].asnumpy(), g.asnumpy() * x)


def test_outputs_may_be_changed_and_handed_back_as_head_gradients():
    exe, x, y = bound_product()
    exe.forward(x=x, y=y)
    exe.outputs[0][:] = 3
    exe.backward(exe.outputs[0])
    np.testing.assert_array_equal(exe.grad_dict["x"].asnumpy(), 3 * y)


def test_a_loss_needs_no_head_gradient_and_ignores_one():
    exe = mlp().simple_bind(mx.cpu(), data=(4, 5))
    for values in exe.arg_arrays[:-1]:
        values[:] = array(*values.shape)
    found = []
    for given in (None, [mx.nd.ones((4, 3)) * 100]):
        exe.forward(is_train=True)
        exe.backward(given)
        found.append(exe.grad_dict["fc1_weight"].asnumpy())
    np.testing.assert_array_equal(*found)
    assert np.abs(found[0]).max() > 0


def test_a_loss_beside_an_output_that_is_none():
    x = mx.sym.Variable("x")
    net = mx.sym.Group([mx.sym.MakeLoss(x * 2, name="loss"), mx.sym.exp(x, name="e")])
    exe = net.simple_bind(mx.cpu(), x=(3,))
    value = array(3)
    exe.forward(x=value)
    exe.backward([None, mx.nd.ones(3)])
    np.testing.assert_allclose(exe.grad_dict["x"].asnumpy(), 2 + np.exp(value), rtol=1e-6)


def test_backward_works_after_a_forward_that_does_not_train():
    net = mx.sym.Dropout(mx.sym.Variable("x"), p=0.5)
    exe = net.simple_bind(mx.cpu(), x=(10,))
    exe.forward(is_train=False, x=array(10))
    exe.backward(mx.nd.ones(10))
    np.testing.assert_array_equal(exe.grad_dict["x"].asnumpy(), 1)


def test_training_mode_is_said_at_each_forward():
    exe = mx.sym.Dropout(mx.sym.Variable("x"), p=0.5).simple_bind(mx.cpu(), x=(1000,))
    exe.arg_dict["x"][:] = 1
    dropped = [(exe.forward(is_train=t)[0].asnumpy() == 0).mean() for t in (True, False)]
    assert 0.3 < dropped[0] < 0.7 and dropped[1] == 0


def test_forward_may_run_several_times_before_backward():
    exe = mlp().simple_bind(mx.cpu(), data=(4, 5))
    for values in exe.arg_arrays:
        values[:] = array(*values.shape)
    exe.forward(is_train=True)
    exe.backward()
    once = exe.grad_dict["fc1_weight"].asnumpy()
    for is_train in (False, True, True):
        exe.forward(is_train=is_train)
    exe.backward()
    np.testing.assert_array_equal(exe.grad_dict["fc1_weight"].asnumpy(), once)


def test_backward_before_any_forward_is_refused_where_it_needs_one():
    exe = mx.sym.exp(mx.sym.Variable("x")).simple_bind(mx.cpu(), x=(2, 3))
    with pytest.raises(GraphError, match=r"call forward\(\) before each backward\(\)"):
        exe.backward(mx.nd.ones((2, 3)))


def test_backward_again_is_right_or_refused():
    """Where backward uses up what forward left, a second one would compute with rubbish."""
    exe, x, y = bound_product("add")
    exe.forward(x=x, y=y)
    for _ in range(2):
        exe.backward(mx.nd.ones((2, 3)))
    np.testing.assert_allclose(exe.grad_dict["x"].asnumpy(), 2 * y)
    net = mx.sym.Variable("x")
    for _ in range(6):
        net = mx.sym.tanh(net)
    exe = net.simple_bind(mx.cpu(), x=(50, 50))
    exe.forward(x=array(50, 50))
    exe.backward(mx.nd.ones((50, 50)))
    with pytest.raises(GraphError, match="uses up what forward left"):
        exe.backward(mx.nd.ones((50, 50)))


def test_without_gradients_backward_does_nothing():
    exe, x, y = bound_product("null")
    exe.forward(x=x, y=y)
    exe.backward()
    assert exe.grad_arrays == [None, None]


# ---- grad_req ----


@pytest.mark.parametrize("grad_req", [["write", "add"], {"x": "write", "y": "add"}])
def test_grad_req_for_each_argument(grad_req):
    exe, x, y = bound_product(grad_req)
    for _ in range(3):
        exe.forward(x=x, y=y)
        exe.backward(mx.nd.ones((2, 3)))
    np.testing.assert_allclose(exe.grad_dict["x"].asnumpy(), y, rtol=1e-6)
    np.testing.assert_allclose(exe.grad_dict["y"].asnumpy(), 3 * x, rtol=1e-6)


def test_no_words_at_all_mean_no_gradient():
    exe = mlp().simple_bind(mx.cpu(), grad_req=[], data=(4, 5))
    assert exe.grad_arrays == [None] * len(exe.arg_arrays)


def test_a_name_that_grad_req_lacks_is_null():
    exe, x, y = bound_product({"x": "write"})
    assert exe.grad_dict["y"] is None
    exe.forward(x=x, y=y)
    exe.backward(mx.nd.ones((2, 3)))
    np.testing.assert_array_equal(exe.grad_dict["x"].asnumpy(), y)


def test_write_sums_all_uses_of_an_argument():
    x = mx.sym.Variable("x")
    exe = (x * x + x).simple_bind(mx.cpu(), x=(4,))
    value = array(4)
    exe.forward(x=value)
    exe.backward(mx.nd.ones(4))
    np.testing.assert_allclose(exe.grad_dict["x"].asnumpy(), 2 * value + 1, rtol=1e-6)


def test_a_zero_gradient_is_written():
    exe = mx.sym.BlockGrad(mx.sym.Variable("x")).simple_bind(mx.cpu(), x=(3,))
    exe.grad_dict["x"][:] = 9
    exe.forward()
    exe.backward()
    np.testing.assert_array_equal(exe.grad_dict["x"].asnumpy(), 0)


def test_gradient_arrays_that_are_windows_take_gradients():
    """Rows and columns of larger arrays, the second one not contiguous."""
    net, x, y = product()
    rows, columns = mx.nd.zeros((4, 3)), mx.nd.zeros((2, 6))
    exe = net.bind(mx.cpu(), [mx.nd.array(x), mx.nd.array(y)], [rows[1:3], columns[:, ::2]])
    exe.forward()
    exe.backward(mx.nd.ones((2, 3)))
    np.testing.assert_array_equal(rows.asnumpy(), np.vstack([np.zeros(3), y, np.zeros(3)]))
    np.testing.assert_array_equal(columns.asnumpy()[:, ::2], x)
    np.testing.assert_array_equal(columns.asnumpy()[:, 1::2], 0)


def test_arguments_that_are_windows_are_read():
    x = mx.sym.Variable("x")
    wide = mx.nd.array(array(3, 4))
    exe = mx.sym.Group([mx.sym.Flatten(x), x * 2]).bind(mx.cpu(), {"x": wide[:, ::2]})
    for _ in range(2):
        wide += 1
        flat, twice = exe.forward()
        np.testing.assert_array_equal(flat.asnumpy(), wide.asnumpy()[:, ::2])
        np.testing.assert_array_equal(twice.asnumpy(), 2 * wide.asnumpy()[:, ::2])


# ---- arrays and names ----


def test_arguments_are_nodes_not_names():
    a, b = mx.sym.Variable("data"), mx.sym.Variable("data")
    exe = (a - b).bind(mx.cpu(), [mx.nd.ones(2) * 5, mx.nd.ones(2)])
    assert exe.forward()[0].asnumpy().tolist() == [4.0, 4.0]
    with pytest.raises(BindError, match="several arguments are called 'data'; use the list of arrays"):
        exe.arg_dict  # noqa: B018
    with pytest.raises(BindError, match="forward: 2 arguments are called 'data'"):
        exe.forward(data=array(2))


def test_an_argument_and_one_value_twice_as_outputs():
    x = mx.sym.Variable("x")
    twice = x * 2
    exe = mx.sym.Group([x, twice, twice]).simple_bind(mx.cpu(), x=(2,))
    outputs = exe.forward(x=[1, 2])
    assert [o.asnumpy().tolist() for o in outputs] == [[1, 2], [2, 4], [2, 4]]
    exe.backward([mx.nd.array([1, 1]), mx.nd.array([10, 10]), mx.nd.array([100, 100])])
    assert exe.grad_dict["x"].asnumpy().tolist() == [221, 221]


def test_the_dicts_follow_the_symbols_lists():
    net = mlp()
    exe = net.simple_bind(mx.cpu(), data=(4, 5))
    assert list(exe.arg_dict) == list(exe.grad_dict) == net.list_arguments()
    assert list(exe.output_dict) == ["softmax_output"] and exe.aux_dict == {}
    assert exe.arg_dict["fc1_weight"] is exe.arg_arrays[1]


def test_simple_bind_makes_zeros_of_the_right_shapes():
    exe = mlp().simple_bind(mx.cpu(), data=(4, 5))
    shapes = {name: x.shape for name, x in exe.arg_dict.items()}
    assert shapes["fc1_weight"] == (8, 5) and shapes["softmax_label"] == (4,)
    assert not any(x.asnumpy().any() for x in exe.arg_arrays + exe.grad_arrays)


def test_simple_bind_lays_what_is_learnt_side_by_side():
    net = mlp()
    reqs = {n: "write" for n in net.list_arguments() if n not in ("data", "softmax_label")}
    exe = net.simple_bind(mx.cpu(), grad_req=reqs, data=(4, 5))
    ((names, params, grads),) = exe.arenas
    assert names == ("fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias")
    params[:] = np.arange(params.size)
    starts = [int(exe.arg_dict[n].asnumpy().ravel()[0]) for n in names]
    assert starts == [0, 48, 64, 96], "multiples of 64 bytes"
    exe.forward(is_train=True, data=array(4, 5))
    exe.backward()
    for name, start in zip(names, starts, strict=True):
        one = exe.grad_dict[name].asnumpy().ravel()
        np.testing.assert_array_equal(grads.asnumpy()[start : start + one.size], one)


def test_types_follow_type_dict():
    exe = mlp().simple_bind(mx.cpu(), type_dict={"data": "float64"}, data=(4, 5))
    assert {x.dtype.name for x in exe.arg_arrays + exe.outputs} == {"float64"}


def test_copy_params_from():
    exe = mlp().simple_bind(mx.cpu(), data=(4, 5))
    weight = array(8, 5)
    exe.copy_params_from({"fc1_weight": mx.nd.array(weight, dtype="float64")}, {})
    np.testing.assert_array_equal(exe.arg_dict["fc1_weight"].asnumpy(), weight)
    extra = {"fc3_weight": mx.nd.ones(3)}
    exe.copy_params_from(extra, allow_extra_params=True)
    with pytest.raises(BindError, match="arg_params: no argument is called 'fc3_weight'; did you mean"):
        exe.copy_params_from(extra)
    with pytest.raises(BindError, match="aux_params: no auxiliary state is called 'mean' .auxiliary states: none"):
        exe.copy_params_from({}, {"mean": mx.nd.ones(1)})
    with pytest.raises(BindError, match=r"arg_params\['fc1_weight'\] must have shape \(8, 5\), got \(2,\)"):
        exe.copy_params_from({"fc1_weight": mx.nd.ones(2)})


# ---- states, random numbers, failures ----


@toy("_test_running_mean")
class RunningMean(Op):
    """out = data - mean; in training mean moves half-way to data's."""

    def aux(self):
        return ("mean",)

    def infer_shape(self, data):
        return {"out": data, "mean": (1,)}

    def forward(self, xp, data, mean, *, out, is_train):
        xp.subtract(data, mean, out=out)
        if is_train:
            mean += (data.mean() - mean) / 2

    def backward(self, xp, g, *, d_data=None):
        xp.copyto(d_data, g)


def centred():
    variables = [Entry(Node(None, name)) for name in ("data", "centre_mean")]
    return Symbol([Entry(Node(RunningMean(), "centre", inputs=variables))])


def test_states_are_changed_by_training_passes():
    exe = centred().bind(mx.cpu(), [mx.nd.ones(4) * 8], aux_states=[mx.nd.zeros(1)])
    for is_train, mean in ((True, 4), (False, 4), (True, 6)):
        exe.forward(is_train=is_train)
        assert exe.aux_dict["centre_mean"].asscalar() == mean
    made = centred().simple_bind(mx.cpu(), data=(4,))
    assert made.aux_arrays[0].shape == (1,)
    made.copy_params_from({}, {"centre_mean": mx.nd.array([3])})
    assert made.aux_arrays[0].asscalar() == 3


def test_missing_states_are_named():
    with pytest.raises(BindError, match="bind: aux_states lacks 'centre_mean'; give an array for each"):
        centred().bind(mx.cpu(), [mx.nd.ones(4)])


def test_random_passes_are_repeatable_by_seed():
    exe = mx.sym.Dropout(mx.sym.Variable("x"), p=0.5).simple_bind(mx.cpu(), x=(100,))
    exe.arg_dict["x"][:] = 1
    draws = []
    for _ in range(2):
        mx.random.seed(5)
        draws.append([exe.forward(is_train=True)[0].asnumpy() for _ in range(2)])
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0][0] != draws[0][1]).any()


@toy("_test_failing")
class Failing(Op):
    def infer_shape(self, data):
        return {"out": data}

    def forward(self, xp, data, *, out):
        if data[0] < 0:
            raise ValueError("negative")
        xp.copyto(out, data)


def test_a_failing_node_is_named_once_and_a_later_pass_heals():
    node = Node(Failing(), "picky", inputs=[Entry(Node(None, "x"))])
    exe = Symbol([Entry(node)]).bind(mx.cpu(), [mx.nd.array([-1, 1])])
    exe.forward()
    with pytest.raises(TaskError, match=r"_test_failing 'picky' with inputs \(2,\): ValueError: negative"):
        exe.outputs[0].asnumpy()
    exe.forward(x=[1, 2])
    assert exe.outputs[0].asnumpy().tolist() == [1, 2]


def test_the_program_goes_when_the_executor_does():
    calls, restore = recorded(mx.cpu().lane, "drop_program")
    try:
        exe, _, _ = bound_product()
        number, gone = exe._passes.number, weakref.ref(exe)
        del exe
        gc.collect()
    finally:
        restore()
    assert gone() is None and calls == [(number,)]


def test_a_pass_says_what_it_reads_and_writes():
    """Also the program itself, which must have arrived, and the random stream."""
    exe = mx.sym.Dropout(mx.sym.Variable("x")).simple_bind(mx.cpu(), x=(3,))
    calls, restore = recorded(mx.cpu().lane, "run_program")
    try:
        exe.forward(is_train=True)
        exe.backward(exe.outputs[0])
    finally:
        restore()
    x, out, arena, head = (a._var for a in (*exe.arg_arrays, *exe.outputs, exe._passes.arena, *exe._head_grads))
    number = exe._passes.number
    assert [call[:3] for call in calls] == [(number, "forward", True), (number, "backward", True)]
    assert [set(call[3]) for call in calls] == [{x, number}, {head, arena, number}]
    assert [set(call[4]) for call in calls] == [{out, arena, mx.cpu().lane.rng_var}, {exe.grad_arrays[0]._var}]


def test_a_program_that_is_replaced_goes():
    calls, restore = recorded(mx.cpu().lane, "drop_program")
    try:
        exe = mlp().simple_bind(mx.cpu(), data=(4, 5))
        first = exe._passes.number
        exe.set_monitor_callback(lambda name, value: None)
    finally:
        restore()
    assert calls == [(first,)]


# ---- other shapes ----


def test_reshape_shares_memory():
    exe = mlp().simple_bind(mx.cpu(), data=(4, 5))
    exe.arg_dict["fc1_weight"][:] = array(8, 5)
    small = exe.reshape(data=(2, 5), softmax_label=(2,))
    assert small.arg_dict["fc1_weight"] is exe.arg_dict["fc1_weight"]
    assert small.outputs[0].shape == (2, 3) and small.arg_dict["data"].shape == (2, 5)
    assert small._passes.arena is exe._passes.arena
    data = array(4, 5)
    exe.forward(data=data)
    np.testing.assert_array_equal(small.arg_dict["data"].asnumpy(), data[:2])
    full = exe.outputs[0].asnumpy()
    np.testing.assert_allclose(small.forward()[0].asnumpy(), full[:2], rtol=1e-6)
    small.forward(data=data[2:])
    np.testing.assert_allclose(exe.outputs[0].asnumpy(), full[[2, 3, 2, 3]], rtol=1e-6)


def test_reshape_asks_before_it_changes_what_was_not_named_or_grows():
    exe = mlp().simple_bind(mx.cpu(), data=(4, 5))
    with pytest.raises(BindError, match=r"softmax_label would change from \(4,\) to \(2,\).*partial_shaping=True"):
        exe.reshape(data=(2, 5))
    assert exe.reshape(partial_shaping=True, data=(2, 5)).arg_dict["softmax_label"].shape == (2,)
    with pytest.raises(BindError, match=r"reshape: data would grow from \(4, 5\) to \(8, 5\).*allow_up_sizing=True"):
        exe.reshape(partial_shaping=True, data=(8, 5))
    large = exe.reshape(partial_shaping=True, allow_up_sizing=True, data=(8, 5))
    assert large.forward()[0].shape == (8, 3) and large.arg_dict["fc1_weight"] is exe.arg_dict["fc1_weight"]


def test_a_reshaped_executor_trains_into_the_same_gradients():
    exe = mlp().simple_bind(mx.cpu(), data=(4, 5))
    for x in exe.arg_arrays:
        x[:] = array(*x.shape)
    small = exe.reshape(partial_shaping=True, data=(2, 5))
    small.forward(is_train=True)
    small.backward()
    assert exe.grad_dict["fc1_weight"] is small.grad_dict["fc1_weight"]
    assert np.abs(exe.grad_dict["fc1_weight"].asnumpy()).max() > 0


def test_a_shared_executor_lends_its_memory():
    first = mlp().simple_bind(mx.cpu(), data=(8, 5))
    second = mlp().simple_bind(mx.cpu(), shared_exec=first, data=(4, 5))
    third = mlp().simple_bind(mx.cpu(), shared_exec=first, data=(16, 5))
    assert second._passes.arena is first._passes.arena and third._passes.arena is not first._passes.arena
    results = [exe.forward(data=np.ones(exe.arg_dict["data"].shape))[0].asnumpy() for exe in (first, second, third)]
    assert all(np.allclose(r, 1 / 3) for r in results)


# ---- other devices ----


def train(ctx):
    """Everything that one training pass computes on `ctx`."""
    rng = np.random.default_rng(2)
    exe = mlp().simple_bind(ctx, data=(16, 5))
    for x in exe.arg_arrays:
        x[:] = rng.uniform(-1, 1, x.shape)
    exe.arg_dict["softmax_label"][:] = rng.integers(0, 3, 16)
    exe.forward(is_train=True)
    exe.backward()
    return [x.asnumpy() for x in exe.outputs + exe.grad_arrays]


@pytest.mark.ray
def test_a_device_actor_computes_the_same_bits():
    for here, there in zip(train(mx.cpu()), train(mx.cpu(1)), strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.ray
def test_a_failure_on_a_device_actor_names_the_node():
    net = mx.sym.choose_element_0index(mx.sym.Variable("x"), mx.sym.Variable("i"), name="pick")
    exe = net.simple_bind(mx.cpu(1), grad_req="null", x=(2, 3), i=(2,))
    exe.forward(i=[0, 7])
    with pytest.raises(TaskError, match=r"choose_element_0index 'pick' with inputs \(2, 3\), \(2,\): IndexError"):
        exe.outputs[0].asnumpy()


# ---- looking inside ----


def test_a_monitor_sees_every_value_of_both_passes():
    exe = mlp().simple_bind(mx.cpu(), data=(4, 5))
    for x in exe.arg_arrays:
        x[:] = array(*x.shape)
    exe.forward(is_train=True)
    plain = exe.outputs[0].asnumpy()
    seen = {}
    exe.set_monitor_callback(lambda name, value: seen.update({name: value.asnumpy()}))
    exe.forward(is_train=True)
    assert list(seen) == ["fc1_output", "act_output", "fc2_output", "softmax_output"]
    np.testing.assert_array_equal(seen["softmax_output"], plain)
    np.testing.assert_allclose(seen["act_output"], np.tanh(seen["fc1_output"]), rtol=1e-5)
    seen.clear()
    exe.backward()
    assert list(seen)[:2] == ["softmax_backward_data", "fc2_backward_data"]
    np.testing.assert_array_equal(seen["fc1_backward_weight"], exe.grad_dict["fc1_weight"].asnumpy())


def test_a_monitor_of_everything_sees_inputs_and_can_be_taken_off():
    exe = mlp().simple_bind(mx.cpu(), data=(4, 5))
    before = exe.memory_report().planned_nbytes
    names = []
    exe.set_monitor_callback(lambda name, _: names.append(name), monitor_all=True)
    assert exe.memory_report().planned_nbytes < before
    exe.forward()
    assert names[:4] == ["fc1_data", "fc1_weight", "fc1_bias", "fc1_output"]
    names.clear()
    exe.set_monitor_callback(None)
    exe.forward()
    assert names == [] and exe.memory_report().planned_nbytes == before


def test_a_monitor_asks_for_a_new_forward():
    exe = mlp().simple_bind(mx.cpu(), data=(4, 5))
    exe.forward(is_train=True)
    exe.set_monitor_callback(lambda name, value: None)
    with pytest.raises(GraphError, match="call forward"):
        exe.backward()


def test_the_memory_report_counts_bytes():
    exe, _, _ = bound_product()
    assert exe.memory_report()[:6] == (0, 0, 48, 48, 0, 48)
    trained = mlp().simple_bind(mx.cpu(), data=(64, 5)).memory_report()
    assert 0 < trained.planned_nbytes < trained.unplanned_nbytes


def test_debug_str_shows_steps_and_places():
    text = mlp().simple_bind(mx.cpu(), data=(4, 5)).debug_str()
    assert "forward: 4 steps\n  FullyConnected 'fc1': data (4, 5), fc1_weight (8, 5), fc1_bias (8,) -> arena+" in text
    assert "gradient of fc1_weight (8, 5)" in text and "-> softmax_output (4, 3)" in text
    report = mlp().simple_bind(mx.cpu(), data=(4, 5)).memory_report()
    assert text.endswith(
        f"\nTotal 0 MB allocated ({report.planned_nbytes} bytes, {report.unplanned_nbytes} without sharing)\n"
    )


# ---- what does not fit ----


def bind_mlp(**changes):
    """Bind the network with all arrays in place, but for `changes` (None = left out)."""
    net = mlp()
    shapes, _, _ = net.infer_shape(data=(4, 5))
    args = {n: mx.nd.zeros(s) for n, s in zip(net.list_arguments(), shapes, strict=True)} | changes
    return net.bind(mx.cpu(), {n: x for n, x in args.items() if x is not None})


def test_missing_arguments_are_listed():
    with pytest.raises(BindError, match="^bind: args lacks 'fc1_bias', 'fc2_weight'; give an array for each"):
        bind_mlp(fc1_bias=None, fc2_weight=None)


def test_a_misspelt_argument_is_named_beside_the_missing_one():
    with pytest.raises(BindError, match="^bind: args lacks 'fc1_weight' .no argument is called 'fc1_wieght'."):
        bind_mlp(fc1_weight=None, fc1_wieght=mx.nd.zeros((8, 5)))


def test_dicts_may_hold_more_than_the_symbol_needs():
    net, x, y = product()
    more = {"x": mx.nd.array(x), "y": mx.nd.array(y), "z": mx.nd.zeros(3)}
    exe = net.bind(mx.cpu(), more, {"x": mx.nd.zeros((2, 3)), "z": mx.nd.zeros(3)}, {"x": "write", "z": "write"})
    np.testing.assert_array_equal(exe.forward()[0].asnumpy(), x * y)


def test_lists_must_have_the_right_length():
    net, x, _ = product()
    with pytest.raises(BindError, match=r"^bind: args must hold 2 arrays \(x, y\), got 1"):
        net.bind(mx.cpu(), [mx.nd.array(x)])
    both = [mx.nd.array(x), mx.nd.array(x)]
    with pytest.raises(BindError, match=r"^bind: args_grad must hold 2 arrays \(x, y\), got 3"):
        net.bind(mx.cpu(), both, [*both, None])
    with pytest.raises(BindError, match=r"^bind: grad_req must hold 2 words \(x, y\), got 1"):
        net.bind(mx.cpu(), both, both, ["write"])
    with pytest.raises(BindError, match="^bind: args must be a list or a dict of NDArrays, got NDArray"):
        net.bind(mx.cpu(), both[0])


def test_a_wrong_shape_names_argument_node_and_expectation():
    with pytest.raises(BindError) as caught:
        bind_mlp(fc1_weight=mx.nd.zeros((5, 8)))
    text = str(caught.value)
    assert text.startswith("bind: the array for 'fc1_weight', which must be (8, 5), is (5, 8): FullyConnected 'fc1': ")
    assert isinstance(caught.value.__cause__, ShapeError)


def test_a_wrong_dtype_names_the_argument():
    with pytest.raises(BindError, match="^bind: the array for 'fc2_weight', .* float32, is float64: Fully") as caught:
        bind_mlp(fc2_weight=mx.nd.zeros((3, 8), dtype="float64"))
    assert isinstance(caught.value.__cause__, DTypeError)


def test_arrays_must_be_ndarrays():
    with pytest.raises(BindError, match=r"^bind: args\['data'\] must be an NDArray, got ndarray; make one"):
        bind_mlp(data=np.zeros((4, 5)))


@pytest.mark.ray
def test_arrays_of_another_device_are_refused():
    with pytest.raises(BindError, match=r"^bind: args\['data'\] lies on cpu\(1\), but the executor runs on cpu\(0\)"):
        bind_mlp(data=mx.nd.zeros((4, 5), mx.cpu(1)))


def test_gradient_arrays_must_be_like_their_arguments():
    net, x, y = product()
    args = [mx.nd.array(x), mx.nd.array(y)]
    with pytest.raises(BindError, match=r"args_grad\['y'\] must be \(2, 3\) float32 like its argument, got \(6,\)"):
        net.bind(mx.cpu(), args, {"y": mx.nd.zeros(6)})
    frozen = mx.nd.zeros((2, 3))
    frozen.writable = False
    with pytest.raises(BindError, match=r"args_grad\['y'\] is read-only"):
        net.bind(mx.cpu(), args, {"y": frozen})


def test_grad_req_must_be_one_of_three_words():
    net, _, _ = product()
    with pytest.raises(BindError, match="grad_req of 'x' must be .*, got 'wirte'; did you mean 'write'"):
        net.simple_bind(mx.cpu(), grad_req="wirte", x=(2,))


def test_simple_bind_names_what_it_cannot_tell_and_does_not_know():
    with pytest.raises(BindError, match=r"^simple_bind: the shapes of 'data', .* cannot be told from fc1_bias=\(8,\)"):
        mlp().simple_bind(mx.cpu(), fc1_bias=(8,))
    with pytest.raises(BindError, match="^simple_bind: no argument is called 'dat'; did you mean 'data'"):
        mlp().simple_bind(mx.cpu(), dat=(4, 5))
    with pytest.raises(BindError, match="^simple_bind: type_dict: no argument is called 'dat'"):
        mlp().simple_bind(mx.cpu(), type_dict={"dat": "float32"}, data=(4, 5))
    with pytest.raises(DTypeError, match=r"^simple_bind: type_dict\['data'\]: "):
        mlp().simple_bind(mx.cpu(), type_dict={"data": "complex64"}, data=(4, 5))
    with pytest.raises(BindError, match="^simple_bind: the shape of 'data' must be a tuple of integers, got 'abc'"):
        mlp().simple_bind(mx.cpu(), data="abc")


def test_shapes_that_contradict_name_the_node():
    with pytest.raises(ShapeError, match=r"FullyConnected 'fc1'"):
        mlp().simple_bind(mx.cpu(), data=(4, 5), fc1_weight=(8, 6))


def test_the_context_must_be_one():
    with pytest.raises(BindError, match=r"^bind: ctx must be a Context such as mx.cpu\(\), got 'cpu'"):
        product()[0].bind("cpu", {})


def test_forward_refuses_unknown_names_and_other_shapes():
    exe, x, _ = bound_product()
    with pytest.raises(BindError, match=r"^forward: no argument is called 'xx'; did you mean 'x'\? .arguments: x, y"):
        exe.forward(xx=x)
    with pytest.raises(BindError, match=r"^forward: x must have shape \(2, 3\), as it was bound, got \(3,\)"):
        exe.forward(x=x[0])


def test_head_gradients_that_are_missing_or_do_not_fit():
    exe, x, y = bound_product()
    exe.forward(x=x, y=y)
    name = exe._symbol.list_outputs()[0]
    with pytest.raises(BindError, match=f"^backward: output '{name}' is no loss, so the gradient that comes in"):
        exe.backward()
    with pytest.raises(BindError, match=rf"^backward: out_grads must hold one array per output, 1 \({name}\), got 2"):
        exe.backward([mx.nd.ones((2, 3))] * 2)
    with pytest.raises(BindError, match=f"^backward: the gradient at '{name}' must have shape .2, 3., got .6,."):
        exe.backward(mx.nd.ones(6))
    with pytest.raises(BindError, match=f"^backward: the gradient at '{name}' must be an NDArray, got int"):
        exe.backward([1])
    with pytest.raises(BindError, match="^backward: out_grads: no output is called 'wrong'"):
        exe.backward({"wrong": mx.nd.ones((2, 3))})


def test_errors_are_mxnet_errors_and_travel():
    with pytest.raises(MXNetError) as caught:
        bind_mlp(data=None)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def layers(n: int):
    """A network of `n` layers with dropout, bound under the switch that holds now, with values in its parameters."""
    x = mx.sym.Variable("data")
    for i in range(n):
        x = mx.sym.FullyConnected(x, num_hidden=6, name=f"fc{i}")
        x = mx.sym.Dropout(mx.sym.Activation(x, act_type="tanh", name=f"act{i}"), p=0.5, name=f"drop{i}")
    exe = mx.sym.SoftmaxOutput(x, name="softmax").simple_bind(mx.cpu(), data=(4, 6))
    rng = np.random.default_rng(5)
    for each in exe.arg_arrays[:-1]:
        each[:] = rng.uniform(-1, 1, each.shape)
    return exe


def test_recomputation_saves_memory_and_changes_no_bit():
    reports, gradients = {}, {}
    for mode in ("none", "mirror", "sqrt"):
        with config.using(recompute=mode):
            exe = layers(30)
        mx.random.seed(1)
        exe.forward(is_train=True)
        exe.backward()
        reports[mode] = exe.memory_report().planned_nbytes
        gradients[mode] = [grad.asnumpy() for grad in exe.grad_arrays]
    assert reports["sqrt"] < 0.7 * reports["none"]
    for mode in ("mirror", "sqrt"):
        for a, b in zip(gradients[mode], gradients["none"], strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_pass_that_did_not_train_is_recomputed_as_it_was():
    gradients = {}
    for mode in ("none", "sqrt"):
        with config.using(recompute=mode):
            exe = layers(30)
        exe.forward(is_train=False)
        exe.backward()
        gradients[mode] = exe.grad_dict["fc0_weight"].asnumpy()
    np.testing.assert_array_equal(gradients["sqrt"], gradients["none"])


def test_a_monitor_does_not_see_what_is_recomputed():
    names = {}
    for mode in ("none", "sqrt"):
        with config.using(recompute=mode):
            exe = layers(10)
        seen = names[mode] = []
        exe.set_monitor_callback(lambda name, _, seen=seen: seen.append(name))
        exe.forward(is_train=True)
        exe.backward()
    assert names["sqrt"] == names["none"]


# ---- passes ----


def sum_and_relu():
    total = mx.sym.elemwise_add(mx.sym.Variable("x"), mx.sym.Variable("y"), name="sum")
    return mx.sym.Activation(total, act_type="relu", name="act")


def test_a_monitor_shows_the_users_nodes():
    exe = sum_and_relu().simple_bind(mx.cpu(), x=(2, 3), y=(2, 3))
    seen = []
    exe.set_monitor_callback(lambda name, _: seen.append(name))
    for _ in range(2):
        x, y = array(2, 3), array(2, 3) - 2
        expected = np.maximum(x + y, 0)
        np.testing.assert_array_equal(exe.forward(is_train=True, x=x, y=y)[0].asnumpy(), expected)
        exe.backward(mx.nd.ones((2, 3)))
        np.testing.assert_array_equal(exe.grad_dict["y"].asnumpy(), expected > 0)
        exe.set_monitor_callback(None)
    assert seen == ["sum_output", "act_output", "act_backward_data", "sum_backward_lhs", "sum_backward_rhs"]


def test_passes_can_be_turned_off():
    with config.using(fuse=False):
        assert "_plus" in sum_and_relu().simple_bind(mx.cpu(), x=(2, 3), y=(2, 3)).debug_str()
    fused = sum_and_relu().simple_bind(mx.cpu(), x=(2, 3), y=(2, 3)).debug_str()
    assert ("_add_relu" in fused) == ("onednn" in mx.cpu().lane.kernels)


def test_what_the_user_sees_of_a_symbol_is_not_changed_by_binding():
    net = sum_and_relu()
    before = net.tojson(), net.get_internals().list_outputs()
    net.simple_bind(mx.cpu(), x=(2, 3), y=(2, 3))
    assert (net.tojson(), net.get_internals().list_outputs()) == before


def test_backward_without_forward_where_it_reads_arguments_only():
    x, dx = mx.nd.array([1, 2, 3]), mx.nd.zeros((3,))
    exe = (mx.sym.Variable("x") ** 2).bind(mx.cpu(), [x], [dx])
    for factor in (1, 2):
        exe.backward(mx.nd.ones((3,)) * factor)
        assert list(dx.asnumpy()) == [2 * factor, 4 * factor, 6 * factor]


def inception(mx=mx):
    """Branches of a convolution joined along the channels, a normalised stem, a sum, pooling and a classifier."""

    def convolution(data, filters, size, name):
        return mx.sym.Convolution(data, kernel=(size, size), pad=(size // 2,) * 2, num_filter=filters, name=name)

    stem = convolution(mx.sym.Variable("data"), 16, 3, "stem")
    stem = mx.sym.Activation(mx.sym.BatchNorm(stem, fix_gamma=False, name="bn"), act_type="relu")
    branches = [mx.sym.Activation(convolution(stem, 16, k, f"branch{k}"), act_type="tanh") for k in (1, 3)]
    both = mx.sym.Concat(*branches, num_args=2, name="both")
    both = mx.sym.Activation(both + convolution(stem, 32, 1, "around"), act_type="relu")
    pool = mx.sym.Pooling(both, pool_type="max", kernel=(2, 2), stride=(2, 2))
    pool = mx.sym.Pooling(convolution(pool, 20, 1, "narrow"), pool_type="avg", global_pool=True, kernel=(1, 1))
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(mx.sym.Flatten(pool), num_hidden=5), name="softmax")


def trained(net, **switches):
    """Output, gradients and states after two steps of a network with fixed values."""
    random = np.random.default_rng(3)
    with config.using(**switches):
        exe = net.simple_bind(mx.cpu(), grad_req="write", data=(4, 3, 8, 8))
        for name, value in {**exe.arg_dict, **exe.aux_dict}.items():
            value[:] = random.uniform(0.5, 1.5, value.shape) if "bn" in name else random.normal(0, 0.3, value.shape)
        exe.arg_dict["softmax_label"][:] = [0, 4, 2, 1]
        for _ in range(2):
            exe.forward(is_train=True)
            exe.backward()
        made = {"out": exe.outputs[0], **exe.grad_dict, **exe.aux_dict}
        return exe.debug_str(), {name: value.asnumpy() for name, value in made.items()}


@pytest.mark.parametrize("switches", [{}, {"fuse": False}, {"layouts": False}, {"recompute": "mirror"}], ids=str)
def test_passes_do_not_change_results(switches):
    net = inception()
    _, expected = trained(net, fuse=False, layouts=False, onednn=False)
    listing, found = trained(net, **switches)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=2e-5, err_msg=name)
    if "onednn" in mx.cpu().lane.kernels:
        assert ("_reorder" in listing) == switches.get("layouts", True)


def test_a_chain_of_blocks_goes_through_a_concat():
    if "blocked" not in mx.cpu().lane.layouts:
        pytest.skip("no vectors of 512 bits here")
    data, branches = mx.sym.Variable("data"), []
    for i in range(2):
        branches.append(mx.sym.Convolution(data, kernel=(1, 1), num_filter=16 * (i + 1), name=f"conv{i}"))
    net = mx.sym.Convolution(
        mx.sym.Concat(*branches, num_args=2, name="both"), kernel=(1, 1), num_filter=16, name="last"
    )
    results = []
    for layouts in (True, False):
        with config.using(layouts=layouts):
            exe = net.simple_bind(mx.cpu(), data=(2, 32, 3, 3))
            random = np.random.default_rng(0)
            for value in exe.arg_arrays:
                value[:] = random.normal(0, 1, value.shape)
            exe.forward(is_train=True)
            exe.backward(mx.nd.ones((2, 16, 3, 3)))
            results.append([x.asnumpy() for x in (*exe.outputs, *exe.grad_arrays)])
            lines = [line for line in exe.debug_str().splitlines() if "'both" in line]
            assert all(("blocked" in line) == layouts for line in lines) and len(lines) == 2
    for laid, plain in zip(*results, strict=True):
        np.testing.assert_allclose(laid, plain, rtol=1e-4, atol=1e-4)
