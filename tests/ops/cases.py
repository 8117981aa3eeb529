"""The table of operator cases: one row an operator (or one of its modes), with a plain NumPy reference.

    case("exp", (2, 3), ref=np.exp)
    case("FullyConnected", (4, 6), (5, 6), (5,), num_hidden=5, ref=lambda x, w, b: x @ w.T + b)

Positional arguments after the name are the inputs and aux states: a tuple is a shape, drawn uniformly from `between`;
an array stands for itself; `classes(shape, n)` draws whole numbers below n. All further keywords are the operator's
parameters, except:

- `ref(*inputs)`: the expected output, a tuple of them, or a dict by name, which may hold aux states, too. It gets the
  inputs in float64 (whole numbers as they are) and, if it wants it, `rng`, seeded as the kernel's.
- `between`: bounds of the drawn numbers; `dtypes`: element types to run in; `train`: run as in training.
- `gradient`: input → function of (*inputs, g) giving its gradient, for losses, which state theirs, and for ties. Other
  gradients are compared with central differences in one random direction.
- `constant`: inputs through which no gradient passes although the output depends on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

FLOATS = ("float32", "float64", "float16")
INTS = ("int32", "uint8", "int8", "int64")


@dataclass
class Case:
    op: str
    inputs: tuple
    ref: Callable
    params: dict
    between: tuple[float, float] = (-1.0, 1.0)
    dtypes: tuple[str, ...] = FLOATS
    train: bool = False
    gradient: dict[str, Callable] = field(default_factory=dict)
    constant: tuple[str, ...] = ()

    def __str__(self):
        words = [self.op, *(f"{k}={v}" for k, v in self.params.items())]
        if self.dtypes != FLOATS:
            words.append("/".join(self.dtypes))
        return " ".join(words)


@dataclass
class Classes:
    """An input of whole numbers from 0 to below `n`."""

    shape: tuple[int, ...]
    n: int


def classes(shape, n: int) -> Classes:
    return Classes((shape,) if isinstance(shape, int) else shape, n)


CASES: list[Case] = []
_OPTIONS = ("between", "dtypes", "train", "gradient", "constant")


def case(op: str, *inputs, ref, **keywords) -> None:
    options = {k: keywords.pop(k) for k in _OPTIONS if k in keywords}
    CASES.append(Case(op, inputs, ref, keywords, **options))


# fmt: off
# ---- functions of one array ----

positive = (0.5, 2.0)
halves = np.array([-2.5, -1.5, -0.5, -0.4, 0.0, 0.4, 0.5, 1.5, 2.5, 3.0])


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _half_away(x):
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


for _name, _ref in {
    "_copy": lambda x: x, "negative": np.negative, "abs": np.abs, "sign": np.sign, "ceil": np.ceil,
    "floor": np.floor, "trunc": np.trunc, "square": np.square, "exp": np.exp, "expm1": np.expm1, "cos": np.cos,
    "sin": np.sin, "tan": np.tan, "tanh": np.tanh, "sigmoid": _sigmoid, "relu": lambda x: np.where(x > 0, x, 0),
    "round": _half_away, "zeros_like": np.zeros_like, "ones_like": np.ones_like,
}.items():
    case(_name, (2, 3, 4), ref=_ref)
for _name, _ref in {
    "sqrt": np.sqrt, "rsqrt": lambda x: x**-0.5, "reciprocal": lambda x: 1 / x, "log": np.log, "log1p": np.log1p,
}.items():
    case(_name, (2, 3, 4), between=positive, ref=_ref)
case("BlockGrad", (2, 3), ref=lambda x: x, constant=("data",))
case("_identity_with_attr_like_rhs", (2, 3), (2, 3), ref=lambda x, y: x)
case("abs", halves, ref=np.abs, gradient={"data": lambda x, g: np.sign(x) * g})
case("relu", halves, ref=lambda x: np.where(x > 0, x, 0), gradient={"data": lambda x, g: (x > 0) * g})
case("round", halves, ref=_half_away)
case("rint", halves, ref=lambda x: np.ceil(x - 0.5))
case("square", classes((3, 4), 10), dtypes=INTS, ref=np.square)
case("sqrt", classes((3, 4), 10), dtypes=INTS, ref=lambda x: np.floor(np.sqrt(x)))
case("exp", classes((3,), 4), dtypes=INTS, ref=lambda x: np.floor(np.exp(x)))
case("rint", classes((3, 4), 10), dtypes=INTS, ref=lambda x: x)
case("round", classes((3, 4), 10), dtypes=INTS, ref=lambda x: x)
case("floor", classes((3, 4), 10), dtypes=INTS, ref=lambda x: x)

# ---- two arrays, of one shape or stretched ----


def _cut(quotient):
    return np.trunc(quotient)


_two = {
    "plus": np.add, "minus": np.subtract, "mul": np.multiply, "div": np.divide, "mod": np.mod, "power": np.power,
    "hypot": np.hypot, "maximum": np.maximum, "minimum": np.minimum, "equal": np.equal, "not_equal": np.not_equal,
    "greater": np.greater, "greater_equal": np.greater_equal, "lesser": np.less, "lesser_equal": np.less_equal,
}
for _name, _ref in _two.items():
    case(f"_{_name}", (2, 3), (2, 3), between=positive, ref=_ref)
    case(f"broadcast_{_name}", (2, 1, 4), (1, 3, 4), between=positive, ref=_ref)
    case(f"broadcast_{_name}", (4,), (2, 3, 1), between=positive, ref=_ref)
    case(f"_{_name}_scalar", (2, 3), scalar=1.25, between=positive, ref=lambda x, f=_ref: f(x, 1.25))
for _name in ("minus", "div", "mod", "power"):
    case(f"_r{_name}_scalar", (2, 3), scalar=1.5, between=positive, ref=lambda x, f=_two[_name]: f(1.5, x))
    case(f"_{_name}", classes((3, 4), 9), 1 + np.arange(12).reshape(3, 4) % 5, dtypes=("int32", "int64"),
         ref=lambda a, b, f=_two[_name]: _cut(f(a, b)))
for _name in ("equal", "greater_equal", "lesser"):
    case(f"_{_name}", classes((20,), 3), classes((20,), 3), dtypes=FLOATS + INTS, ref=_two[_name])
    case(f"_{_name}_scalar", classes((20,), 3), scalar=1, dtypes=FLOATS + INTS, ref=lambda x, f=_two[_name]: f(x, 1))
for _name, _left in (("maximum", np.greater_equal), ("minimum", np.less_equal)):  # with ties
    case(f"_{_name}", classes((20,), 3), classes((20,), 3), ref=_two[_name],
         gradient={"lhs": lambda a, b, g, f=_left: f(a, b) * g,
                   "rhs": lambda a, b, g, f=_left: ~f(a, b) * g})
    case(f"_{_name}_scalar", classes((20,), 3), scalar=1, ref=lambda x, f=_two[_name]: f(x, 1),
         gradient={"data": lambda x, g, f=_left: f(x, 1) * g})
case("max", np.array([[1.0, 3, 3], [2, 2, 1]]), axis=1, ref=lambda x: x.max(axis=1),
     gradient={"data": lambda x, g: (x == x.max(axis=1, keepdims=True)) * g[:, None]})
case("_mod", np.array([7.0, -7, 7, -7, 5.5]), np.array([3.0, 3, -3, -3, 0.75]),
     ref=lambda a, b: np.array([1, 2, -2, -1, 0.25]),
     gradient={"lhs": lambda a, b, g: g, "rhs": lambda a, b, g: -np.floor(a / b) * g})
case("_mod", np.array([3, -3]), np.array([0, 0]), dtypes=FLOATS[2:] + ("int32",), ref=lambda a, b: np.zeros(2))
case("_mod_scalar", np.array([7.0, -7]), scalar=-3, ref=lambda x: np.mod(x, -3), gradient={"data": lambda x, g: g})
case("_div", np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2]), dtypes=("int32", "int8", "int64"),
     ref=lambda a, b: np.array([3, -3, -3, 3]))
case("_div_scalar", np.array([7, -7, 6]), scalar=2, dtypes=("int32", "int8", "int64"),
     ref=lambda a: np.array([3, -3, 3]))
case("_rdiv_scalar", np.array([2, -2, 7]), scalar=7, dtypes=("int32", "int8", "int64"),
     ref=lambda a: np.array([3, -3, 1]))
case("_plus_scalar", np.array([1, 2]), scalar=1.5, dtypes=INTS, ref=lambda x: x + 1)
case("_plus_scalar", np.array([200, 100]), scalar=100, dtypes=("uint8",), ref=lambda x: np.array([44, 200]))
case("_mul_scalar", np.array([200, 100]), scalar=-1, dtypes=("uint8",), ref=lambda x: np.array([56, 156]))
case("_power_scalar", np.array([2, -3]), scalar=-1, dtypes=("int32", "int8", "int64"), ref=lambda x: np.array([0, 0]))
case("_power_scalar", (2, 3), scalar=2, ref=np.square)
case("_rpower_scalar", np.array([3, -1]), scalar=2, dtypes=("int32",), ref=lambda x: np.array([8, 0]))
for _seed, _right, _left in (
    ("_PlusScalar", lambda x: x + 2, lambda x: x + 2),
    ("_MinusScalar", lambda x: x - 2, lambda x: 2 - x),
    ("_MulScalar", lambda x: x * 2, lambda x: x * 2),
    ("_DivScalar", lambda x: x / 2, lambda x: 2 / x),
    ("_PowerScalar", lambda x: x**2, lambda x: 2**x),
    ("_MaximumScalar", lambda x: np.maximum(x, 2), lambda x: np.maximum(x, 2)),
    ("_MinimumScalar", lambda x: np.minimum(x, 2), lambda x: np.minimum(x, 2)),
):
    case(_seed, (2, 3), scalar="2", between=positive, ref=_right)
    case(_seed, (2, 3), scalar="2", scalar_on_left="True", between=positive, ref=_left)
case("ElementWiseSum", (2, 3), num_args=1, ref=lambda a: a)
case("ElementWiseSum", (2, 3), (2, 3), (2, 3), num_args=3, ref=lambda a, b, c: a + b + c)

# ---- reductions ----


def _over(f, axis=None, keepdims=False):
    return lambda x: np.atleast_1d(f(x, axis=axis, keepdims=keepdims))


for _name in ("sum", "mean", "prod", "max", "min"):
    _ref = getattr(np, _name)
    case(_name, (2, 3, 4), between=positive, ref=_over(_ref))
    case(_name, (2, 3, 4), axis=1, between=positive, ref=_over(_ref, 1))
    case(_name, (2, 3, 4), axis=(-1, 0), keepdims=True, between=positive, ref=_over(_ref, (0, 2), True))
    case(_name, (2, 3, 4), axis=1, exclude=True, between=positive, ref=_over(_ref, (0, 2)))
case("sum", np.array([100, 100]), dtypes=("int8",), ref=lambda x: np.array([-56]))
case("mean", np.array([1, 2, 2]), dtypes=INTS, ref=lambda x: np.array([1]))
case("norm", (2, 3, 4), ref=lambda x: np.sqrt((x * x).sum(keepdims=True).reshape(1)))
case("norm", (2, 3, 4), axis=1, ord=1, ref=lambda x: np.abs(x).sum(axis=1))
case("norm", (2, 3, 4), axis=(1, 2), keepdims=True, ref=lambda x: np.sqrt((x * x).sum(axis=(1, 2), keepdims=True)))
for _name in ("argmax", "argmin"):
    _ref = getattr(np, _name)
    case(_name, (3, 4, 5), ref=_over(_ref))
    case(_name, (3, 4, 5), axis=1, ref=_over(_ref, 1))
    case(_name, (3, 4, 5), axis=-1, keepdims=True, ref=_over(_ref, 2, True))
    case(_name, (3,), axis=0, dtypes=("int32",), between=(0, 9), ref=_over(_ref))
case("sum_mid_internal", (2, 3, 4), ref=lambda x: x.sum(axis=1))
case("argmax_channel", (3, 4, 5), ref=lambda x: x.argmax(axis=1))

# ---- matrices ----

case("dot", (4, 3), (3, 5), ref=np.dot)
case("dot", (3,), (3,), ref=lambda a, b: np.array([a @ b]))
case("dot", (2, 3), (3,), ref=np.dot)
case("dot", (3, 4), (3, 5), transpose_a=True, ref=lambda a, b: a.T @ b)
case("dot", (4, 3), (5, 3), transpose_b=True, ref=lambda a, b: a @ b.T)
case("dot", (3, 4), (5, 3), transpose_a=True, transpose_b=True, ref=lambda a, b: a.T @ b.T)
case("dot", (2, 3, 4), (4, 5, 6), ref=lambda a, b: np.einsum("abk,kcd->abcd", a, b))
case("dot", (4, 2, 3), (5, 6, 4), transpose_a=True, transpose_b=True,
     ref=lambda a, b: np.einsum("kab,cdk->abcd", a, b))
case("dot", classes((2, 3), 5), classes((3, 4), 5), dtypes=("int32",), ref=np.dot)
case("batch_dot", (2, 3, 4), (2, 4, 5), ref=np.matmul)
case("batch_dot", (2, 2, 4, 3), (2, 2, 4, 5), transpose_a=True, ref=lambda a, b: np.einsum("xykm,xykn->xymn", a, b))
case("batch_dot", (2, 3, 4), (2, 5, 4), transpose_b=True, ref=lambda a, b: np.einsum("xmk,xnk->xmn", a, b))
case("batch_dot", (2, 4, 3), (2, 5, 4), transpose_a=True, transpose_b=True,
     ref=lambda a, b: np.einsum("xkm,xnk->xmn", a, b))
case("transpose", (2, 3, 4), ref=np.transpose)
case("transpose", (2, 3, 4), axes=(1, -1, 0), ref=lambda x: x.transpose(1, 2, 0))
case("SwapAxis", (2, 3, 4), dim1=0, dim2=-1, ref=lambda x: x.swapaxes(0, 2))
case("flip", (2, 3), axis=1, ref=lambda x: x[:, ::-1])
case("flip", (2, 3), axis=(0, 1), ref=lambda x: x[::-1, ::-1])
for _shape, _result in (
    ((0, -1), (2, 12)), ((-2,), (2, 3, 4)), ((-3, 0), (6, 4)), ((0, -3), (2, 12)), ((-3, -2), (6, 4)),
    ((-1, 0), (8, 3)), ((4, 0, -1), (4, 3, 2)), ((-4, 1, 2, 0, 0), (1, 2, 3, 4)), ((0, -4, -1, 3, -2), (2, 1, 3, 4)),
    ((-4, -1, 2, -2), (1, 2, 3, 4)), ((0, 0, -4, 2, -1), (2, 3, 2, 2)), ((24,), (24,)),
):
    case("Reshape", (2, 3, 4), shape=_shape, ref=lambda x, s=_result: x.reshape(s))
case("Reshape", (2, 3, 4), shape=(-1, 0), reverse=True, ref=lambda x: x.reshape(6, 4))
case("Reshape", (2, 3, 4), shape=(0, -1), reverse=True, ref=lambda x: x.reshape(3, 8))
case("Reshape", (2, 3, 4), target_shape=(2, 0), ref=lambda x: x.reshape(2, 12))
case("Reshape", (2, 3, 4), target_shape=(0, 0), keep_highest=True, ref=lambda x: x.reshape(2, 12))
case("Flatten", (2, 3, 4), ref=lambda x: x.reshape(2, 12))
case("Flatten", (3,), ref=lambda x: x.reshape(3, 1))
case("expand_dims", (2, 3), axis=-1, ref=lambda x: x[:, :, None])
case("expand_dims", (2, 3), axis=1, ref=lambda x: x[:, None])
case("Concat", (2, 3), (2, 1), (2, 2), num_args=3, ref=lambda *a: np.concatenate(a, axis=1))
case("Concat", (2, 3, 2), (2, 3, 3), num_args=2, dim=-1, ref=lambda *a: np.concatenate(a, axis=2))
case("SliceChannel", (2, 6, 3), num_outputs=3, ref=lambda x: (x[:, :2], x[:, 2:4], x[:, 4:]))
case("SliceChannel", (3, 2), num_outputs=2, axis=-1, squeeze_axis=True, ref=lambda x: (x[:, 0], x[:, 1]))
case("SliceChannel", (2, 3), num_outputs=1, ref=lambda x: x)
case("slice_axis", (3, 5), axis=1, begin=1, end=-1, ref=lambda x: x[:, 1:-1])
case("slice_axis", (3, 5), axis=-2, begin=-2, end=None, ref=lambda x: x[-2:])
case("crop", (3, 5, 2), begin=(1, 0), end=(3, -1), ref=lambda x: x[1:3, 0:-1])
case("crop", (3, 5), begin=(None, -4), end=(2, None), ref=lambda x: x[:2, -4:])


def _with_region(x, value):
    x = x.copy()
    x[1:, :-2] = value
    return x


case("_crop_assign", (3, 5, 2), (2, 3, 2), begin=(1, None), end=(None, -2), ref=_with_region)
case("_crop_assign_scalar", (3, 5, 2), begin=(1, None), end=(None, -2), scalar=2.5, ref=lambda x: _with_region(x, 2.5))
case("element_mask", (3, 2, 2), (3,), constant=("rhs",), ref=lambda x, m: x * m[:, None, None])
case("broadcast_to", (2, 1, 3), shape=(0, 4, 3), ref=lambda x: np.broadcast_to(x, (2, 4, 3)))
case("broadcast_axis", (1, 3, 1), axis=(0, 2), size=(2, 4), ref=lambda x: np.broadcast_to(x, (2, 3, 4)))
case("Cast", (2, 3), dtype="float64", dtypes=("float32",), ref=lambda x: x)
case("Cast", np.array([-1.75, 1.75, 3]), dtype="int32", ref=np.trunc, constant=("data",))
case("Cast", np.array([-1, 2]), dtype="float32", dtypes=("int8", "int64"), ref=lambda x: x)
case("clip", (3, 4), a_min=-0.5, a_max=0.25, ref=lambda x: np.minimum(np.maximum(x, -0.5), 0.25))
case("clip", np.array([-0.75, -0.5, 0, 0.25, 0.5]), a_min=-0.5, a_max=0.25,
     ref=lambda x: np.array([-0.5, -0.5, 0, 0.25, 0.25]),
     gradient={"data": lambda x, g: np.array([0, 1, 1, 1, 0]) * g})
case("clip", np.array([1, 5, 9]), a_min=2.5, a_max=7.5, dtypes=("int32",), ref=lambda x: np.array([2, 5, 7]))
case("choose_element_0index", (4, 3), classes(4, 3), ref=lambda x, i: x[range(4), i])
case("fill_element_0index", (4, 3), (4,), classes(4, 3), constant=("lhs", "mhs"),
     ref=lambda x, v, i: np.where(np.arange(3) == i[:, None], v[:, None], x))
case("_onehot_encode", classes(4, 3), (4, 3), ref=lambda i, rows: np.eye(3)[i])

# ---- layers ----


def _fully_connected(x, w, b=0):
    return x.reshape(len(x), -1) @ w.T + b


case("FullyConnected", (4, 6), (5, 6), (5,), num_hidden=5, ref=_fully_connected)
case("FullyConnected", (4, 3, 2), (5, 6), (5,), num_hidden=5, ref=_fully_connected)
case("FullyConnected", (4, 6), (5, 6), num_hidden=5, no_bias=True, ref=_fully_connected)
case("FullyConnected", (2, 3, 6), (5, 6), (5,), num_hidden=5, flatten=False, ref=lambda x, w, b: x @ w.T + b)
case("FullyConnected", (3,), (4, 1), (4,), num_hidden=4, ref=_fully_connected)
case("Activation", (3, 4), act_type="relu", ref=lambda x: np.where(x > 0, x, 0))
case("Activation", halves, act_type="relu", ref=lambda x: np.where(x > 0, x, 0),
     gradient={"data": lambda x, g: (x > 0) * g})
case("Activation", (3, 4), act_type="sigmoid", ref=_sigmoid)
case("Activation", (3, 4), act_type="tanh", ref=np.tanh)
case("Activation", (3, 4), act_type="softrelu", ref=lambda x: np.log1p(np.exp(x)))
case("Activation", (3, 4), act_type="softsign", ref=lambda x: x / (1 + np.abs(x)))


def _dropout(x, rng, p=0.25):
    mask = (rng.random(x.shape, dtype=np.float32) >= p) / (1 - p)
    return {"out": x * mask, "mask": mask}


case("Dropout", (20, 10), p=0.25, train=True, dtypes=("float32", "float16"), ref=_dropout)
case("Dropout", (5, 4), p=0.25, ref=lambda x: {"out": x, "mask": np.ones_like(x)})
case("Dropout", (5, 4), p=0, train=True, ref=lambda x: {"out": x, "mask": np.ones_like(x)})
case("Dropout", (5, 4), p=1, train=True, ref=lambda x: {"out": 0 * x, "mask": 0 * x})
case("Dropout", (5, 4), p=0.25, mode="always", dtypes=("float32",), ref=_dropout)


def _softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _soft2d(x):
    return _softmax(x.reshape(len(x), -1)).reshape(x.shape)


case("SoftmaxActivation", (3, 4), ref=_softmax)
case("SoftmaxActivation", (3, 2, 4), ref=_softmax)
case("SoftmaxActivation", (3, 4, 2), mode="channel", ref=lambda x: _softmax(x, 1))
case("SoftmaxActivation", (3, 4, 2), type="channel", ref=lambda x: _softmax(x, 1))
case("softmax", (3, 4), ref=_softmax)
case("softmax", (3, 4, 2), axis=1, temperature=2.0, ref=lambda x: _softmax(x / 2, 1))
case("log_softmax", (3, 4), ref=lambda x: np.log(_softmax(x)))
case("log_softmax", (3, 4, 2), axis=0, temperature=0.5, ref=lambda x: np.log(_softmax(x * 2, 0)))

# ---- losses: the stated gradients ----


def _onehot(label, n, axis=-1):
    return np.moveaxis(np.eye(n)[label.astype(int)], -1, axis)


def _softmax_gradient(factor=1.0, weight=lambda label: 1.0, n=4):
    return {"data": lambda x, y, g: (_softmax(x) - _onehot(y, n)) * factor * weight(y)}


def _but(ignored):
    return lambda y: (y != ignored)[:, None]


four = np.array([1.0, 3, 0])
case("SoftmaxOutput", (3, 4), four, ref=lambda x, y: _softmax(x), gradient=_softmax_gradient())
case("SoftmaxOutput", (3, 4), four, grad_scale=0.5, ref=lambda x, y: _softmax(x), gradient=_softmax_gradient(0.5))
case("SoftmaxOutput", (3, 4), four, normalization="batch", ref=lambda x, y: _softmax(x),
     gradient=_softmax_gradient(1 / 3))
case("SoftmaxOutput", (3, 4), four, normalization="valid", ref=lambda x, y: _softmax(x),
     gradient=_softmax_gradient(1 / 3))
case("SoftmaxOutput", (3, 4), four, use_ignore=True, ignore_label=3, ref=lambda x, y: _softmax(x),
     gradient=_softmax_gradient(1, _but(3)))
case("SoftmaxOutput", (3, 4), four, use_ignore=True, ignore_label=3, normalization="valid",
     ref=lambda x, y: _softmax(x), gradient=_softmax_gradient(1 / 2, _but(3)))
case("SoftmaxOutput", (3, 4), np.array([1.0, -1, 0]), ref=lambda x, y: _softmax(x),
     gradient={"data": lambda x, y, g: _softmax(x) - np.eye(5)[y.astype(int)][:, :4]})
case("SoftmaxOutput", (3, 4), four, out_grad=True, ref=lambda x, y: _softmax(x),
     gradient={"data": lambda x, y, g: (_softmax(x) - _onehot(y, 4)) * g})
case("SoftmaxOutput", (3, 4), four, smooth_alpha=0.1, ref=lambda x, y: _softmax(x),
     gradient={"data": lambda x, y, g: _softmax(x) - np.where(_onehot(y, 4) > 0, 0.9, 0.1 / 3)})
case("SoftmaxOutput", (3, 4), (3, 4), between=(0, 1), ref=lambda x, y: _softmax(x),
     gradient={"data": lambda x, y, g: _softmax(x) - y})
case("SoftmaxOutput", (2, 3, 2), classes(2, 6), ref=lambda x, y: _soft2d(x),
     gradient={"data": lambda x, y, g: _soft2d(x) - _onehot(y, 6).reshape(x.shape)})
case("SoftmaxOutput", (2, 3, 4), classes((2, 3), 4), preserve_shape=True, ref=lambda x, y: _softmax(x),
     gradient=_softmax_gradient())
for _normalization, _factor in (("null", 1 / 4), ("batch", 1 / 8), ("valid", 1 / 8)):
    case("SoftmaxOutput", (2, 3, 2, 2), classes((2, 4), 3), multi_output=True, normalization=_normalization,
         ref=lambda x, y: _softmax(x, 1),
         gradient={"data": lambda x, y, g, f=_factor: f * (_softmax(x, 1) - _onehot(y.reshape(2, 2, 2), 3, 1))})
case("SoftmaxOutput", (2, 3, 2, 2), classes((2, 2, 2), 3), multi_output=True, ref=lambda x, y: _softmax(x, 1),
     gradient={"data": lambda x, y, g: (_softmax(x, 1) - _onehot(y, 3, 1)) / 4})
for _data, _label, _values in (
    ((3, 4), (3, 4), 4), ((3, 1), (3,), 1), ((3, 1), (3, 1), 1), ((3,), (3,), 1), ((3, 2, 2), (3, 4), 4),
):
    case("LinearRegressionOutput", _data, _label, grad_scale=2, ref=lambda x, y: x,
         gradient={"data": lambda x, y, g, n=_values: (x - y.reshape(x.shape)) * 2 / n})
case("LogisticRegressionOutput", (3, 4), (3, 4), ref=lambda x, y: _sigmoid(x),
     gradient={"data": lambda x, y, g: (_sigmoid(x) - y) / 4})
case("MAERegressionOutput", (3, 1), (3,), grad_scale=2, ref=lambda x, y: x,
     gradient={"data": lambda x, y, g: np.sign(x - y[:, None]) * 2})
case("MakeLoss", (3, 4), grad_scale=2, ref=lambda x: x, gradient={"data": lambda x, g: np.full_like(x, 2)})
case("MakeLoss", (3, 4), normalization="batch", ref=lambda x: x, gradient={"data": lambda x, g: np.full_like(x, 1 / 3)})
case("MakeLoss", (3, 4), normalization="valid", valid_thresh=0.25, ref=lambda x: x,
     gradient={"data": lambda x, g: np.full_like(x, 1 / (x > 0.25).sum())})
case("softmax_cross_entropy", (3, 4), four,
     ref=lambda x, y: -np.log(_softmax(x)[range(3), y.astype(int)]).sum(keepdims=True))
case("smooth_l1", (4, 5), scalar=1.5, between=(-1.5, 1.5),
     ref=lambda x: np.where(np.abs(x) < 1 / 2.25, 0.5 * 2.25 * x * x, np.abs(x) - 0.5 / 2.25))

# ---- from nothing ----

case("_zeros", shape=(2, 3), dtypes=("float32",), ref=lambda: np.zeros((2, 3)))
case("_ones", shape=(2,), dtype="int32", dtypes=("int32",), ref=lambda: np.ones(2))
case("_full", shape=(2, 3), value=2.5, dtypes=("float32",), ref=lambda: np.full((2, 3), 2.5))
case("_arange", start=5, dtypes=("float32",), ref=lambda: np.arange(5))
case("_arange", start=1, stop=5, step=1.5, repeat=2, dtype="float64", dtypes=("float64",),
     ref=lambda: np.repeat([1, 2.5, 4], 2))
case("_set_value", src=1.5, dtypes=("float32", "float64"), ref=lambda: np.full((2, 3), 1.5))
case("_set_value", src=-1, dtypes=("uint8",), ref=lambda: np.full((2, 3), 255))
case("_random_uniform", low=-1, high=3, shape=(4, 5), dtypes=("float32",),
     ref=lambda rng: rng.random((4, 5), dtype=np.float32) * 4 - 1)
case("_random_normal", loc=1, scale=2, shape=(4, 5), dtype="float64", dtypes=("float64",),
     ref=lambda rng: rng.standard_normal((4, 5)) * 2 + 1)
case("_random_normal", shape=(4, 5), dtype="float16", dtypes=("float16",),
     ref=lambda rng: rng.standard_normal((4, 5), dtype=np.float32))

# ---- optimizer rules ----

_plain = {"lr": 0.1}
_full = {"lr": 0.1, "wd": 0.5, "rescale_grad": 0.5, "clip_gradient": 0.2}


def _sgd(w, g, lr, wd=0.0, rescale_grad=1.0, clip_gradient=np.inf):
    return w - lr * (np.clip(g * rescale_grad, -clip_gradient, clip_gradient) + wd * w)


def _momentum(w, g, mom, momentum, **settings):
    mom = momentum * mom + _sgd(w, g, **settings) - w
    return {"out": w + mom, "mom": mom}


def _adam(w, g, mean, var, lr, wd=0.0, rescale_grad=1.0, clip_gradient=np.inf):
    g = np.clip(g * rescale_grad + wd * w, -clip_gradient, clip_gradient)
    mean, var = 0.9 * mean + 0.1 * g, 0.999 * var + 0.001 * g * g
    return {"out": w - lr * mean / (np.sqrt(var) + 1e-8), "mean": mean, "var": var}


for _settings in (_plain, _full):
    case("sgd_update", (3, 4), (3, 4), **_settings, constant=("weight", "grad"),
         ref=lambda *a, s=_settings: _sgd(*a, **s))
    case("sgd_mom_update", (3, 4), (3, 4), (3, 4), momentum=0.9, **_settings, constant=("weight", "grad"),
         ref=lambda *a, s=_settings: _momentum(*a, 0.9, **s))
    case("adam_update", (3, 4), (3, 4), (3, 4), (3, 4), **_settings, between=positive, constant=("weight", "grad"),
         ref=lambda *a, s=_settings: _adam(*a, **s))
