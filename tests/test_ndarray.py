"""NDArray: what it is made of, what it computes, what shares memory, and what it refuses in which words."""

from __future__ import annotations

import copy
import operator
import pickle
import re
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import raymx as mx
from raymx.errors import ContextError, DTypeError, FormatError, MXNetError, ParameterError, ShapeError, TaskError
from raymx.ndarray import NDArray
from raymx.ops.op import make
from tests import devices

DTYPES = ["float32", "float64", "float16", "uint8", "int8", "int32", "int64", "bool"]
NUMBERS = DTYPES[:-1]
INTEGERS = ["uint8", "int8", "int32", "int64"]


@pytest.fixture
def several_devices():
    """`cpu(1)`, `cpu(2)` and `gpu(0)` are devices of this process; values between them come late."""
    with devices.in_this_process():
        yield


def same(got: NDArray, expected, dtype="float32") -> None:
    """Equal values, shape and dtype."""
    value = got.asnumpy()
    assert value.dtype == got.dtype == np.dtype(dtype)
    assert value.shape == got.shape
    np.testing.assert_array_equal(value, expected)


def counting(*shape, dtype="float32", ctx=None) -> NDArray:
    return mx.nd.array(np.arange(np.prod(shape)).reshape(shape), ctx, dtype)


# ---- making arrays ----


def test_creation():
    same(mx.nd.zeros((2, 3)), np.zeros((2, 3)))
    same(mx.nd.ones((2, 3), dtype="int32"), np.ones((2, 3)), "int32")
    same(mx.nd.full((2,), 7.5), [7.5, 7.5])
    same(mx.nd.full((2, 2), [1, 2]), [[1, 2], [1, 2]])
    empty = mx.nd.empty((4, 1), dtype="float64")
    assert empty.shape == (4, 1) and empty.dtype == np.float64 and empty.asnumpy().shape == (4, 1)


def test_a_shape_may_be_an_integer():
    for make_it in (mx.nd.zeros, mx.nd.ones, mx.nd.empty):
        assert make_it(3).shape == make_it(np.int64(3)).shape == make_it([3]).shape == (3,)
    assert mx.nd.full(2, 1).shape == (2,)
    assert mx.nd.zeros(np.array([2, 3])).shape == (2, 3)
    assert all(type(n) is int for n in mx.nd.zeros(np.array([2, 3])).shape)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype):
    host = np.array([0, 1, 2, 3]).astype(dtype)
    same(mx.nd.array(host, dtype=dtype), host, dtype)
    same(mx.nd.array(host.tolist(), dtype=np.dtype(dtype)), host, dtype)
    same(mx.nd.ones((2,), dtype=np.dtype(dtype).type), np.ones(2), dtype)
    same(mx.nd.array([0, 1, 2, 3]).astype(dtype), host, dtype)


def test_array_is_float32_whatever_the_source():
    for source in ([1, 2], (1.0, 2.0), np.array([1, 2]), np.array([1.0, 2.0]), range(1, 3), [True, 2]):
        same(mx.nd.array(source), [1, 2])
    same(mx.nd.array(5), [5])
    same(mx.nd.array(np.float64(5)), [5])
    same(mx.nd.array([1, 2], dtype=None), [1, 2])
    same(mx.nd.zeros((2,), dtype=None), [0, 0])


def test_array_keeps_the_dtype_of_an_ndarray():
    source = mx.nd.array([1, 2], dtype="int8")
    same(mx.nd.array(source), [1, 2], "int8")
    same(mx.nd.array(source, dtype="float64"), [1, 2], "float64")
    same(mx.nd.array([source, source]), [[1, 2], [1, 2]])
    source += 1
    same(mx.nd.array(source), [2, 3], "int8")


def test_array_copies_its_source():
    host = np.ones(3, np.float32)
    array = mx.nd.array(host)
    host[:] = 9
    same(array, [1, 1, 1])


def test_array_of_a_transposed_source():
    host = np.arange(6.0).reshape(2, 3).T
    same(mx.nd.array(host), host)
    same(mx.nd.array(host[::-1, ::2]), host[::-1, ::2])


def test_numbers_are_converted_as_in_c():
    same(mx.nd.array([-1, 256, 300], dtype="uint8"), [255, 0, 44], "uint8")
    same(mx.nd.array([1.9, -1.9], dtype="int32"), [1, -1], "int32")
    same(mx.nd.array([1e10, 2], dtype="float16"), [np.inf, 2], "float16")
    same(mx.nd.array([2**53 + 1], dtype="int64"), [2**53 + 1], "int64")


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: mx.nd.zeros((2, 0)), ShapeError, r"every dimension of a shape must be at least 1, got \(2, 0\)\."),
        (lambda: mx.nd.zeros((2, -1)), ShapeError, r"must be at least 1, got \(2, -1\)\."),
        (lambda: mx.nd.zeros(()), ShapeError, r"must be at least 1, got \(\)\."),
        (lambda: mx.nd.array([]), ShapeError, r"must be at least 1, got \(0,\)\."),
        (lambda: mx.nd.zeros((2, 1.5)), ShapeError, r"a shape must be an integer or a tuple of .*, got \(2, 1.5\)"),
        (lambda: mx.nd.zeros("ab"), ShapeError, "a shape must be an integer or a tuple of integers, got 'ab'"),
        (lambda: mx.nd.zeros(2, dtype="complex64"), DTypeError, "must be one of float32, .*, bool, got 'complex64'"),
        (lambda: mx.nd.zeros(2, dtype="flaot"), DTypeError, "got 'flaot'"),
        (lambda: mx.nd.array([1], dtype="uint16"), DTypeError, "got 'uint16'"),
        (lambda: mx.nd.array("abc"), DTypeError, "array: expected numbers, got str with elements of type <U3"),
        (lambda: mx.nd.array(None), DTypeError, "array: expected numbers, got NoneType with elements of type object"),
        (lambda: mx.nd.array([1, None]), DTypeError, "array: expected numbers, got list with elements of type object"),
        (lambda: mx.nd.array([1j]), DTypeError, "array: expected numbers, got list with elements of type complex128"),
        (lambda: mx.nd.array([[1, 2], [3]]), ShapeError, "array: list is no array: .*inhomogeneous"),
        (lambda: mx.nd.arange(3, 1), ParameterError, "no number lies from 3 to 1 in steps of 1.0"),
        (lambda: mx.nd.concatenate([]), ValueError, "concatenate: at least one array is needed, got none"),
    ],
)
def test_refuses_to_make(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="dtyp"):
        mx.nd.zeros((2,), dtyp="int32")


def test_arange():
    same(mx.nd.arange(3), [0, 1, 2])
    same(mx.nd.arange(1, 2, 0.5, repeat=2), [1, 1, 1.5, 1.5])
    same(mx.nd.arange(5, 0, -2, dtype="int32"), [5, 3, 1], "int32")


def test_zeros_like_and_ones_like(several_devices):
    source = mx.nd.full((2, 3), 7, mx.cpu(1), "int8")
    for like, value in ((mx.nd.zeros_like, 0), (mx.nd.ones_like, 1)):
        same(like(source), np.full((2, 3), value), "int8")
        assert like(source).context == mx.cpu(1)


def test_what_an_array_is():
    array = mx.nd.zeros((2, 3, 4), dtype="float64")
    assert (array.ndim, array.size, array.nbytes, len(array)) == (3, 24, 192, 2)
    assert array.context == array.ctx == mx.cpu(0)
    assert array.writable


def test_default_context_of_new_arrays(several_devices):
    with mx.cpu(1):
        made = [mx.nd.zeros(2), mx.nd.array([1]), mx.nd.empty(1), mx.nd.arange(2), mx.random.uniform(shape=2)]
        assert {a.context for a in made} == {mx.cpu(1)}
        assert mx.nd.ones(1, mx.cpu(2)).context == mx.cpu(2)
    assert mx.nd.zeros(2).context == mx.cpu(0)


# ---- arithmetic ----

BINARY = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "**": operator.pow,
    "%": operator.mod,
}  # fmt: skip
COMPARE = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@pytest.mark.parametrize("sign", BINARY)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arithmetic(sign, dtype):
    compute = BINARY[sign]
    a = np.array([[1.5, 2, 4], [0.5, 3, 8]], dtype)
    b = np.array([[2, 0.5, 1], [3, 2, 1.5]], dtype)
    x, y = mx.nd.array(a, dtype=dtype), mx.nd.array(b, dtype=dtype)
    for got, expected in [
        (compute(x, y), compute(a, b)), (compute(x, 2.5), compute(a, 2.5)), (compute(2.5, x), compute(2.5, a)),
        (compute(x, 3), compute(a, 3)), (compute(3, x), compute(3, a)), (compute(x, x), compute(a, a)),
        (compute(x, True), compute(a, 1)), (compute(x, np.float64(1.5)), compute(a, 1.5)),
        (compute(np.float64(1.5), x), compute(1.5, a)), (compute(np.int8(3), x), compute(3, a)),
        (compute(x, b), compute(a, b)), (compute(b, x), compute(b, a)), (compute(x, b.tolist()), compute(a, b)),
        (compute(b.tolist(), x), compute(b, a)),
    ]:  # fmt: skip
        assert got.dtype == dtype
        np.testing.assert_allclose(got.asnumpy(), expected.astype(dtype), rtol=1e-6)
    same(x, a, dtype)
    same(y, b, dtype)


@pytest.mark.parametrize("sign", BINARY)
@pytest.mark.parametrize(
    ("left", "right"), [((2, 3), (3,)), ((3,), (2, 3)), ((2, 1), (1, 3)), ((1,), (2, 2, 2)), ((4, 1), (3,))]
)
def test_arithmetic_broadcasts(sign, left, right):
    chance = np.random.default_rng(0)
    a, b = (chance.uniform(0.5, 2, shape).astype(np.float32) for shape in (left, right))
    got = BINARY[sign](mx.nd.array(a), mx.nd.array(b))
    np.testing.assert_allclose(got.asnumpy(), BINARY[sign](a, b), rtol=1e-5)


@pytest.mark.parametrize("sign", BINARY)
@pytest.mark.parametrize("right", [(2, 3), (3,), (2, 1), (1, 1), (1,)])
def test_in_place(sign, right):
    chance = np.random.default_rng(0)
    a, b = (chance.uniform(0.5, 2, shape).astype(np.float32) for shape in ((2, 3), right))
    x, before = mx.nd.array(a), None
    before = x
    x = getattr(operator, "i" + BINARY[sign].__name__)(x, mx.nd.array(b))
    assert x is before
    np.testing.assert_allclose(x.asnumpy(), BINARY[sign](a, b), rtol=1e-5)
    np.testing.assert_allclose(before.asnumpy(), BINARY[sign](a, b), rtol=1e-5)


def test_in_place_with_numbers_lists_and_numpy():
    x = mx.nd.ones((2, 2))
    x += 1
    x *= 2.5
    x -= np.float32(1)
    x /= np.array([[1, 2], [4, 8]])
    x **= [2, 2]
    x %= 3
    same(x, [[1, 1], [1, 0.25]])


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_arithmetic_keeps_its_dtype(dtype):
    a, b = mx.nd.array([7, 8, 9], dtype=dtype), mx.nd.array([2, 3, 4], dtype=dtype)
    for got, expected in [
        (a + b, [9, 11, 13]), (a - b, [5, 5, 5]), (a * b, [14, 24, 36]), (a / b, [3, 2, 2]), (b**b, [4, 27, 0]),
        (a % b, [1, 2, 1]), (a + 1, [8, 9, 10]), (a / 2, [3, 4, 4]), (20 / a, [2, 2, 2]), (10 - a, [3, 2, 1]),
        (2**b, [4, 8, 16]), (10 % a, [3, 2, 1]), (a + 1.9, [8, 9, 10]), (a.sum(), [24]), (a.mean(), [8]),
    ]:  # fmt: skip
        assert got.dtype == dtype
        if got is not None and expected[-1] != 0:
            same(got, expected, dtype)
    a += 1
    a /= 2
    same(a, [4, 4, 5], dtype)


def test_integers_wrap_around_and_divide_as_in_c():
    same(mx.nd.array([250], dtype="uint8") + 10, [4], "uint8")
    same(mx.nd.array([-7, 7], dtype="int32") / 2, [-3, 3], "int32")
    same(mx.nd.array([1], dtype="int32") / 0, [0], "int32")
    same(mx.nd.array([2**40], dtype="int64") + 1, [2**40 + 1], "int64")


def test_division_by_zero_is_infinite_and_silent():
    x = mx.nd.array([1.0, -1.0, 0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal((x / 0.0).asnumpy(), [np.inf, -np.inf, np.nan])
        np.testing.assert_array_equal((x / -0.0).asnumpy(), [-np.inf, np.inf, np.nan])
        np.testing.assert_array_equal((1 / x).asnumpy(), [1, -1, np.inf])


def test_negative_zero_is_a_number_of_its_own():
    x = mx.nd.ones(1)
    x[:] = 0.0
    x[:] = -0.0
    assert np.signbit(x.asscalar())
    x *= 0.0
    assert np.signbit(x.asscalar())


def test_unary():
    x = mx.nd.array([-1.5, 2])
    same(-x, [1.5, -2])
    same(abs(x), [1.5, 2])
    plus = +x
    same(plus, [-1.5, 2])
    plus += 1
    same(x, [-1.5, 2])


@pytest.mark.parametrize("sign", COMPARE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_comparisons(sign, dtype):
    compare = COMPARE[sign]
    a, b = np.array([0, 1, 1]).astype(dtype), np.array([1, 1, 0]).astype(dtype)
    x, y = mx.nd.array(a, dtype=dtype), mx.nd.array(b, dtype=dtype)
    same(compare(x, y), compare(a, b), dtype)
    same(compare(x, 1), compare(a, 1), dtype)
    same(compare(1, x), compare(1, a), dtype)
    same(compare(x, b), compare(a, b), dtype)
    same(compare(b, x), compare(b, a), dtype)
    same(compare(x.reshape((3, 1)), y), compare(a[:, None], b), dtype)


def test_arrays_are_hashed_by_identity():
    a, b = mx.nd.ones(2), mx.nd.ones(2)
    assert len({a, b, a}) == 2
    assert (a == None) is False and (a != None) is True  # noqa: E711
    assert a != "text"


def test_matrix_product():
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    x, y = mx.nd.array(a), mx.nd.array(b)
    same(x @ y, a @ b)
    same(x.dot(y), a @ b)
    same(x @ b, a @ b)
    same(a @ y, a @ b)
    same(mx.nd.ones(3) @ mx.nd.ones(3), [3])
    c, d = np.arange(12.0).reshape(2, 2, 3), np.arange(24.0).reshape(2, 3, 4)
    same(mx.nd.array(c) @ mx.nd.array(d), c @ d)
    with pytest.raises(ShapeError, match=r"dot: the contracted axes must be equal, 3 is not 2 \(got lhs \(2, 3\), rhs"):
        x @ x
    with pytest.raises(ShapeError, match="batch_dot: both must have at least 3 axes"):
        x @ mx.nd.array(d)
    with pytest.raises(TypeError):
        x @ "text"


def test_methods():
    a = np.array([[3.0, -1], [2, 5]], np.float32)
    x = mx.nd.array(a)
    same(x.sum(), [9])
    same(x.sum(axis=0), a.sum(0))
    same(x.sum(axis=1, keepdims=True), a.sum(1, keepdims=True))
    same(x.mean(axis=1), a.mean(1))
    same(x.max(), [5])
    same(x.min(axis=0), a.min(0))
    same(x.norm(), [np.float32(39**0.5)])
    same(x.abs(), abs(a))
    same(x.clip(0, 3), a.clip(0, 3))
    same(x.T, a.T)
    same(x.transpose(), a.T)
    same(mx.nd.ones((2, 3, 4)).transpose(2, 0, 1), np.ones((4, 2, 3)))
    same(mx.nd.ones((2, 3, 4)).transpose((2, 0, 1)), np.ones((4, 2, 3)))


def test_broadcast_to():
    same(mx.nd.array([[1], [2]]).broadcast_to((2, 3)), [[1, 1, 1], [2, 2, 2]])
    same(mx.nd.array([1, 2]).broadcast_to((3, 2)), [[1, 2]] * 3)
    with pytest.raises(ShapeError, match=r"broadcast_to: only axes of size 1 stretch; shape \(3, 3\) does not fit"):
        mx.nd.ones((2, 3)).broadcast_to((3, 3))


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x - x, lambda x: x - 1, lambda x: 1 - x, lambda x: -x, lambda x: x % x, lambda x: x % 2,
        lambda x: x.__isub__(1), lambda x: x.__isub__(x), lambda x: x.reshape((2, 1)) - x,
        lambda x: mx.nd.sigmoid(x), lambda x: mx.nd.sign(x), lambda x: mx.nd.softmax(x), lambda x: mx.nd.round(x),
    ],
)  # fmt: skip
def test_bool_is_refused_where_it_means_nothing(compute):
    text = r"(lhs|data) must be of a floating( or integer)? type, got bool; convert it with astype or Cast\."
    with pytest.raises(DTypeError, match=text):
        compute(mx.nd.array([True, False], dtype=bool))


def test_bool_arithmetic_that_means_something():
    a, b = mx.nd.array([1, 1, 0], dtype=bool), mx.nd.array([1, 0, 0], dtype=bool)
    same(a * b, [True, False, False], bool)
    same(a + b, [True, True, False], bool)
    same(a == 1, [True, True, False], bool)
    a *= b
    a += 0
    same(a, [True, False, False], bool)


# ---- reading ----


def test_asnumpy_is_a_writable_copy():
    x = mx.nd.ones(2)
    value = x.asnumpy()
    value[:] = 9
    same(x, [1, 1])
    later = x.asnumpy()
    x += 1
    np.testing.assert_array_equal(later, [1, 1])


def test_one_element_as_a_number():
    x = mx.nd.array([[2.5]])
    assert x.asscalar() == 2.5 and isinstance(x.asscalar(), np.float32)
    assert x.item() == 2.5 and type(x.item()) is float
    assert float(x) == 2.5 and int(x) == 2
    assert bool(x) and not mx.nd.zeros(1)
    assert [10, 20, 30][mx.nd.array([1], dtype="int32")] == 20
    assert list(range(mx.nd.array([2], dtype="uint8"))) == [0, 1]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: x.asscalar(), ValueError, r"asscalar: the array must have one element, got shape \(2,\)\."),
        (float, ValueError, "must have one element"),
        (int, ValueError, "must have one element"),
        (bool, ValueError, r"truth of an array of shape \(2,\) is ambiguous; compare with \.asnumpy\(\)\.any\(\)"),
        (operator.index, TypeError, "only an integer array can be an index, got float32"),
    ],
)
def test_refuses_to_be_a_number(call, error, text):
    with pytest.raises(error, match=text):
        call(mx.nd.ones(2))


def test_iteration_gives_rows_that_are_views():
    x = counting(3, 2)
    rows = list(x)
    assert [r.shape for r in rows] == [(2,)] * 3
    rows[1] += 10
    same(x, [[0, 1], [12, 13], [4, 5]])


def test_repr_shows_values_shape_and_context():
    assert repr(mx.nd.array([[1, 2], [3, 4]])) == "\n[[1. 2.]\n [3. 4.]]\n<NDArray 2x2 @cpu(0)>"
    assert repr(mx.nd.ones(1, dtype="int32")) == "\n[1]\n<NDArray 1 @cpu(0)>"


# ---- views ----


def test_slices_share_memory():
    x = counting(4, 3)
    x[1:3] = 7
    x[1:3] += 1
    x[0][2] = -1
    x[:, 0] *= 2
    same(x, [[0, 1, -1], [16, 8, 8], [16, 8, 8], [18, 10, 11]])
    assert x[:] is x and x[...] is x


def test_x_colon_in_place():
    x, y = mx.nd.ones((2, 2)), mx.nd.full((2, 2), 3)
    x[:] += y
    x[:] *= 2
    same(x, np.full((2, 2), 8))


def test_a_view_keeps_its_memory_alive():
    view = counting(4, 3)[2]
    mx.nd.waitall()
    same(view, [6, 7, 8])


def test_views_of_views():
    x = counting(4, 6)
    view = x[::-1][1:3][:, ::2]
    same(view, [[12, 14, 16], [6, 8, 10]])
    view[:] = [[-1, -2, -3], [-4, -5, -6]]
    expected = np.arange(24.0).reshape(4, 6)
    expected[::-1][1:3][:, ::2] = [[-1, -2, -3], [-4, -5, -6]]
    same(x, expected)


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((6, 4), {}, (6, 4)), (-1, {}, (24,)), ((0, -1), {}, (2, 12)), ((-2,), {}, (2, 3, 4)), ((0, -2), {}, (2, 3, 4)),
        ((-3, 0), {}, (6, 4)), ((0, -3), {}, (2, 12)), ((-4, 1, 2, -2), {}, (1, 2, 3, 4)),
        ((-4, -1, 2, 0, 0), {}, (1, 2, 3, 4)),
        ((-1, 0), {"reverse": True}, (6, 4)), ([4, 6], {}, (4, 6)), ((np.int64(4), np.int64(6)), {}, (4, 6)),
    ],
)  # fmt: skip
def test_reshape_shares_memory(shape, options, expected):
    x = counting(2, 3, 4)
    y = x.reshape(shape, **options)
    assert y.shape == expected
    y += 1
    same(x, np.arange(1, 25).reshape(2, 3, 4))
    same(y, np.arange(1, 25).reshape(expected))


def test_reshape_by_numbers_and_by_name():
    x = counting(2, 3)
    assert x.reshape(3, 2).shape == x.reshape(shape=(3, 2)).shape == x.reshape(-1, 2).shape == (3, 2)
    assert mx.nd.reshape(x, shape=(6,)).shape == (6,)
    assert mx.nd.ones((2, 3, 4)).flatten().shape == (2, 12)


def test_reshape_of_strided_views():
    x = counting(4, 6)
    rows = x[::2].reshape((2, 2, 3))  # strides can express it
    rows += 100
    assert x.asnumpy()[0, 0] == 100 and x.asnumpy()[2, 5] == 117
    turned = x[:, ::-1]
    same(turned.reshape((-1,)), x.asnumpy()[:, ::-1].reshape(-1))  # they cannot: a copy
    part = x[1, 2:5].reshape((3, 1))
    part[:] = 0
    assert x.asnumpy()[1].tolist() == [6, 7, 0, 0, 0, 11]


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((4, 2), r"Reshape: 6 elements do not fill shape \(4, 2\) \(got data \(2, 3\)\)\."),
        ((-1, -1), r"Reshape: only one dimension can be inferred \(got data \(2, 3\)\)\."),
        ((-1, 4), r"Reshape: 6 elements do not fill shape \(-1, 4\)"),
        ((0, 0, 0), r"Reshape: the codes \(0, 0, 0\) ask for more dimensions than there are"),
        ((-5,), "Reshape: shape holds -5; the codes are"),
    ],
)
def test_refuses_to_reshape(shape, text):
    with pytest.raises(ShapeError, match=text):
        mx.nd.ones((2, 3)).reshape(shape)


# ---- assignment ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_assignment(dtype):
    x = mx.nd.zeros((2, 3), dtype=dtype)
    for value, expected in [
        (1, 1), (1.0, 1), (True, 1), (np.float32(1), 1), (np.int8(1), 1), (mx.nd.ones((2, 3), dtype=dtype), 1),
        (mx.nd.ones((2, 3), dtype="float64"), 1), (np.ones((2, 3)), 1),
        ([[1, 0, 1], [0, 1, 0]], [[1, 0, 1], [0, 1, 0]]),
        ((1, 0, 1), [1, 0, 1]), (mx.nd.array([[1], [0]]), [[1], [0]]), (np.array(1), 1),
        (range(3), np.arange(3).astype(dtype)), (np.ones((1, 1, 2, 3)), 1), (mx.nd.ones((1, 3)), 1),
    ]:  # fmt: skip
        x[:] = 0
        x[:] = value
        same(x, np.broadcast_to(expected, (2, 3)), dtype)


def test_assignment_from_another_device(several_devices):
    x, there = mx.nd.zeros((2, 3)), mx.nd.array([[1, 2, 3], [4, 5, 6]], mx.cpu(1))
    x[:] = there
    there += 10
    same(x, [[1, 2, 3], [4, 5, 6]])
    x[1] = there[0]
    same(x, [[1, 2, 3], [11, 12, 13]])
    x[:] = there[0]  # a lower rank is stretched
    same(x, [[11, 12, 13]] * 2)
    x[[0, 1], [0, 1]] = there[0, 1:]
    same(x, [[12, 12, 13], [11, 13, 13]])
    x[:] = mx.nd.array([1, 2, 3], mx.cpu(2), "int32")
    same(x, [[1, 2, 3]] * 2)
    x[:, 0] = mx.nd.full((2, 1), 7, mx.gpu(0))
    same(x, [[7, 2, 3]] * 2)


def test_assignment_copies_its_source():
    x, host = mx.nd.zeros(3), np.ones(3)
    x[:] = host
    host[:] = 5
    y = mx.nd.zeros(3)
    y[1:] = host[1:]
    host[:] = 9
    same(x, [1, 1, 1])
    same(y, [0, 5, 5])


def test_assignment_between_overlapping_views():
    x = counting(6)
    x[1:] = x[:-1]
    same(x, [0, 0, 1, 2, 3, 4])
    x[:-1] = x[1:]
    same(x, [0, 1, 2, 3, 4, 4])
    x[::-1] = x
    same(x, [4, 4, 3, 2, 1, 0])
    x[[0, 1, 2]] = x[1:4]
    same(x, [4, 3, 2, 2, 1, 0])
    x[1:].copyto(x[:-1])
    same(x, [3, 2, 2, 1, 0, 0])
    x += x[::-1]
    same(x, [3, 2, 3, 3, 2, 3])
    x += x
    same(x, [6, 4, 6, 6, 4, 6])
    x *= x[2]
    same(x, [36, 24, 36, 36, 24, 36])


def test_an_axis_that_an_integer_removed_may_stay_in_the_value():
    x = mx.nd.zeros((3, 4, 2))
    x[:, 1:3, 1] = mx.nd.ones((3, 2, 1))
    x[:, 3:, 0] = np.full((3, 1, 1), 5)
    assert x.asnumpy()[:, 1:3, 1].sum() == 6 and x.asnumpy().sum() == 21
    assert x.asnumpy()[:, 3, 0].tolist() == [5, 5, 5]


@pytest.mark.parametrize(
    ("assign", "error", "text"),
    [
        (lambda x: x[:].__setitem__(slice(None), mx.nd.ones(2)), ShapeError,
         r"assignment: shape \(2,\) does not broadcast to \(2, 3\)\."),
        (lambda x: x.__setitem__(0, np.ones(2)), ShapeError, r"shape \(2,\) does not broadcast to \(3,\)\."),
        (lambda x: x.__setitem__(0, np.ones((2, 3))), ShapeError, r"shape \(2, 3\) does not broadcast to \(3,\)\."),
        (lambda x: x.__setitem__([0, 1], np.ones((3, 3))), ShapeError, r"\(3, 3\) does not broadcast to \(2, 3\)"),
        (lambda x: x.__setitem__(5, 1), IndexError, "index 5 is out of bounds for axis 0 with size 2"),
        (lambda x: x.__setitem__(0, "ab"), DTypeError, "assignment: expected numbers, got str with elements"),
        (lambda x: x.__setitem__(slice(None), None), DTypeError, "expected numbers, got NoneType"),
        (lambda x: x.__setitem__(0, [[1, 2], [3]]), ShapeError, "assignment: list is no array"),
        (lambda x: x.__iadd__(mx.nd.ones((3, 3))), ShapeError, r"_plus in place: shape \(3, 3\) does not broadcast"),
        (lambda x: x.__iadd__(mx.nd.ones((1, 2, 3))), ShapeError, r"_plus in place: shape \(1, 2, 3\) does not"),
        (lambda x: x.__iadd__(mx.nd.ones((2, 3), dtype="int32")), DTypeError,
         r"_plus: rhs must be float32, got int32 \(lhs float32, rhs int32\); convert one with astype or Cast\."),
        (lambda x: operator.iadd(x, "ab"), TypeError, "unsupported operand"),
        (lambda x: x + "ab", TypeError, "unsupported operand"),
        (lambda x: x + mx.nd.ones((2, 2)), ShapeError,
         r"broadcast_plus: shapes cannot be broadcast to one; .* \(got lhs \(2, 3\), rhs \(2, 2\)\)\."),
        (lambda x: x + mx.nd.ones((2, 3), dtype="float64"), DTypeError, r"_plus: rhs must be float32, got float64"),
        (lambda x: x * 1j, TypeError, "unsupported operand"),
        (lambda x: x * np.complex64(1j), ParameterError, r"_mul_scalar: scalar must be a number, got 1j"),
    ],
)  # fmt: skip
def test_refuses_to_assign_or_compute(assign, error, text):
    x = mx.nd.ones((2, 3))
    with pytest.raises(error, match=text):
        assign(x)
    same(x, np.ones((2, 3)))


def test_read_only_arrays_refuse_every_change():
    x = mx.nd.ones((2, 3))
    x.writable = False
    view, flat = x[0], x.reshape((-1,))
    assert not view.writable and not flat.writable
    for change in (
        lambda: x.__setitem__(slice(None), 2), lambda: x.__setitem__(0, 2), lambda: x.__setitem__([0], 2),
        lambda: x.__iadd__(1), lambda: x.__imul__(x), lambda: view.__setitem__(0, 1), lambda: flat.__isub__(1),
        lambda: mx.nd.ones((2, 3)).copyto(x), lambda: mx.nd.exp(x, out=x), lambda: mx.random.uniform(out=x),
        lambda: mx.nd.sgd_update(mx.nd.ones((2, 3)), mx.nd.ones((2, 3)), lr=1, out=x),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"this array is read-only \(writable is False\); copy\(\) it to get"):
            change()
    same(x, np.ones((2, 3)))
    y = x.copy()
    y += 1
    same(y, np.full((2, 3), 2))
    x.writable = True
    x += 1
    same(x, np.full((2, 3), 2))


def test_read_only_states_are_refused():
    weight, state = mx.nd.ones(2), mx.nd.ones(2)
    state.writable = False
    with pytest.raises(ValueError, match="read-only"):
        mx.nd.sgd_mom_update(weight, mx.nd.ones(2), state, lr=1, out=weight)


# ---- copies ----


def test_copies_are_independent():
    x = mx.nd.ones((2, 2))
    made = [x.copy(), x.copyto(mx.cpu(0)), copy.copy(x), copy.deepcopy(x), x.astype("float32"), mx.nd.array(x)]
    x += 1
    for each in made:
        same(each, np.ones((2, 2)))
    assert x.astype("float32", copy=False) is x
    assert x.as_in_context(mx.cpu(0)) is x


def test_copyto_across_devices(several_devices):
    x = counting(2, 3)
    there = x.copyto(mx.cpu(1))
    assert there.context == mx.cpu(1) and x.as_in_context(mx.cpu(2)).context == mx.cpu(2)
    x += 1
    there *= 2
    target = mx.nd.zeros((2, 3), mx.gpu(0), "int32")
    assert there.copyto(target) is target
    same(target, 2 * np.arange(6).reshape(2, 3), "int32")
    same(x, np.arange(1, 7).reshape(2, 3))
    back = mx.nd.zeros((2, 3))
    there[:, ::2].copyto(back[:, :2])  # windows on both sides
    same(back, [[0, 4, 0], [6, 10, 0]])


def test_copyto_converts():
    x = mx.nd.array([1.7, -1.7])
    same(x.copyto(mx.nd.zeros(2, dtype="int32")), [1, -1], "int32")
    same(x.astype("int8"), [1, -1], "int8")
    same(mx.nd.array([0, 2]).astype(bool), [False, True], bool)


def test_copyto_refuses():
    x = mx.nd.ones(2)
    with pytest.raises(ShapeError, match=r"copyto: the target must have shape \(2,\), got \(3,\)\."):
        x.copyto(mx.nd.ones(3))
    with pytest.raises(TypeError, match="copyto: the target must be an NDArray or a Context, got str"):
        x.copyto("cpu")
    with pytest.warns(RuntimeWarning, match="copyto: source and target are the same array"):
        assert x.copyto(x) is x


# ---- pickling and files ----


@pytest.mark.parametrize("dtype", DTYPES)
def test_pickle_carries_values_and_dtype(dtype):
    x = mx.nd.array([[0, 1], [1, 0]], dtype=dtype)
    y = pickle.loads(pickle.dumps(x))
    same(y, x.asnumpy(), dtype)
    y[:] = 1
    same(x, [[0, 1], [1, 0]], dtype)


def test_pickle_of_a_view_carries_only_the_view():
    x = mx.nd.ones((1000, 100))
    x[3] = 7
    data = pickle.dumps(x[3, ::2])
    assert len(data) < 1000
    same(pickle.loads(data), np.full(50, 7))


def test_pickle_keeps_the_context_and_the_flag(several_devices):
    x = mx.nd.ones(2, mx.cpu(1))
    x.writable = False
    y = pickle.loads(pickle.dumps(x))
    assert y.context == mx.cpu(1) and not y.writable
    assert pickle.loads(pickle.dumps(mx.cpu(2))) == mx.cpu(2)


def test_pickle_falls_back_to_the_current_context(monkeypatch):
    """An array of a larger cluster is read on a smaller one."""
    with devices.in_this_process():
        data = pickle.dumps(mx.nd.ones(2, mx.gpu(9)))

    def connect(kind, index):
        raise ContextError(f"there is no {kind}({index})")

    monkeypatch.setattr(mx.runtime, "_connect", connect)
    y = pickle.loads(data)
    assert y.context == mx.cpu(0)
    same(y, [1, 1])


@pytest.mark.parametrize("where", ["{tmp}/a.params", "memory://nd-{name}.params"])
def test_save_and_load(where, tmp_path):
    fname = where.format(tmp=tmp_path, name=tmp_path.name)
    arrays = [mx.nd.array([[0, 1, 1]], dtype=dtype) for dtype in DTYPES]
    mx.nd.save(fname, arrays)
    loaded = mx.nd.load(fname)
    assert [a.dtype for a in loaded] == DTYPES
    for got in loaded:
        same(got, [[0, 1, 1]], got.dtype)
    named = {"weight": mx.nd.ones((2, 3)), "b/ä": counting(4)[::2]}
    mx.nd.save(fname, named)
    loaded = mx.nd.load(fname)
    assert list(loaded) == ["weight", "b/ä"]
    same(loaded["weight"], np.ones((2, 3)))
    same(loaded["b/ä"], [0, 2])
    mx.nd.save(fname, mx.nd.ones(1))
    (single,) = mx.nd.load(fname)
    same(single, [1])


def test_save_takes_paths_and_tuples(tmp_path):
    mx.nd.save(tmp_path / "a", (mx.nd.ones(1), mx.nd.zeros(1)))
    assert [a.asscalar() for a in mx.nd.load(tmp_path / "a")] == [1, 0]
    mx.nd.save(str(tmp_path / "none"), [])
    assert mx.nd.load(str(tmp_path / "none")) == []


def test_load_onto_the_current_context(several_devices, tmp_path):
    fname = str(tmp_path / "a")
    mx.nd.save(fname, {"a": mx.nd.ones(2, mx.cpu(1))})
    assert mx.nd.load(fname)["a"].context == mx.cpu(0)
    with mx.cpu(2):
        assert mx.nd.load(fname)["a"].context == mx.cpu(2)


def test_a_damaged_file_is_a_format_error(tmp_path):
    path = tmp_path / "a.params"
    mx.nd.save(str(path), {"a": mx.nd.ones((2, 3))})
    data = path.read_bytes()
    for damaged in (data[:-1], data[: len(data) // 2], b"", b"no parameters at all"):
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match=re.escape(str(path))):
            mx.nd.load(str(path))


def test_save_refuses(tmp_path):
    fname = str(tmp_path / "a")
    with pytest.raises(TypeError, match="save: expected NDArrays, got ndarray"):
        mx.nd.save(fname, [np.ones(2)])
    with pytest.raises(TypeError, match="save: expected NDArrays in a list or dict, got int"):
        mx.nd.save(fname, 5)
    with pytest.raises(ParameterError, match="save: names of arrays must be strings, got 1"):
        mx.nd.save(fname, {1: mx.nd.ones(2)})
    assert not (tmp_path / "a").exists()


# ---- waiting and failures ----


def failing(x: NDArray) -> NDArray:
    """An array whose computation fails on the device: there is no column 9."""
    return mx.nd.choose_element_0index(x, mx.nd.full((x.shape[0],), 9))


def test_waitall_and_wait_to_read():
    x = mx.nd.ones(2)
    x += 1
    x.wait_to_read()
    x.wait_to_write()
    mx.nd.waitall()
    same(x, [2, 2])


def test_a_failure_is_raised_where_a_value_is_read():
    y = failing(mx.nd.ones((2, 3))) + 1
    here = re.escape(__file__)
    text = rf"choose_element_0index on cpu\(0\) with inputs \(2, 3\), \(2,\): .*index 9 is .*\(pushed at {here}:\d+\)"
    with pytest.raises(TaskError, match=text):
        y.asnumpy()
    with pytest.raises(TaskError):  # whoever reads it later is told, too
        y.wait_to_read()
    mx.nd.waitall()  # it was told


def test_waitall_raises_a_failure_once():
    failing(mx.nd.ones((2, 3)))
    with pytest.raises(TaskError, match="choose_element_0index"):
        mx.nd.waitall()
    mx.nd.waitall()


def test_a_failure_travels_between_devices(several_devices):
    y = failing(mx.nd.ones((2, 3), mx.cpu(1)).as_in_context(mx.cpu(0)))
    with pytest.raises(TaskError, match=r"choose_element_0index on cpu\(0\)"):
        (y.copyto(mx.cpu(2)) * 2).asnumpy()
    y[:] = 1  # a whole overwrite heals
    same(y, [1, 1])
    mx.nd.waitall()


# ---- functions ----


def test_concatenate(several_devices):
    a, b = counting(1, 2), counting(2, 2)
    same(mx.nd.concatenate([a, b]), [[0, 1], [0, 1], [2, 3]])
    same(mx.nd.concatenate([b, b], axis=1), [[0, 1, 0, 1], [2, 3, 2, 3]])
    assert mx.nd.concatenate([a], always_copy=False) is a
    alone = mx.nd.concatenate([a])
    a += 1
    same(alone, [[0, 1]])
    with pytest.raises(ShapeError, match=r"Concat: arg1 must be \(1, 2\) for arg0 \(2, 2\) and .*, got \(1, 3\)"):
        mx.nd.concatenate([b, counting(1, 3)])
    with pytest.raises(ContextError, match=r"Concat: arg0 on cpu\(0\) and arg1 on cpu\(1\); move one with"):
        mx.nd.concatenate([a, b.copyto(mx.cpu(1))])


def test_onehot_encode():
    out = mx.nd.full((3, 4), 9)
    assert mx.nd.onehot_encode(mx.nd.array([1, 0, 3]), out) is out
    same(out, [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    with pytest.raises(ShapeError, match=r"_onehot_encode: lhs must be \(3,\) for rhs \(3, 4\), got \(2,\)"):
        mx.nd.onehot_encode(mx.nd.array([1, 0]), out)


def test_moveaxis():
    x = counting(2, 3, 4)
    for source, destination in [(0, 2), (2, 0), (-1, 0), (0, -1), (1, 1)]:
        same(mx.nd.moveaxis(x, source, destination), np.moveaxis(x.asnumpy(), source, destination))
    assert mx.nd.moveaxis(x, 0, 3).shape == (3, 4, 2)
    with pytest.raises(ValueError, match="axis 3 is out of range for 3 dimensions"):
        mx.nd.moveaxis(x, 3, 0)


def test_python_names_of_operators_do_not_leak_into_the_module():
    assert mx.nd.min(mx.nd.array([3, 1])).asscalar() == 1
    assert mx.nd.sum(mx.nd.ones(3)).asscalar() == 3
    same(mx.nd.zeros((2, 3)), np.zeros((2, 3)))  # which asks for min() of the shape


def test_the_internal_module_of_old_scripts():
    same(mx.nd._internal._plus_scalar(mx.nd.ones(1), scalar=2), [3])
    assert mx._ndarray_internal is mx.nd and mx._symbol_internal is mx.sym is mx.sym._internal


# ---- invoke ----


def test_out_may_be_an_input_of_any_operator():
    """Where an operator cannot work in place, its input is copied first."""
    a, b = np.array([[1.0, 2], [3, 4]]), np.array([[5.0, 6], [7, 8]])
    x, y = mx.nd.array(a), mx.nd.array(b)
    assert mx.nd.dot(x, y, out=x) is x
    same(x, a @ b)
    mx.nd.dot(y, y, out=y)
    same(y, b @ b)
    z = mx.nd.array(a)
    mx.nd.transpose(z, out=z)
    same(z, a.T)
    mx.nd.flip(z, axis=(0,), out=z)
    same(z, a.T[::-1])
    row = mx.nd.array([1.0, 2.0])
    square = mx.nd.concatenate([row.reshape((1, 2))] * 2)
    mx.nd.broadcast_plus(square, square[0], out=square)  # rhs is a row of what is written
    same(square, [[2, 4], [2, 4]])


def test_out_may_overlap_an_input():
    x = counting(5)
    mx.nd.square(x[:-1], out=x[1:])
    same(x, [0, 0, 1, 4, 9])
    x = counting(3, 3)
    mx.nd.dot(x, x[::-1], out=x)
    expected = np.arange(9.0).reshape(3, 3)
    same(x, expected @ expected[::-1])


def test_out_may_have_gaps():
    x = mx.nd.zeros((4, 6))
    a, b = np.arange(4.0).reshape(2, 2), np.arange(6.0).reshape(2, 3)
    mx.nd.dot(mx.nd.array(a), mx.nd.array(b), out=x[::2, ::2])
    mx.nd.exp(mx.nd.zeros((4,)), out=x[:, 1])
    mx.nd.dot(mx.nd.ones((2, 3)), mx.nd.ones((3,)), out=x[:2, 5])  # written as a matrix of one column
    expected = np.zeros((4, 6))
    expected[::2, ::2], expected[:, 1], expected[:2, 5] = a @ b, 1, 3
    same(x, expected)
    halves = [mx.nd.zeros((2, 4))[:, ::2], mx.nd.zeros((2, 4))[:, ::2]]
    assert mx.nd.SliceChannel(counting(2, 4), num_outputs=2, out=halves) == halves
    same(halves[1], [[2, 3], [6, 7]])


def test_states_are_changed_in_place():
    weight, grad, state = mx.nd.ones(2), mx.nd.ones(2), mx.nd.zeros(2)
    mx.nd.sgd_mom_update(weight, grad, state, lr=0.5, momentum=0.5, out=weight)
    same(state, [-0.5, -0.5])
    same(weight, [0.5, 0.5])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x, y: mx.nd.dot(x, y), ContextError,
         r"dot: lhs on cpu\(0\) and rhs on cpu\(1\); move one with as_in_context\(cpu\(0\)\) or copyto\."),
        (lambda x, y: x + y, ContextError, r"_plus: lhs on cpu\(0\) and rhs on cpu\(1\); move one"),
        (lambda x, y: x.__iadd__(y), ContextError, r"_plus: lhs on cpu\(0\) and rhs on cpu\(1\); move one"),
        (lambda x, y: x == y, ContextError, r"_equal: lhs on cpu\(0\) and rhs on cpu\(1\)"),
        (lambda x, y: x + y[0], ContextError, r"broadcast_plus: lhs on cpu\(0\) and rhs on cpu\(1\)"),
        (lambda x, y: mx.nd.exp(x, out=y), ContextError, r"exp: the inputs on cpu\(0\) and out on cpu\(1\); move one"),
        (lambda x, y: mx.nd.exp(x, out=x[0]), ShapeError, r"exp: out must have shape \(2, 2\), got \(2,\)\."),
        (lambda x, y: mx.nd.exp(x, out=x.astype("int8")), DTypeError, "exp: out must be float32, got int8"),
        (lambda x, y: mx.nd.exp(x, out=[x, x]), MXNetError, "exp: out must be at most 1 arrays, got 2"),
        (lambda x, y: mx.nd.exp(x, out=np.ones((2, 2))), TypeError, "exp: out must be an NDArray, got ndarray"),
        (lambda x, y: mx.nd.invoke(make("dot"), (x,)), MXNetError, r"dot takes 2 arrays \(lhs, rhs\), got 1\."),
        (lambda x, y: mx.nd.invoke(make("dot"), (x, np.ones(2))), TypeError,
         r"dot: rhs must be an NDArray, got ndarray; see mx\.nd\.array\."),
        (lambda x, y: mx.nd.invoke(make("_set_value", src=1), ()), MXNetError, "_set_value: out must be given"),
    ],
)  # fmt: skip
def test_invoke_refuses(several_devices, call, error, text):
    with pytest.raises(error, match=text):
        call(mx.nd.ones((2, 2)), mx.nd.ones((2, 2), mx.cpu(1)))


# ---- equality with NumPy ----


@given(st.data())
def test_expressions_equal_numpy(data):
    """Chains of arithmetic over views and broadcast shapes give what NumPy gives, exactly, in float32."""
    shapes = [(3, 4), (4,), (3, 1), (1, 4), (1,)]
    chance = np.random.default_rng(data.draw(st.integers(0, 99)))
    theirs = [chance.integers(-3, 4, s).astype(np.float32) for s in shapes]
    ours = [mx.nd.array(a) for a in theirs]
    for _ in range(data.draw(st.integers(1, 6))):
        i, j = data.draw(st.integers(0, len(ours) - 1)), data.draw(st.integers(0, len(ours) - 1))
        compute = data.draw(st.sampled_from([operator.add, operator.sub, operator.mul, operator.lt, operator.eq]))
        if data.draw(st.booleans()):
            ours.append(compute(ours[i], ours[j]))
            theirs.append(compute(theirs[i], theirs[j]).astype(np.float32))
        elif np.broadcast_shapes(theirs[i].shape, theirs[j].shape) == theirs[i].shape:
            ours[i][::-1] -= ours[j]
            theirs[i][::-1] -= theirs[j].copy()
    for got, expected in zip(ours, theirs, strict=True):
        same(got, expected)
