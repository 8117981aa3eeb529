"""Random numbers: shapes, dtypes, moments, and what a seed repeats."""

from __future__ import annotations

import numpy as np
import pytest

import raymx as mx
from raymx.errors import ContextError, DTypeError, ParameterError, ShapeError
from tests import devices


@pytest.fixture
def several_devices():
    with devices.in_this_process():
        yield


def draws(ctx=None) -> list[np.ndarray]:
    ctx = ctx or mx.cpu(0)
    shapes = ((mx.random.uniform, (3, 2)), (mx.random.normal, 4), (mx.random.uniform, 5))
    return [a.asnumpy() for a in [draw(shape=shape, ctx=ctx) for draw, shape in shapes]]


def equal(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_seed_makes_draws_repeatable():
    mx.random.seed(7)
    first, further = draws(), draws()
    assert not equal(first, further)
    mx.random.seed(7)
    assert equal(draws(), first) and equal(draws(), further)
    mx.random.seed(8)
    assert not equal(draws(), first)


def test_a_seed_holds_for_every_device(several_devices):
    """A device that was there, one that starts later, and whatever else is drawn elsewhere in between."""
    mx.random.seed(7)
    here, there = draws(), draws(mx.cpu(1))
    mx.random.seed(7)
    late = mx.gpu(0)
    again = [draws(late), draws(mx.cpu(1)), draws()]
    assert equal(again[1], there) and equal(again[2], here) and equal(again[0], here)


def test_a_seed_takes_its_place_among_what_was_pushed():
    mx.random.seed(1)
    a = mx.random.uniform(shape=3)
    mx.random.seed(1)
    b = mx.random.uniform(shape=3)
    assert np.array_equal(a.asnumpy(), b.asnumpy())


def test_moments():
    mx.random.seed(3)
    u = mx.random.uniform(-2, 4, shape=(200, 200)).asnumpy()
    assert -2 <= u.min() < -1.99 and 3.99 < u.max() < 4
    assert abs(u.mean() - 1) < 0.03 and abs(u.std() - 6 / 12**0.5) < 0.03
    n = mx.random.normal(1, 3, shape=(200, 200)).asnumpy()
    assert abs(n.mean() - 1) < 0.05 and abs(n.std() - 3) < 0.05


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("draw", [mx.random.uniform, mx.random.normal])
def test_shapes_and_dtypes(draw, dtype):
    for shape, expected in [((2, 3), (2, 3)), (4, (4,)), (np.int64(4), (4,)), (None, (1,)), ([2], (2,))]:
        x = draw(shape=shape, dtype=dtype)
        assert x.shape == expected and x.dtype == dtype
    assert draw(0, 1, (2,)).dtype == np.float32


@pytest.mark.parametrize("draw", [mx.random.uniform, mx.random.normal])
def test_into_out(draw):
    whole = mx.nd.full((4, 4), 9, dtype="float64")
    mx.random.seed(5)
    assert draw(out=whole) is whole
    mx.random.seed(5)
    np.testing.assert_array_equal(draw(shape=(4, 4), dtype="float64").asnumpy(), whole.asnumpy())
    gaps = mx.nd.full((4, 8), 9, dtype="float64")
    mx.random.seed(5)
    draw(out=gaps[:, ::2])
    np.testing.assert_array_equal(gaps.asnumpy()[:, ::2], whole.asnumpy())
    assert (gaps.asnumpy()[:, 1::2] == 9).all()


def test_out_tells_the_device(several_devices):
    x = mx.nd.zeros(3, mx.cpu(1))
    assert mx.random.uniform(1, 2, out=x).context == mx.cpu(1)
    assert (x.asnumpy() >= 1).all()
    with mx.cpu(1):
        assert mx.random.normal(shape=2).context == mx.cpu(1)


def test_operators_of_the_registry_draw_too():
    x = mx.nd.zeros((2, 3))
    mx.random.seed(2)
    mx.nd._random_uniform(low=1.0, high=2.0, out=x)
    mx.random.seed(2)
    np.testing.assert_array_equal(mx.random.uniform(1, 2, (2, 3)).asnumpy(), x.asnumpy())


def test_old_names():
    mx.rnd.seed(1)
    old = mx.rnd.normal(mean=5, stdvar=0.5, shape=(3,)).asnumpy()
    mx.random.seed(1)
    np.testing.assert_array_equal(mx.random.normal(5, 0.5, 3).asnumpy(), old)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: mx.random.uniform(shape=(2, 0)), ShapeError, r"dimension of a shape must be at least 1, got \(2, 0\)"),
        (lambda: mx.random.uniform(shape="2"), ShapeError, "a shape must be an integer or a tuple of .*, got '2'"),
        (lambda: mx.random.uniform(shape=2, dtype="int32"), ParameterError, "dtype must be a floating type, got int32"),
        (lambda: mx.random.uniform(shape=2, dtype="txt"), DTypeError, "dtype must be one of .*, got 'txt'"),
        (lambda: mx.random.uniform("a", shape=2), ParameterError, "_random_uniform: low must be a number, got 'a'"),
        (lambda: mx.random.normal(0, -1, shape=2), ParameterError, "_random_normal: scale must be .* of at least 0"),
        (lambda: mx.random.normal(avg=1), TypeError, "random.normal: unknown arguments avg"),
        (lambda: mx.random.uniform(shape=(2,), out=mx.nd.zeros(3)), ShapeError, r"_random_uniform: out must be \(2,\)"),
        (lambda: mx.nd._random_uniform(), ShapeError, "cannot tell the shape of out"),
        (lambda: mx.random.uniform(shape=2, ctx=mx.Context("gpu", -1)), ContextError, "at least 0, got -1"),
        (lambda: mx.random.seed("a"), ValueError, "'a'"),
    ],
)
def test_refusals(call, error, text):
    with pytest.raises(error, match=text):
        call()


# ---- all distributions ----

MOMENTS = [  # (draw, mean, standard deviation)
    (lambda r, **kw: r.exponential(2.0, **kw), 2, 2),
    (lambda r, **kw: r.gamma(4.0, 0.5, **kw), 2, 1),
    (lambda r, **kw: r.poisson(4.0, **kw), 4, 2),
    (lambda r, **kw: r.negative_binomial(3, 0.5, **kw), 3, 6**0.5),
    (lambda r, **kw: r.generalized_negative_binomial(2.0, 0.5, **kw), 2, 2),
    (lambda r, **kw: r.randint(0, 5, **kw), 2, 2**0.5),
]


@pytest.mark.parametrize(("draw", "mean", "deviation"), MOMENTS)
def test_moments_of_the_others(draw, mean, deviation):
    mx.random.seed(3)
    eager = draw(mx.nd.random, shape=(200, 200))
    (composed,) = draw(mx.sym.random, shape=(200, 200), name="noise").eval()
    for x in (eager, composed):
        assert x.dtype == eager.dtype
        x = x.asnumpy()
        assert abs(x.mean() - mean) < 0.05 and abs(x.std() - deviation) < 0.05


def test_parameters_may_be_arrays():
    mx.random.seed(3)
    low, high = mx.nd.array([0.0, 10]), mx.nd.array([1.0, 20])
    u = mx.nd.random.uniform(low, high, shape=1000).asnumpy()
    assert u.shape == (2, 1000) and u[0].max() < 1 and 10 <= u[1].min() < 11 and 19 < u[1].max() < 20
    assert mx.nd.random.normal(low, high).shape == (2,)
    net = mx.sym.random.gamma(mx.sym.Variable("a"), mx.sym.Variable("b"), shape=(3, 4), name="g")
    assert net.infer_shape(a=(2,))[1] == [(2, 3, 4)] and net.list_outputs() == ["g_output"]
    with pytest.raises(DTypeError, match="random.uniform: high must be a NDArray, as low is, got float"):
        mx.nd.random.uniform(low, 1.0)


def test_classes_by_their_probabilities():
    mx.random.seed(3)
    odds = mx.nd.array([[0.5, 0.5, 0], [0, 0.25, 0.75]])
    classes, logs = mx.nd.random.multinomial(odds, shape=2000, get_prob=True)
    assert classes.dtype == np.int32 and classes.shape == logs.shape == (2, 2000)
    shares = np.stack([np.bincount(line, minlength=3) for line in classes.asnumpy()]) / 2000
    assert np.abs(shares - odds.asnumpy()).max() < 0.05
    picked = np.take_along_axis(odds.asnumpy(), classes.asnumpy(), 1)
    np.testing.assert_allclose(logs.asnumpy(), np.log(picked), rtol=1e-6)
    assert mx.nd.random.multinomial(odds).shape == (2,)
    assert mx.nd.random.multinomial(mx.nd.array([0, 1])).asnumpy().tolist() == [1]


def test_rows_in_another_order():
    mx.random.seed(3)
    rows = np.arange(200).reshape(100, 2)
    mixed = mx.nd.random.shuffle(mx.nd.array(rows)).asnumpy()
    assert not np.array_equal(mixed, rows)
    np.testing.assert_array_equal(mixed[mixed[:, 0].argsort()], rows)


def test_the_argument_orders_of_both_eras():
    out = mx.nd.zeros((2, 2))
    assert mx.random.uniform(1, 2, (3,), mx.cpu()).shape == (3,)
    assert mx.random.uniform(1, 2, None, None, out) is out and (out.asnumpy() >= 1).all()
    assert mx.random.uniform(1, 2, (3,), "float64", mx.cpu()).dtype == np.float64
    assert mx.nd.random.randn(2, 3, loc=5, scale=0).asnumpy().tolist() == [[5.0] * 3] * 2


def test_wrong_numbers():
    with pytest.raises(ParameterError, match=r"_random_randint: there is no number from \[3, 3\)"):
        mx.nd.random.randint(3, 3)
    with pytest.raises(ParameterError, match="_random_randint: dtype must be int32 or int64, got float32"):
        mx.nd.random.randint(0, 3, dtype="float32")
    with pytest.raises(TypeError, match="a symbol has no `out`"):
        mx.sym.random.uniform(out=mx.nd.zeros(2))
