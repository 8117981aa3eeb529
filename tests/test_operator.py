"""Operators written in Python: on every kind of device, in graphs and imperatively."""

from __future__ import annotations

import gc
import inspect
import json
import threading
import weakref

import numpy as np
import pytest

import raymx as mx
from raymx import config
from raymx.errors import ContextError, FormatError, GraphError, MXNetError, ShapeError, TaskError
from tests import devices

VALUES = np.arange(6, dtype="float32").reshape(2, 3)


@pytest.fixture(params=["cpu(0)", "another in this process", "naive", pytest.param("actor", marks=pytest.mark.ray)])
def ctx(request):
    """A device of each kind."""
    if request.param == "another in this process":
        with devices.ordinary() as context:
            yield context
    elif request.param == "naive":
        with config.using(engine="naive"), devices.ordinary() as context:
            yield context
    else:
        yield mx.cpu(0) if request.param == "cpu(0)" else mx.gpu(1)


def asynchronous(ctx) -> bool:
    return not ctx.lane._naive


class Square(mx.operator.CustomOp):
    def forward(self, is_train, req, in_data, out_data, aux):
        self.seen = in_data[0].asnumpy()  # waits, on the device's own thread
        self.assign(out_data[0], req[0], in_data[0] * in_data[0])

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        assert (self.seen == in_data[0].asnumpy()).all()
        self.assign(in_grad[0], req[0], 2 * in_data[0] * out_grad[0])


@mx.operator.register("test square")
class SquareProp(mx.operator.CustomOpProp):
    def create_operator(self, ctx, in_shapes, in_dtypes):
        return Square()


def custom(forward=None, backward=None, name="test op", **methods):
    """Register an operator made of these functions under `name`."""
    functions = {"forward": forward or Square.forward, "backward": backward or Square.backward}
    op = type("Op", (mx.operator.CustomOp,), functions)
    prop = type("Prop", (mx.operator.CustomOpProp,), {"create_operator": lambda *_: op(), **methods})
    mx.operator.register(name)(prop)


def bound(symbol, ctx, **arrays):
    exe = symbol.simple_bind(ctx, **{name: np.shape(value) for name, value in arrays.items()})
    for name, value in arrays.items():
        exe.arg_dict[name][:] = value
    return exe


def use(op_type="test op", **kwargs):
    return mx.sym.Custom(mx.sym.Variable("data"), op_type=op_type, name="op", **kwargs)


# ---- running ----


def test_imperatively(ctx):
    x = mx.nd.array(VALUES, ctx)
    y = mx.nd.Custom(x, op_type="test square")
    assert y.context == ctx
    np.testing.assert_array_equal(y.asnumpy(), VALUES**2)
    out = mx.nd.empty((2, 3), ctx)
    assert mx.nd.Custom(data=x, op_type="test square", out=out) is out
    np.testing.assert_array_equal(out.asnumpy(), VALUES**2)


@pytest.mark.parametrize("is_train", [True, False])
def test_in_a_graph(ctx, is_train):
    exe = bound(2 * use("test square") + 1, ctx, data=VALUES)
    exe.forward(is_train)
    exe.backward(mx.nd.ones((2, 3), ctx))
    np.testing.assert_array_equal(exe.outputs[0].asnumpy(), 2 * VALUES**2 + 1)
    np.testing.assert_array_equal(exe.grad_dict["data"].asnumpy(), 4 * VALUES)


def test_gradients_are_added(ctx):
    grad = mx.nd.ones((2, 3), ctx)
    exe = use("test square").bind(ctx, [mx.nd.array(VALUES, ctx)], [grad], "add")
    for _ in range(2):
        exe.forward()
        exe.backward(mx.nd.ones((2, 3), ctx))
    np.testing.assert_array_equal(grad.asnumpy(), 1 + 4 * VALUES)


def test_each_executor_has_an_object_of_its_own(ctx):
    def forward(self, is_train, req, in_data, out_data, aux):
        self.calls = getattr(self, "calls", 0) + 1
        self.assign(out_data[0], req[0], in_data[0] + self.calls)

    custom(forward)
    symbol = use()
    first, second = (bound(symbol, ctx, data=np.zeros(2)) for _ in range(2))
    results = [exe.forward()[0].asnumpy()[0] for exe in (first, first, second)]
    assert results == [1, 2, 1]


def test_operators_of_mx_nd_and_new_arrays_inside(ctx):
    def forward(self, is_train, req, in_data, out_data, aux):
        x = in_data[0]
        scale = mx.nd.array(np.arange(1.0, 4.0))  # on the operator's own device
        assert scale.context == x.context == mx.context.current_context()
        y = mx.nd.dot(x, x.T).sum() + mx.nd.broadcast_mul(x[0:1].reshape((1, 3)), scale.reshape((1, 3))).sum()
        mx.nd.waitall()
        exe = mx.sym.exp(mx.sym.Variable("a")).bind(x.context, [mx.nd.zeros((1,))])
        out_data[0][:] = float(y.asscalar()) + exe.forward()[0].asnumpy()[0]

    custom(forward)
    y = mx.nd.Custom(mx.nd.array(VALUES, ctx), op_type="test op").asnumpy()
    expected = (VALUES @ VALUES.T).sum() + (VALUES[0] * [1, 2, 3]).sum() + 1
    np.testing.assert_allclose(y, np.full((2, 3), expected))


def test_random_numbers_inside_are_those_of_the_device(ctx):
    def forward(self, is_train, req, in_data, out_data, aux):
        self.assign(out_data[0], req[0], mx.nd.uniform(shape=(2, 3)))

    custom(forward)
    drawn = []
    for _ in range(2):
        mx.random.seed(5)
        drawn.append(mx.nd.Custom(mx.nd.array(VALUES, ctx), op_type="test op").asnumpy())
    mx.random.seed(5)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[0], mx.random.uniform(0, 1, (2, 3), ctx).asnumpy())


def test_is_train_and_parameters_as_text(ctx):
    def forward(self, is_train, req, in_data, out_data, aux):
        out_data[0][:] = in_data[0] * (self.factor if is_train else 1)

    op = type("Op", (mx.operator.CustomOp,), {"forward": forward})

    class Prop(mx.operator.CustomOpProp):
        def __init__(self, factor="2", shape="none"):
            super().__init__()
            assert (factor, shape) == ("3", "(2, 3)")
            self.factor = factor

        def create_operator(self, ctx, in_shapes, in_dtypes):
            assert in_shapes == [[2, 3]] and in_dtypes == [np.float32]
            made = op()
            made.factor = float(self.factor)
            return made

    mx.operator.register("test factor")(Prop)
    exe = bound(use("test factor", factor=3, shape=(2, 3)), ctx, data=VALUES)
    np.testing.assert_array_equal(exe.forward(True)[0].asnumpy(), 3 * VALUES)
    np.testing.assert_array_equal(exe.forward(False)[0].asnumpy(), VALUES)


def test_states_are_changed_and_several_outputs_come_back(ctx):
    def forward(self, is_train, req, in_data, out_data, aux):
        aux[0][:] += 1
        self.assign(out_data[0], req[0], in_data[0] + in_data[1])
        self.assign(out_data[1], req[1], in_data[0] * aux[0])

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        assert req == ["write", "null"]
        aux[0][:] += 10
        self.assign(in_grad[0], req[0], out_grad[0] + out_grad[1] * out_data[1])
        in_grad[1][:] = 77  # goes nowhere

    custom(
        forward, backward, list_arguments=lambda self: ["a", "b"], list_outputs=lambda self: ["a", "product"],
        list_auxiliary_states=lambda self: ["count"], infer_shape=lambda self, s: (s, [s[0], s[0]], [(1,)]),
    )  # fmt: skip
    symbol = mx.sym.Custom(a=mx.sym.Variable("a"), b=mx.sym.Variable("b"), op_type="test op", name="op")
    assert symbol.list_outputs() == ["op_a", "op_product"]
    assert symbol.list_auxiliary_states() == ["op_count"]
    exe = symbol.simple_bind(ctx, {"a": "write", "b": "null"}, a=(2,), b=(2,))
    exe.arg_dict["a"][:], exe.arg_dict["b"][:] = 3, 4
    total, product = (x.asnumpy() for x in exe.forward())
    assert (list(total), list(product)) == ([7, 7], [3, 3])
    assert exe.aux_dict["op_count"].asnumpy() == 1
    exe.backward([mx.nd.ones((2,), ctx), mx.nd.ones((2,), ctx) * 2])
    assert list(exe.grad_dict["a"].asnumpy()) == [7, 7]
    assert exe.aux_dict["op_count"].asnumpy() == 11
    count = mx.nd.zeros((1,), ctx)
    ones = mx.nd.ones((2,), ctx)
    both = mx.nd.Custom(ones, ones, count, op_type="test op")
    assert [list(x.asnumpy()) for x in both] == [[2, 2], [1, 1]] and count.asnumpy() == 1


def test_strided_arrays(ctx):
    x, grad = (mx.nd.zeros((2, 6), ctx) for _ in range(2))
    x[:, ::2] = VALUES
    exe = use("test square").bind(ctx, [x[:, ::2]], [grad[:, ::2]])
    np.testing.assert_array_equal(exe.forward()[0].asnumpy(), VALUES**2)
    exe.backward(mx.nd.ones((2, 3), ctx))
    np.testing.assert_array_equal(grad.asnumpy()[:, ::2], 2 * VALUES)
    assert grad.asnumpy()[:, 1::2].sum() == 0


def test_other_element_types(ctx):
    x = mx.nd.array(VALUES, ctx, "float64")
    y = mx.nd.Custom(x, op_type="test square")
    assert y.dtype == np.float64
    assert use("test square").infer_type(data=np.int32)[1] == [np.int32]


def test_the_user_s_code_runs_on_the_device_s_thread():
    seen = []

    def forward(self, is_train, req, in_data, out_data, aux):
        seen.append(threading.current_thread().name)
        out_data[0][:] = 0

    custom(forward)
    mx.nd.Custom(mx.nd.ones((1,)), op_type="test op").wait_to_read()
    assert seen == ["raymx cpu(0)"]


def test_what_an_imperative_call_kept_is_let_go_of():
    kept = []

    def forward(self, is_train, req, in_data, out_data, aux):
        self.big = mx.nd.ones((10,))
        kept.append(weakref.ref(self))
        out_data[0][:] = 0

    custom(forward)
    for _ in range(3):
        mx.nd.Custom(mx.nd.ones((1,)), op_type="test op").wait_to_read()
    mx.nd.ones((1,)).wait_to_read()
    gc.collect()
    assert [ref() for ref in kept] == [None] * 3


# ---- what backward reads ----


def test_a_loss_needs_no_head_gradient(ctx):
    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        self.assign(in_grad[0], req[0], out_data[0] - 1)

    custom(backward=backward, __init__=lambda self: mx.operator.CustomOpProp.__init__(self, need_top_grad=False))
    exe = bound(use(), ctx, data=VALUES)
    exe.forward(True)
    exe.backward()
    np.testing.assert_array_equal(exe.grad_dict["data"].asnumpy(), VALUES**2 - 1)


def test_what_is_not_declared_is_not_there(ctx):
    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        self.assign(in_grad[0], req[0], out_grad[0] * in_data[0])

    custom(backward=backward, declare_backward_dependency=lambda self, out_grad, in_data, out_data: out_grad)
    exe = bound(use(), ctx, data=VALUES)
    exe.forward(True)
    with pytest.raises(MXNetError, match=r"in_data\[0\] is not there: declare_backward_dependency does not name it"):
        exe.backward(mx.nd.ones((2, 3), ctx))
        exe.grad_dict["data"].wait_to_read()


# ---- errors ----


def test_an_error_tells_the_line_and_comes_at_the_next_wait(ctx):
    class NoLuck(Exception):
        def __reduce__(self):
            raise TypeError("not to be pickled")

    def forward(self, is_train, req, in_data, out_data, aux):
        raise NoLuck("today")

    custom(forward)
    line = inspect.getsourcelines(forward)[1] + 1
    if not asynchronous(ctx):
        with pytest.raises(NoLuck):
            mx.nd.Custom(mx.nd.array(VALUES, ctx), op_type="test op")
        return
    y = mx.nd.Custom(mx.nd.array(VALUES, ctx), op_type="test op") + 1
    with pytest.raises(TaskError) as caught:
        y.wait_to_read()
    text = rf"Custom on {ctx} with inputs (2, 3): NoLuck: today, in forward at {__file__}:{line} (pushed at {__file__}:"
    assert str(caught.value).startswith(text)
    assert f'{__file__}", line {line}, in forward' in "".join(caught.value.__cause__.__notes__)
    exe = bound(use(), ctx, data=VALUES)
    exe.forward()
    with pytest.raises(TaskError, match=rf"Custom 'op' with inputs \(2, 3\): NoLuck: today, in forward at .*:{line} "):
        exe.outputs[0].asnumpy()
    np.testing.assert_array_equal(mx.nd.Custom(mx.nd.array(VALUES, ctx), op_type="test square").asnumpy(), VALUES**2)


def test_arrays_from_outside_are_refused(ctx):
    outside = mx.nd.ones((2, 3), mx.cpu())

    def forward(self, is_train, req, in_data, out_data, aux):
        out_data[0][:] = outside

    custom(forward)
    if str(ctx) == "gpu(1)":  # a copy travels with the code
        np.testing.assert_array_equal(mx.nd.Custom(mx.nd.array(VALUES, ctx), op_type="test op").asnumpy(), 1)
        return
    with pytest.raises(MXNetError, match=r"cannot be used inside an operator that is written in Python; hand it in as"):
        mx.nd.Custom(mx.nd.array(VALUES, ctx), op_type="test op").wait_to_read()


def test_other_devices_are_refused(ctx):
    def forward(self, is_train, req, in_data, out_data, aux):
        mx.nd.ones((1,), mx.gpu(3))

    custom(forward)
    error = TaskError if asynchronous(ctx) else ContextError
    with pytest.raises(error, match=rf"an operator that runs on {ctx} can use arrays of ".replace("(", r"\(")
                                    .replace(")", r"\)") + r".*, not of gpu\(3\); hand them in as inputs"):
        mx.nd.Custom(mx.nd.array(VALUES, ctx), op_type="test op").wait_to_read()


@pytest.mark.ray
def test_what_cannot_travel_fails_alone():
    lock = threading.Lock()
    custom(lambda self, *args: lock, infer_shape=lambda self, s: (s, [s[0]], []) if lock else None)
    y = mx.nd.Custom(mx.nd.array(VALUES, mx.gpu(0)), op_type="test op")
    with pytest.raises(TaskError, match=r"Custom \(op_type 'test op'\) cannot travel to another process: TypeError"):
        y.wait_to_read()
    np.testing.assert_array_equal((mx.nd.array(VALUES, mx.gpu(0)) + 1).asnumpy(), VALUES + 1)


def test_names_and_parameters():
    with pytest.raises(GraphError, match=r"no operator is registered as 'test squar'; did you mean 'test square'\?"):
        mx.nd.Custom(mx.nd.ones((1,)), op_type="test squar")
    with pytest.raises(MXNetError, match=r"parameter 'op_type', the name that mx.operator.register gave, is missing"):
        mx.sym.Custom(mx.sym.Variable("a"))
    with pytest.raises(MXNetError, match=r"Custom.* SquareProp could not be made with size='3': TypeError: .*size"):
        use("test square", size=3)
    with pytest.raises(MXNetError, match=r"register 'x': expected a subclass of CustomOpProp, got <class 'int'>"):
        mx.operator.register("x")(int)
    with pytest.raises(MXNetError, match=r"register: the name must be a string"):
        mx.operator.register(SquareProp)


def test_shapes():
    custom(infer_shape=lambda self, s: (s, [(s[0][0], 7)], []))
    symbol = use() + mx.sym.Variable("other")
    assert symbol.infer_shape(data=(2, 3)) == ([(2, 3), (2, 7)], [(2, 7)], [])
    assert symbol.infer_shape_partial()[1] == [()]  # (s[0][0] does not exist yet)
    custom(infer_shape=lambda self, s: (s, [(s[5],)], []))
    with pytest.raises(MXNetError, match=r"Custom \(op_type 'test op'\): infer_shape for \[\[2, 3\]\] raised"):
        use().infer_shape(data=(2, 3))
    custom(infer_shape=lambda self, s: (s, [], []))
    with pytest.raises(ShapeError, match=r"infer_shape must tell of 1 output, got 0: \[\]"):
        use().infer_shape(data=(2, 3))
    custom(infer_shape=lambda self, s: s)
    with pytest.raises(MXNetError, match=r"infer_shape of an operator must return 2 or 3 lists \(inputs, outputs, "):
        use().infer_shape(data=(2, 3))
    custom(infer_shape=lambda self, s: ([s[0], (4,)], [s[0]]), list_arguments=lambda self: ["data", "label"])
    with pytest.raises(ShapeError, match=r"Custom 'op': label must be \(4,\) for data \(2, 3\) and op_type=test op"):
        use(label=mx.sym.Variable("label")).infer_shape(data=(2, 3), label=(5,))


# ---- files ----


def test_json_keeps_the_name_and_the_parameters():
    class Prop(SquareProp):
        def __init__(self, size):
            super().__init__()
            self.size = size

    mx.operator.register("test file")(Prop)
    symbol = use("test file", size=3, lr_mult=2)
    node = next(n for n in mx.sym.load_json(symbol.tojson()).get_internals()["op_output"].heads).node
    assert node.op.attrs == {"op_type": "test file", "size": "3"}
    record = json.loads(symbol.tojson())["nodes"][1]
    assert (record["op"], record["attrs"]) == (
        "Custom", {"__lr_mult__": "2", "op_type": "test file", "size": "3"})  # fmt: skip
    assert symbol.attr("size") == "3"
    text = symbol.tojson().replace("test file", "nobody's")
    with pytest.raises(FormatError, match=r"node 1 \('op'\): Custom: no operator is registered as \"nobody's\";"):
        mx.sym.load_json(text)


def test_old_operators_are_not_in_files():
    text = mx.operator.NumpyOp()(mx.sym.Variable("x"), name="mine").tojson()
    assert '"op": "_Native"' in text
    with pytest.raises(FormatError, match=r"do not exist here: _Native \(mine\); what was a NumpyOp or NDArrayOp is"):
        mx.sym.load_json(text)


# ---- the classes of 2015 ----


class Softmax:
    """The softmax of MXNet's first examples; either class of 2015 may be its base."""

    def __init__(self):
        super().__init__(need_top_grad=False)

    def list_arguments(self):
        return ["data", "label"]

    def infer_shape(self, in_shape):
        return [in_shape[0], (in_shape[0][0],)], [in_shape[0]]


class NumpySoftmax(Softmax, mx.operator.NumpyOp):
    def forward(self, in_data, out_data):
        x, y = in_data[0], out_data[0]
        y[:] = np.exp(x - x.max(axis=1).reshape((x.shape[0], 1)))
        y /= y.sum(axis=1).reshape((x.shape[0], 1))

    def backward(self, out_grad, in_data, out_data, in_grad):
        label = in_data[1].reshape((-1,)).astype(int)
        in_grad[0][:] = out_data[0]
        in_grad[0][np.arange(label.shape[0]), label] -= 1.0


class NDArraySoftmax(Softmax, mx.operator.NDArrayOp):
    def forward(self, in_data, out_data):
        y = np.exp(in_data[0].asnumpy())
        out_data[0][:] = y / y.sum(axis=1, keepdims=True)

    def backward(self, out_grad, in_data, out_data, in_grad):
        onehot = mx.nd.empty(out_data[0].shape)
        mx.nd.onehot_encode(in_data[1], onehot)
        in_grad[0][:] = out_data[0] - onehot


@pytest.mark.parametrize("kind", [NumpySoftmax, NDArraySoftmax])
def test_softmax_of_2015(ctx, kind):
    symbol = kind()(data=mx.sym.Variable("data"), name="softmax")
    assert symbol.list_arguments() == ["data", "softmax_label"]
    arrays = {"data": VALUES, "softmax_label": np.array([2, 0])}
    exe, expected = bound(symbol, ctx, **arrays), bound(
        mx.sym.SoftmaxOutput(mx.sym.Variable("data"), name="softmax"), ctx, **arrays)  # fmt: skip
    for each in (exe, expected):
        each.forward(True)
        each.backward()
    np.testing.assert_allclose(exe.outputs[0].asnumpy(), expected.outputs[0].asnumpy(), rtol=1e-6)
    np.testing.assert_allclose(
        exe.grad_dict["data"].asnumpy(), expected.grad_dict["data"].asnumpy(), rtol=1e-6, atol=1e-7
    )


def test_the_defaults_of_2015(ctx):
    exe = bound(mx.operator.NumpyOp()(mx.sym.Variable("x")), ctx, x=VALUES)
    exe.forward()
    exe.backward(mx.nd.ones((2, 3), ctx))
    np.testing.assert_array_equal(exe.outputs[0].asnumpy(), VALUES)
    np.testing.assert_array_equal(exe.grad_dict["x"].asnumpy(), 1)
    with pytest.raises(NotImplementedError, match="PythonOp must derive from NumpyOp or NDArrayOp"):
        mx.operator.PythonOp()(mx.sym.Variable("x"))
    with pytest.raises(GraphError, match="NumpyOp: unknown parameter 'depth'; inputs are symbols"):
        mx.operator.NumpyOp()(mx.sym.Variable("x"), depth=3)


# ---- what there is ----


def test_operators_can_be_listed():
    assert {"Custom", "FullyConnected", "dot"} <= set(mx.operator.get_all_registered_operators())
    found = mx.operator.get_operator_arguments("FullyConnected")
    assert found.narg == len(found.names) == len(found.types)
    assert found.names[:4] == ["data", "weight", "bias", "num_hidden"]
