"""Gradients of imperative code: values, modes, memory, devices, and what is refused."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

import raymx as mx
from raymx import autograd, config, tape
from raymx import ndarray as nd
from raymx.errors import GraphError, MXNetError, ParameterError, ShapeError
from tests import devices

VALUES = np.arange(1.0, 7).reshape(2, 3).astype("float32")


@pytest.fixture(params=["cpu(0)", "naive", pytest.param("actor", marks=pytest.mark.ray)])
def ctx(request):
    """A device of each kind."""
    if request.param == "naive":
        with config.using(engine="naive"), devices.ordinary() as context:
            yield context
    else:
        yield mx.cpu(0) if request.param == "cpu(0)" else mx.gpu(1)


@pytest.fixture(autouse=True)
def _modes_are_off():
    yield
    assert not autograd.is_recording() and not autograd.is_training()


def variable(value=VALUES, ctx=None, dtype="float64", grad_req="write"):
    x = nd.array(value, ctx, dtype)
    x.attach_grad(grad_req)
    return x


def gradient(function, *values, ctx=None):
    """The gradients of the sum of what `function` returns."""
    variables = [variable(v, ctx) for v in values]
    with autograd.record():
        y = function(*variables)
    y.backward()
    found = [x.grad.asnumpy() for x in variables]
    return found[0] if len(found) == 1 else found


def check(function, *values):
    """The gradients agree with central differences in one random direction."""
    rng, step = np.random.default_rng(3), 1e-6
    found = gradient(function, *values)
    for i, (value, g) in enumerate(zip(values, found if len(values) > 1 else [found], strict=True)):
        direction = rng.uniform(-1, 1, np.shape(value))
        ends = []
        for sign in (1, -1):
            moved = [np.asarray(v, "float64") for v in values]
            moved[i] = moved[i] + sign * step * direction
            ends.append(function(*(nd.array(m, dtype="float64") for m in moved)).asnumpy().sum())
        np.testing.assert_allclose((g * direction).sum(), (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-7)


# ---- values ----


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * x + 2 * x - x / 3,
        lambda x: 1 / x + 2 - x,
        lambda x: x**3 + 2**x,
        lambda x: nd.exp(nd.log(x) * 2) * nd.sqrt(x),
        lambda x: x.sum() * x.mean(),
        lambda x: nd.dot(x, x.T),
        lambda x: x.reshape((3, 2)) * x.T,
        lambda x: x.reshape((-1,)) * nd.array(np.arange(6), dtype="float64"),
        lambda x: x[0] * x[1] + x[0:1].reshape((3,)),
        lambda x: x[:, 1] * x[:, 2] + x[0, 1],
        lambda x: x[:, ::2] * x[::-1, ::-2],
        lambda x: x[[0, 1, 0, 0]] * 2,
        lambda x: x[:, [2, 2, 0]] * x,
        lambda x: x[nd.array([1, 0])] * x,
        lambda x: x[np.array([[True, False, True], [False, True, True]])] ** 2,
        lambda x: x[None, 0] * 3,
        lambda x: x.copy() * x,
        lambda x: nd.concatenate([x, x * 2], axis=1) * 3,
        lambda x: nd.broadcast_mul(x, x.sum(axis=1, keepdims=True)),
        lambda x: nd.SliceChannel(x, num_outputs=3)[1] * 2 + nd.SliceChannel(x, num_outputs=3)[0],
        lambda x: nd.maximum(x, 3.5) + nd.minimum(x, x.T.T * 2),
        lambda x: abs(-x),
        lambda x: nd.softmax(x) * x,
        lambda x: x[:] * x,
    ],
    ids=lambda f: str(f.__code__.co_firstlineno),
)
def test_gradients_agree_with_differences(function):
    check(function, VALUES)


def test_several_variables():
    check(lambda x, w, b: nd.FullyConnected(x, w, b, num_hidden=4) ** 2, VALUES, np.ones((4, 3)), np.arange(4.0))
    check(lambda x, y: nd.broadcast_plus(x, y) * y, VALUES, np.arange(3.0).reshape(1, 3))


def test_on_every_kind_of_device(ctx):
    x = variable(VALUES, ctx)
    with autograd.record():
        y = nd.exp(x[1]).sum() + (x * x).sum()
    y.backward()
    assert x.grad.context == ctx
    expected = 2 * VALUES
    expected[1] += np.exp(VALUES[1])
    np.testing.assert_allclose(x.grad.asnumpy(), expected, rtol=1e-6)


def test_head_gradients():
    x = variable()
    with autograd.record():
        y, z = x * 2, x * x
    autograd.backward([y, z], [nd.ones((2, 3), dtype="float64") * 3, None])
    np.testing.assert_array_equal(x.grad.asnumpy(), 6 + 2 * VALUES)
    with autograd.record():
        y = x * 2
    y.backward(nd.ones((2, 3)))  # of another element type
    np.testing.assert_array_equal(x.grad.asnumpy(), np.full((2, 3), 2))


def test_grad_req():
    add, null, write = (variable(grad_req=req) for req in ("add", "null", "write"))
    for _ in range(2):
        with autograd.record():
            y = add * null * write
        y.backward()
    np.testing.assert_array_equal(add.grad.asnumpy(), 2 * VALUES**2)
    np.testing.assert_array_equal(write.grad.asnumpy(), VALUES**2)
    np.testing.assert_array_equal(null.grad.asnumpy(), 0)


def test_a_variable_is_its_own_gradient_s_head():
    x = variable()
    x.backward()
    np.testing.assert_array_equal(x.grad.asnumpy(), 1)


def test_marked_variables():
    x, y = nd.ones((2,)), nd.ones((2,))
    dx, dy = nd.zeros((2,)), nd.ones((2,))
    autograd.mark_variables([x, y], [dx, dy], ["write", "add"])
    assert x.grad is dx
    with autograd.record():
        z = x * 3 + y * 4
    z.backward()
    assert list(dx.asnumpy()) == [3, 3] and list(dy.asnumpy()) == [5, 5]


def test_gradient_zero_is_written():
    x = variable()
    x.grad[:] = 7
    with autograd.record():
        y = nd.BlockGrad(x) + nd.round(x)
    y.backward()
    np.testing.assert_array_equal(x.grad.asnumpy(), 0)


def test_what_is_not_reached_stays():
    x, other = variable(), variable()
    other.grad[:] = 7
    with autograd.record():
        y = x * 1
        y.detach() * other
    y.backward()
    np.testing.assert_array_equal(other.grad.asnumpy(), 7)


def test_losses_ignore_what_comes_in():
    data, label = variable(), nd.array([2, 0], dtype="float64")
    with autograd.record():
        y = nd.SoftmaxOutput(data, label) * 100
    y.backward()
    p = np.exp(VALUES) / np.exp(VALUES).sum(axis=1, keepdims=True)
    p[0, 2] -= 1
    p[1, 0] -= 1
    np.testing.assert_allclose(data.grad.asnumpy(), p, rtol=1e-6)


def test_writing_into_a_new_array():
    x, out = variable(), nd.zeros((2, 3), dtype="float64")
    with autograd.record():
        nd.exp(x, out=out)
        y = out * 2
    y.backward()
    np.testing.assert_allclose(x.grad.asnumpy(), 2 * np.exp(VALUES))


def test_in_place_on_a_constant():
    x, c = variable(), nd.array(VALUES, dtype="float64")
    with autograd.record():
        c *= x  # the old values of c are x's gradient
    c.backward()
    np.testing.assert_array_equal(x.grad.asnumpy(), VALUES)


def test_assignment():
    x = variable()
    y = nd.zeros((2, 3), dtype="float64")
    z = nd.zeros((4, 2, 3), dtype="float64")
    with autograd.record():
        y[:] = x * 3
        z[1:3] = x
        total = (y * y).sum() + z.sum()
    total.backward()
    np.testing.assert_array_equal(x.grad.asnumpy(), 18 * VALUES + 2)


def test_between_devices():
    with devices.in_this_process(seed=4):
        x, w = variable(VALUES, mx.cpu(0)), variable(VALUES, mx.cpu(1))
        with autograd.record():
            y = x.as_in_context(mx.cpu(1)) * w
            z = y.copyto(mx.cpu(2)).astype("float32") * 2
        z.backward()
        assert (x.grad.context, w.grad.context) == (mx.cpu(0), mx.cpu(1))
        np.testing.assert_array_equal(x.grad.asnumpy(), 2 * VALUES)
        np.testing.assert_array_equal(w.grad.asnumpy(), 2 * VALUES)
        assert x.grad.dtype == np.float64


@pytest.mark.ray
def test_between_this_process_and_an_actor():
    x, w = variable(VALUES, mx.cpu(0)), variable(VALUES, mx.gpu(0))
    with autograd.record():
        y = (x.as_in_context(mx.gpu(0)) * w).as_in_context(mx.cpu(0)).sum()
    y.backward()
    np.testing.assert_array_equal(x.grad.asnumpy(), VALUES)
    np.testing.assert_array_equal(w.grad.asnumpy(), VALUES)


# ---- modes ----


def test_scopes():
    seen = []

    def look():
        seen.append((autograd.is_recording(), autograd.is_training()))

    with autograd.record():
        look()
        with autograd.predict_mode():
            look()
        with autograd.pause():
            look()
            with autograd.train_mode():
                look()
        with autograd.record(train_mode=False):
            look()
        look()
    look()
    assert seen == [(True, True), (True, False), (False, False), (False, True), (True, False), (True, True),
                    (False, False)]  # fmt: skip
    assert autograd.set_recording(True) is False and autograd.set_training(True) is False
    assert autograd.set_recording(False) is True and autograd.set_training(False) is True


def test_a_scope_ends_with_an_error():
    with pytest.raises(ZeroDivisionError), autograd.record():
        raise ZeroDivisionError
    assert not autograd.is_recording()


def test_modes_belong_to_a_thread():
    with autograd.record():
        found = []
        thread = threading.Thread(target=lambda: found.append((autograd.is_recording(), autograd.is_training())))
        thread.start()
        thread.join()
    assert found == [(False, False)]


def test_nothing_is_asked_of_the_tape_when_off():
    assert nd._tape is None
    with autograd.record():
        assert nd._tape is tape
    assert nd._tape is None


def test_operators_follow_the_mode():
    x = nd.ones((50, 50))
    assert (nd.Dropout(x, p=0.5).asnumpy() == 1).all()
    with autograd.train_mode():
        dropped = nd.Dropout(x, p=0.5)
    assert set(np.unique(dropped.asnumpy())) == {0, 2}
    x.attach_grad()
    with autograd.record():
        dropped = nd.Dropout(x, p=0.5)
        with autograd.predict_mode():
            whole = nd.Dropout(x, p=0.5)
    assert (whole.asnumpy() == 1).all()
    dropped.backward()
    np.testing.assert_array_equal(x.grad.asnumpy(), dropped.asnumpy())


@pytest.mark.parametrize("mode", ["record", "pause"])
def test_what_is_paused_is_constant(mode):
    x = variable()
    with autograd.record():
        y = x * 2
        with autograd.pause():
            factor = y * x
        z = y * factor
    z.backward()
    np.testing.assert_array_equal(x.grad.asnumpy(), 2 * 2 * VALUES**2)


# ---- the tape's life ----


def test_a_graph_can_be_used_once_unless_it_is_retained():
    x = variable(grad_req="add")
    with autograd.record():
        y = x * x
        z = y * 2
    z.backward(retain_graph=True)
    z.backward()
    np.testing.assert_array_equal(x.grad.asnumpy(), 8 * VALUES)
    for head in (z, y):
        with pytest.raises(GraphError, match=r"the record of _mul(_scalar)? was freed by an earlier backward"):
            head.backward()


def test_memory_is_freed_with_the_last_result():
    x = variable()
    gc.collect()
    gc.disable()
    try:
        with autograd.record():
            y = nd.exp(x) * 1
            z = nd.sigmoid(nd.square(y))
        steps = [weakref.ref(kept) for kept in _kept(z)]
        assert len(steps) == 3
        del z
        assert sum(ref() is not None for ref in steps) < len(steps)
        del y
        assert [ref() for ref in steps if ref() is not None and ref() is not x] == []
        with autograd.record():
            z = nd.sigmoid(nd.exp(x))
        steps = [weakref.ref(kept) for kept in _kept(z)]
        z.backward()
        alive = [ref() for ref in steps if ref() is not None and ref() is not x]
        assert all(each is z or each is z._root for each in alive)
    finally:
        gc.enable()


def _kept(head):
    """All arrays that the steps under `head` keep."""
    order = tape._topological([tape.entry_of(head)])
    return [a for step in order if isinstance(step, tape.OperatorStep) for a in step.kept]


def test_a_long_chain_is_no_deep_recursion():
    x = variable([1.0])
    with autograd.record():
        y = x
        for _ in range(3000):
            y = y + 1
    y.backward()
    assert x.grad.asnumpy() == 1
    del y


def test_detach_and_attach_cut():
    x = variable()
    with autograd.record():
        y = x * 2
        z = y.detach() * x
    z.backward()
    np.testing.assert_array_equal(x.grad.asnumpy(), 2 * VALUES)
    with autograd.record():
        y = x * 2
        y.attach_grad()
        z = y * 3
    x.grad[:] = 7
    z.backward()
    np.testing.assert_array_equal(y.grad.asnumpy(), 3)
    np.testing.assert_array_equal(x.grad.asnumpy(), 7)
    d = x.detach()
    d[:] = 5
    assert x.asnumpy()[0, 0] == 5 and d.grad is None


# ---- grad ----


def test_grad_returns_new_arrays():
    x, w = variable(), variable()
    with autograd.record():
        y = x * w
        z = y * y
    dx, dy = autograd.grad(z, [x, y], retain_graph=True)
    np.testing.assert_array_equal(dx.asnumpy(), 2 * VALUES**3)
    np.testing.assert_array_equal(dy.asnumpy(), 2 * VALUES**2)
    np.testing.assert_array_equal(x.grad.asnumpy(), 0)
    np.testing.assert_array_equal(autograd.grad(z, w).asnumpy(), 2 * VALUES**3)
    with pytest.raises(GraphError, match=r"grad: variable 0 is not recorded; call attach_grad\(\) on it before it is"):
        autograd.grad(z, nd.ones((1,)))


def test_grad_of_what_is_not_reached_is_zero():
    x, other = variable(), variable()
    with autograd.record():
        y = x * 2
    np.testing.assert_array_equal(autograd.grad(y, other).asnumpy(), 0)


# ---- functions ----


class Sigmoid(autograd.Function):
    def forward(self, x):
        y = 1 / (1 + nd.exp(-x))
        self.save_for_backward(y)
        return y

    def backward(self, dy):
        (y,) = self.saved_tensors
        return dy * y * (1 - y)


class Swap(autograd.Function):
    def forward(self, a, b):
        return b * 2, a * 3

    def backward(self, db, da):
        return da * 3, db * 2


def test_function():
    check(lambda x: Sigmoid()(x) * x, VALUES)
    check(lambda a, b: nd.broadcast_mul(*Swap()(a, b)), VALUES, VALUES + 1)
    function = Sigmoid()
    assert function(nd.ones((1,))).shape == (1,)
    with pytest.raises(MXNetError, match="Sigmoid: an object can be called once; make another one"):
        function(nd.ones((1,)))


def test_a_function_that_returns_too_little():
    class Bad(Swap):
        def backward(self, db, da):
            return db

    x = variable()
    with autograd.record():
        y, _ = Bad()(x, x)
    with pytest.raises(MXNetError, match=r"Bad.backward must return a gradient for each of 2 inputs, got 1\."):
        y.backward()


@mx.operator.register("autograd square")
class SquareProp(mx.operator.CustomOpProp):
    def create_operator(self, ctx, in_shapes, in_dtypes):
        return Square()


class Square(mx.operator.CustomOp):
    def forward(self, is_train, req, in_data, out_data, aux):
        self.kept = in_data[0] * 1
        assert is_train
        self.assign(out_data[0], req[0], in_data[0] * in_data[0])

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        self.assign(in_grad[0], req[0], 2 * self.kept * out_grad[0])


def test_operators_written_in_python(ctx):
    x = variable(VALUES, ctx)
    with autograd.record():
        y, z = nd.Custom(x, op_type="autograd square"), nd.Custom(x * 2, op_type="autograd square")
        total = y.sum() + z.sum()
    total.backward()
    np.testing.assert_array_equal(x.grad.asnumpy(), 10 * VALUES)


def test_what_an_operator_in_python_keeps_goes_with_the_tape():
    kept = []

    class Keeping(Square):
        def forward(self, is_train, req, in_data, out_data, aux):
            super().forward(is_train, req, in_data, out_data, aux)
            kept.append(weakref.ref(self))

    mx.operator.register("autograd keeping")(
        type("Prop", (mx.operator.CustomOpProp,), {"create_operator": lambda *_: Keeping()})
    )
    x = variable()
    gc.collect()
    gc.disable()
    try:
        for retain in (True, False):
            with autograd.record():
                y = nd.Custom(x, op_type="autograd keeping")
            y.backward(retain_graph=retain)
            nd.waitall()
            assert (kept[-1]() is None) is not retain
            del y
            nd.ones((1,)).wait_to_read()
            nd.waitall()
            assert kept[-1]() is None
    finally:
        gc.enable()


# ---- symbols ----


def test_get_symbol():
    x, c = variable(), nd.ones((3, 4), dtype="float64")
    with autograd.record():
        y = nd.dot(nd.exp(x), c).reshape((4, 2)) + x.sum().reshape((1, 1)).broadcast_to((4, 2))
    symbol = autograd.get_symbol(y)
    assert symbol.list_arguments() == ["var0", "var1"]
    exe = symbol.bind(mx.cpu(), [x, c])
    np.testing.assert_allclose(exe.forward()[0].asnumpy(), y.asnumpy())
    with autograd.record():
        y = x[0:1] * 2
    with pytest.raises(GraphError, match="get_symbol: slice was recorded, which is no operator that a symbol can hold"):
        autograd.get_symbol(y)


# ---- what is refused ----


def test_changes_in_place_while_recording():
    x = variable()
    text = r"cannot be changed in place \(\+=, x\[:\] = …, out=\) while recording; make a new one, or change it"
    with autograd.record():
        y = x * 2
        for change in (
            lambda: y.__iadd__(1), lambda: x.__imul__(y), lambda: x.__setitem__(slice(None), 0),
            lambda: y.__setitem__(0, 1), lambda: nd.exp(x, out=y), lambda: x.copyto(y),
        ):  # fmt: skip
            with pytest.raises(MXNetError, match=text):
                change()
        with autograd.pause():
            y += 1
    x[:] = 0


def test_heads_that_were_not_recorded():
    text = "backward: head 0 was not computed from a variable while recording; call attach_grad"
    with pytest.raises(GraphError, match=text):
        nd.ones((1,)).backward()
    x = variable()
    y = x * 2
    with pytest.raises(GraphError, match=text):
        y.backward()
    with autograd.record():
        y = nd.ones((2,)) * 2
    with pytest.raises(GraphError, match=text):
        y.backward()


def test_arguments():
    x = variable()
    with autograd.record():
        y = x * 2
    with pytest.raises(ShapeError, match=r"the gradient of a head must have its shape \(2, 3\), got \(3,\)"):
        y.backward(nd.ones((3,)))
    with pytest.raises(MXNetError, match="backward: got 1 heads and 2 head_grads; there must be as many of each"):
        autograd.backward([y], [None, None])
    with pytest.raises(TypeError, match="backward: expected NDArrays, got int"):
        autograd.backward([3])
    with pytest.raises(ParameterError, match="grad_req must be 'write', 'add' or 'null', got 'often'"):
        x.attach_grad("often")
    with pytest.raises(ShapeError, match=r"the gradient must have the variable's shape \(2, 3\), got \(1,\)"):
        autograd.mark_variables(x, nd.ones((1,)))
    with pytest.raises(MXNetError, match="stype must be 'default', got 'csr'; there are no sparse arrays"):
        x.attach_grad(stype="csr")


def test_what_is_not_differentiable():
    x = variable()
    with autograd.record():
        y = nd.batch_take(x, nd.array([0, 1]))
        z = nd.BlockGrad(y) + x.sum()
    z.backward(retain_graph=True)
    with pytest.raises(GraphError, match=r"batch_take is not differentiable, but a gradient has to pass; use"):
        y.backward()


def test_a_fresh_gradient():
    x, other = variable(), variable()
    assert not x._fresh_grad
    with autograd.record():
        y = x * 2
    y.backward()
    assert x._fresh_grad and not other._fresh_grad
    x._fresh_grad = False
    assert not x._fresh_grad and not nd.ones((1,))._fresh_grad
