"""oneDNN's matrix product: every layout, repeatable on any number of threads, and when NumPy must do it instead."""

from __future__ import annotations

import gc
import itertools
import weakref

import numpy as np
import pytest

from raymx import config
from raymx.ops import backend
from raymx.ops.gradient import gradient_of
from raymx.ops.kernels import onednn
from raymx.ops.kernels.onednn import product
from raymx.ops.op import make

pytestmark = pytest.mark.skipif(not onednn.load(), reason="oneDNN's library is not installed")


def _random(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")


def _layouts(matrix):
    """The same matrix in different strides."""
    wide = np.zeros((matrix.shape[0], matrix.shape[1] + 3), matrix.dtype)
    wide[:, 1:-2] = matrix
    scattered = np.zeros((2 * matrix.shape[0], 2 * matrix.shape[1]), matrix.dtype)
    scattered[::2, ::2] = matrix
    return {
        "rows": matrix,
        "columns": np.asfortranarray(matrix),
        "part of wider rows": wide[:, 1:-2],
        "part of longer columns": np.asfortranarray(wide)[:, 1:-2],
        "turned round": np.ascontiguousarray(matrix[::-1])[::-1],
        "scattered": scattered[::2, ::2],
    }


def _run(steps):
    for step in steps:
        step()


@pytest.mark.parametrize("k", [5, 500, 1200])
def test_every_pair_of_layouts(k):
    a, b = _random(6, k), _random(k, 7)
    for (name_a, left), (name_b, right) in itertools.product(_layouts(a).items(), _layouts(b).items()):
        out = np.full((6, 10), 77, "float32")
        _run(product.product(left, right, out[:, :7]))
        np.testing.assert_allclose(out[:, :7], a @ b, rtol=1e-5, atol=1e-4, err_msg=f"{name_a}, {name_b}")
        assert (out[:, 7:] == 77).all(), "wrote outside"


@pytest.mark.parametrize(("m", "k", "n"), [(2, 1, 2), (1, 4, 3), (3, 4, 1), (2, 3, 2)])
def test_thin_matrices(m, k, n):
    a, b, out = _random(m, k), _random(k, n), np.empty((m, n), "float32")
    steps = product.product(a, b, out)
    if 1 in (m, n):
        assert steps is None  # a product with a vector is bound by memory: NumPy's business
    else:
        _run(steps)
        np.testing.assert_allclose(out, a @ b, rtol=1e-6)


def test_beta_adds_to_what_is_there():
    a, b, out = _random(3, 900), _random(900, 4), np.ones((3, 4), "float32")
    _run(product.product(a, b, out, beta=1.0))
    np.testing.assert_allclose(out, a @ b + 1, rtol=1e-5, atol=1e-5)


def test_a_plan_follows_its_operands():
    a, b, out = _layouts(_random(3, 4))["scattered"], _random(4, 5), np.empty((3, 5), "float32")
    steps = product.product(a, b, out)
    for _ in range(2):
        a *= 2
        _run(steps)
        np.testing.assert_allclose(out, a @ b, rtol=1e-6)


def test_a_plan_keeps_its_memory_alive():
    a = _random(3, 4)
    steps = product.product(a, _random(4, 5), np.empty((3, 5), "float32"))
    alive = weakref.ref(a)
    del a
    gc.collect()
    assert alive() is not None
    del steps
    gc.collect()
    assert alive() is None


def test_other_types_and_strided_results_are_left_to_numpy():
    a, b = _random(3, 4), _random(4, 5)
    assert product.product(a.astype("float64"), b.astype("float64"), np.empty((3, 5))) is None
    assert product.product(a, b, np.empty((3, 10), "float32")[:, ::2]) is None


SHAPES = [
    (64, 784, 128), (64, 128, 64), (64, 64, 10), (32, 784, 128), (2, 3000, 5), (128, 1000, 300), (7, 368, 9),
    (7, 4096, 16), (16, 9216, 10), (64, 800, 500),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["product", "added", "with bias"])
@pytest.mark.parametrize(("n", "d", "h"), SHAPES)
def test_results_do_not_depend_on_the_number_of_threads(n, d, h, kind):
    """Forward, and both products of backward, of a FullyConnected layer, bit for bit."""
    x, w, g = _random(n, d), _random(h, d), _random(n, h)
    try:
        for a, b in ((x, w.T), (g, w), (g.T, x)):
            bias, results = _random(b.shape[1]), []
            for threads in (1, 2, 3, 4, 8, 16):
                onednn.use_threads(threads)
                out = np.ones((a.shape[0], b.shape[1]), "float32")
                if kind == "with bias":
                    run = product.affine(a, b, bias, out)
                    if run is None:
                        pytest.skip("no such primitive on this processor")
                    run()
                else:
                    _run(product.product(a, b, out, beta=float(kind == "added")))
                results.append(out.tobytes())
            assert len(set(results)) == 1
            np.testing.assert_allclose(out, a @ b + {"product": 0, "added": 1}.get(kind, bias), rtol=1e-4, atol=1e-3)
    finally:
        backend.use_threads(0)


def _is_special(run) -> bool:
    return getattr(run, "func", run).__module__ == product.__name__ or hasattr(run, "arrays") or hasattr(run, "kept")


def test_operators_take_the_special_kernel_where_it_is_on():
    fc = make("FullyConnected", num_hidden=3)
    ins, outs = [_random(2, 4), _random(3, 4), _random(3)], [np.empty((2, 3), "float32")]
    gradient = gradient_of(fc, ("weight",))
    back = [_random(2, 3), ins[0], ins[1]], [np.empty((3, 4), "float32")]
    assert _is_special(fc.prepare(np, ins, outs))
    assert _is_special(gradient.prepare(np, *back))
    with config.using(onednn=False):
        assert not _is_special(fc.prepare(np, ins, outs))
        assert not _is_special(gradient.prepare(np, *back))


@pytest.mark.parametrize("transpose", [{}, {"transpose_a": True}, {"transpose_b": True}])
def test_batches_of_large_matrices(transpose):
    op = make("batch_dot", **transpose)
    lhs, rhs, out = _random(2, 40, 40), _random(2, 40, 40), np.empty((2, 40, 40), "float32")
    run = op.prepare(np, [lhs, rhs], [out])
    assert _is_special(run)
    run()
    np.testing.assert_allclose(out, np.matmul(*op.matrices(lhs, rhs)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("no_bias", [False, True])
@pytest.mark.parametrize("rows", [8, 16, 33, 64, 65])
def test_few_rows_of_a_large_weight(rows, no_bias):
    op, rng = make("FullyConnected", num_hidden=256, no_bias=no_bias), np.random.default_rng(0)
    ins = [np.empty((rows, 400), "float32"), np.empty((256, 400), "float32"), np.empty(256, "float32")][: 3 - no_bias]
    out = np.empty((rows, 256), "float32")
    run = op.prepare(np, ins, [out])
    for _ in range(2):  # also when the arrays are refilled
        for array in ins:
            array[...] = rng.uniform(-1, 1, array.shape)
        run()
        expected = ins[0].astype("float64") @ ins[1].T + (0 if no_bias else ins[2])
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
