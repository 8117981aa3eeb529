"""The helpers for tests."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

import raymx as mx
from raymx import ndarray as nd
from raymx import test_utils as tu
from tests import devices

A, B = mx.sym.Variable("a"), mx.sym.Variable("b")


@pytest.fixture(autouse=True)
def _seed():
    np.random.seed(11)


def test_defaults():
    assert tu.default_context() == mx.cpu() and tu.default_dtype() is np.float32
    with mx.cpu(3):
        assert tu.default_context() == mx.cpu(3)
    before = tu.default_context()
    tu.set_default_context(mx.cpu(2))
    assert tu.default_context() == mx.cpu(2)
    tu.set_default_context(before)
    assert tu.get_rtol() == 1e-5 and tu.get_rtol(0.1) == 0.1 and tu.get_rtol(dtype=np.float16) == 1e-2
    assert tu.get_atol() == 1e-20 and tu.get_atol(dtype="int32") == 0 and tu.get_etol() == 0


def test_random_inputs():
    one, (two, three) = tu.random_arrays((2, 3)), tu.random_arrays((2,), (3, 1))
    assert (one.shape, two.shape, three.shape) == ((2, 3), (2,), (3, 1)) and one.dtype == np.float32
    (uniform,) = tu.random_uniform_arrays((100,), low=2, high=3, dtype="float64")
    assert uniform.min() >= 2 and uniform.max() < 3 and uniform.dtype == np.float64
    array = tu.rand_ndarray((2, 3), dtype="float64", modifier_func=abs)
    assert isinstance(array, nd.NDArray) and array.dtype == np.float64 and array.asnumpy().min() >= 0
    with pytest.raises(NotImplementedError, match="stype must be 'default', got 'csr'; there are no sparse arrays"):
        tu.rand_ndarray((2, 3), "csr")
    assert [len(s) for s in (tu.rand_shape_2d(), tu.rand_shape_3d(), tu.rand_shape_nd(5))] == [2, 3, 5]
    assert {tu.rand_shape_2d(1, 2) for _ in range(40)} == {(1, 1), (1, 2)}
    assert tu.rand_coord_2d(1, 2, 3, 4) == (1, 3)
    assert sorted(tu.random_sample([1, 2, 3], 3)) == [1, 2, 3]
    assert tu.create_2d_tensor(3, 2).asnumpy().tolist() == [[0, 0], [1, 1], [2, 2]]
    assert tu.create_vector(3).asnumpy().tolist() == [0, 1, 2]


@pytest.mark.parametrize("axis", [None, 0, -1, [0, 2], (1,)])
@pytest.mark.parametrize("keepdims", [True, False])
def test_np_reduce(axis, keepdims):
    x = np.arange(24.0).reshape(2, 3, 4)
    expected = x.sum(axis=tuple(axis) if isinstance(axis, list) else axis, keepdims=keepdims)
    np.testing.assert_array_equal(tu.np_reduce(x, axis, keepdims, np.sum), expected)


def test_comparing():
    a = np.array([1.0, 2.0, 3.0])
    assert tu.same(a, nd.array(a)) and not tu.same(a, a[:2])
    assert tu.almost_equal(a, a + 1e-7) and not tu.almost_equal(a, a + 1e-3)
    assert tu.almost_equal(a, a + 1e-3, rtol=1e-2) and tu.almost_equal(nd.array(a), a + 1e-4)
    assert tu.find_max_violation(a, np.array([1.0, 2.2, 3.1]), 0.01, 0.0)[0] == (1,)
    with pytest.raises(AssertionError, match=r"shapes differ: \(3,\) and \(1,\)"):
        tu.almost_equal(a, a[:1], use_broadcast=False)
    assert tu.reldiff(a, a) == 0 and tu.reldiff(a, a + 0.6) == pytest.approx(0.3)
    nan = np.array([1.0, np.nan, 3.0])
    assert tu.almost_equal(nan, nan, equal_nan=True) and not tu.almost_equal(nan, nan)
    assert tu.almost_equal_ignore_nan(a, nan)
    tu.assert_almost_equal_ignore_nan(a, nan)
    tu.assert_allclose(nan, nan)
    tu.assert_almost_equal(1, 1.0)
    tu.assert_almost_equal(a, a + 0.05, threshold=0.1)


def test_an_error_shows_the_worst_elements():
    a, b = np.zeros((2, 3)), np.zeros((2, 3))
    b[0, 1], b[1, 2] = 0.01, 0.5
    with pytest.raises(AssertionError) as caught:
        tu.assert_almost_equal(a, nd.array(b, dtype="float64"), rtol=0, atol=1e-3, names=("mine", "theirs"))
    lines = str(caught.value).split("\n")
    tolerance = "atol=0.001 + rtol=0 * |theirs|"
    assert lines[0] == f"mine and theirs differ at 2 of 6 elements by more than {tolerance}. The worst:"
    assert lines[1].startswith("  [1, 2]: mine np.float64(0.0), theirs np.float64(0.5) (500 times more)")
    assert len(lines) == 3
    with pytest.raises(AssertionError, match=r"a and b differ: shapes \(2,\) and \(3,\) do not fit"):
        tu.assert_almost_equal(np.ones(2), np.ones(3))
    with pytest.raises(AssertionError, match=r"differ at 1 of 2"):
        tu.assert_almost_equal([1.0, np.nan], [1.0, 2.0])
    tu.assert_almost_equal_with_err(np.ones(4), np.array([1, 1, 1, 2.0]), etol=0.3)
    with pytest.raises(AssertionError, match="differ at 1 of 4"):
        tu.assert_almost_equal_with_err(np.ones(4), np.array([1, 1, 1, 2.0]), etol=0.2)


def test_exceptions():
    tu.assert_exception(int, ValueError, "x")
    with pytest.raises(AssertionError, match="int did not raise ValueError"):
        tu.assert_exception(int, ValueError, "1")


def test_same_array():
    x = nd.zeros((2, 3))
    assert tu.same_array(x, x[:]) and tu.same_array(x[0:2], x) and not tu.same_array(x, x.copy())
    assert x.asnumpy().sum() == 0


def test_symbols():
    out = tu.simple_forward(A * 2 + B, a=np.ones(3), b=np.arange(3))
    assert out.tolist() == [2, 3, 4]
    assert len(tu.simple_forward(mx.sym.Group([A, B]), a=np.ones(1), b=np.ones(1))) == 2
    assert tu.same_symbol_structure(A + B, mx.sym.Variable("c") + mx.sym.Variable("d"))
    assert not tu.same_symbol_structure(A + B, A - B)


def test_symbolic_forward():
    x = np.arange(6.0).reshape(2, 3)
    tu.check_symbolic_forward(A * B, [x, x + 1], [x * (x + 1)])
    (found,) = tu.check_symbolic_forward(_named(A * B), {"a": x, "b": x}, {"out_output": x * x})
    assert found.shape == (2, 3)
    with pytest.raises(AssertionError, match=r"EXPECTED_.*_output and FORWARD_.*_output differ at 5 of 6 elements"):
        tu.check_symbolic_forward(A * B, [x, x], [x * x * 2])
    with pytest.raises(ValueError, match=r"location must name \['a', 'b'\], got \['a', 'c'\]"):
        tu.check_symbolic_forward(A * B, {"a": x, "c": x}, [x])


@pytest.mark.parametrize("grad_req", ["write", "add", "null", {"a": "add", "b": "write"}, ["null", "write"]])
def test_symbolic_backward(grad_req):
    x, g = np.arange(6.0).reshape(2, 3), np.ones((2, 3)) * 3
    tu.check_symbolic_backward(A * B, [x, x + 1], [g], [g * (x + 1), g * x], rtol=1e-5, grad_req=grad_req)
    if grad_req != "null":
        with pytest.raises(AssertionError, match="EXPECTED_b and BACKWARD_b differ"):
            tu.check_symbolic_backward(A * B, [x, x], [g], {"b": g * x + 1}, grad_req=grad_req)


def test_symbolic_backward_of_a_loss():
    x, y = np.arange(4.0).reshape(2, 2), np.ones((2, 2))
    tu.check_symbolic_backward(mx.sym.LinearRegressionOutput(A, B), [x, y], None, {"a": (x - y) / 2})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numeric_gradient(dtype):
    x = np.random.uniform(0.5, 1, (3, 2))
    tu.check_numeric_gradient(mx.sym.exp(A) * B, [x, x], numeric_eps=1e-3, rtol=2e-2, dtype=dtype)
    nodes = {"a": "add", "b": "null"}
    tu.check_numeric_gradient(A * B, {"a": x, "b": x}, None, 1e-3, 2e-2, 1e-3, grad_nodes=nodes, dtype=dtype)
    with pytest.raises(AssertionError, match="NUMERICAL_a and BACKWARD_a differ at 6 of 6"):
        tu.check_numeric_gradient(mx.sym.BlockGrad(A) * B, [x, x], grad_nodes=["a"], dtype=dtype)


def test_numeric_gradient_with_states():
    x = np.random.normal(size=(5, 3))
    net = mx.sym.Custom(A, op_type="test states")
    tu.check_numeric_gradient(net, [x], [np.ones(3)], numeric_eps=1e-2, rtol=2e-2, atol=1e-2)


@mx.operator.register("test states")
class StatesProp(mx.operator.CustomOpProp):
    def list_auxiliary_states(self):
        return ["factor"]

    def infer_shape(self, in_shape):
        return in_shape, [in_shape[0]], [in_shape[0][1:]]

    def create_operator(self, ctx, in_shapes, in_dtypes):
        return States()


class States(mx.operator.CustomOp):
    def forward(self, is_train, req, in_data, out_data, aux):
        aux[0][:] *= 2  # each forward has to begin with the state that was given
        out_data[0][:] = mx.nd.broadcast_mul(in_data[0], aux[0].reshape((1, -1)))

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        in_grad[0][:] = mx.nd.broadcast_mul(out_grad[0], aux[0].reshape((1, -1)))


def test_consistency():
    with devices.in_this_process():
        rows = [
            {"ctx": ctx, "a": (4, 3), "b": (4, 3), "type_dict": {"a": dtype, "b": dtype}}
            for ctx, dtype in ((mx.cpu(0), "float64"), (mx.cpu(1), "float32"), (mx.cpu(2), "float16"))
        ]
        truth = tu.check_consistency(mx.sym.tanh(A * B) + A, rows)
        assert truth["a"].dtype == np.float64 and truth["a"].shape == (4, 3)
        tu.check_consistency(A * B, rows, grad_req="null", use_uniform=True)
        tu.check_consistency(A * B, rows[:2], grad_req="add", tol=1e-3)
        with pytest.raises(AssertionError, match=r"forward .*_output of executor 1 and of executor 0 differ"):
            tu.check_consistency([_named(A * B), _named(A * B * 1.1)], rows[:2])


def _named(symbol):
    return mx.sym.identity(symbol, name="out")


def test_speed():
    assert tu.check_speed(A * B, N=2, a=(2, 3), b=(2, 3)) > 0
    assert tu.check_speed(A * B, {"a": np.ones(3), "b": np.ones(3)}, N=1, typ="forward") > 0
    with pytest.raises(ValueError, match="typ must be 'whole' or 'forward', got 'half'"):
        tu.check_speed(A, a=(1,), typ="half")


def test_surroundings(capfd):
    calls = []

    @tu.retry(3)
    def chancy():
        calls.append(1)
        assert len(calls) == 2

    chancy()
    assert len(calls) == 2
    calls.append(1)
    with pytest.raises(AssertionError):
        chancy()
    with tu.discard_stderr():
        os.write(2, b"lost")
    sys.stderr.write("kept")
    assert capfd.readouterr().err == "kept"
    with tu.environment("RAYMX_TEST_X", "1"):
        assert os.environ["RAYMX_TEST_X"] == "1"
        with tu.environment({"RAYMX_TEST_X": None}):
            assert "RAYMX_TEST_X" not in os.environ
    assert "RAYMX_TEST_X" not in os.environ
    with mx.config.using(virtual_gpus=3):
        assert tu.list_gpus() == [0, 1, 2]


def test_random_generators():
    rng = np.random.default_rng(5)
    assert tu.mean_check(lambda n: rng.normal(2, 3, n), 2, 3, 10_000)
    assert not tu.mean_check(lambda n: rng.normal(2.5, 3, n), 2, 3, 10_000)
    assert tu.var_check(lambda n: rng.normal(2, 3, n), 3, 10_000)
    assert not tu.var_check(lambda n: rng.normal(2, 4, n), 3, 10_000)
    buckets, probs = tu.gen_buckets_probs_with_ppf(lambda p: 4 * p, 4)
    assert buckets == [(0, 1), (1, 2), (2, 3), (3, 4)] and probs == [0.25] * 4
    pytest.importorskip("scipy")
    tu.verify_generator(lambda n: rng.uniform(0, 4, n), buckets, probs, 10_000)
    tu.verify_generator(lambda n: rng.integers(0, 2, n), [0, 1], [0.5, 0.5], 10_000)
    with pytest.raises(AssertionError, match="only 0 of 5 chi-square tests passed"):
        tu.verify_generator(lambda n: rng.uniform(0, 3, n), buckets, probs, 10_000)


def test_optimizers():
    tu.compare_optimizer(mx.optimizer.SGD(momentum=0.9), mx.optimizer.SGD(momentum=0.9), (3, 4), "float32")
    with pytest.raises(AssertionError, match="a and b differ"):
        tu.compare_optimizer(mx.optimizer.SGD(learning_rate=1), mx.optimizer.SGD(learning_rate=2), (3, 4), "float32")
