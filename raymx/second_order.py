"""Gradients made of operators, so that they can be differentiated in turn.

Three kinds of operators have one: those that are linear (the gradient of their gradient is the operator itself), those
with a formula here, and code. For any other the gradient is computed as always, and an error is raised only if somebody
differentiates that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from raymx import ndarray as nd
from raymx import tape
from raymx.errors import GraphError
from raymx.ndarray import NDArray
from raymx.ops.op import Op, make

Values = dict[str, NDArray]

LINEAR = frozenset((
    "Cast", "Concat", "ElementWiseSum", "Embedding", "Flatten", "Reshape", "SequenceReverse", "SliceChannel",
    "SwapAxis", "_copy", "_div_scalar", "_minus", "_mul_scalar", "_plus", "_reorder", "broadcast_axis",
    "broadcast_minus", "broadcast_plus", "broadcast_to", "crop", "degrees", "expand_dims", "flip", "gather_nd", "mean",
    "negative", "pick", "radians", "scatter_nd", "slice_axis", "sum", "take", "transpose", "where",
))  # fmt: skip


def gradients(
    op: Op, heads: list[NDArray], values: Values, context, ins: Sequence[tuple], wants: Sequence[int], way: tape.Way
) -> list[NDArray]:
    """The gradients of `op` for the inputs in `wants`, recorded. `values` is what its backward reads, on the tape, and
    `ins` are shape and dtype of all its inputs."""
    names = op.inputs()
    formula = FORMULAS.get(op.name)
    if formula is not None:
        found = formula(op, heads[0], values)
        if found is not None:
            return [tape._summed(found[names[i]], ins[i][0]) for i in wants]
    heads = heads if op.needs_head_gradient() else []
    read = [values[name] for name in op.backward_needs()]
    looks = tuple(ins[i] for i in wants)
    plain = nd.run_gradient(op, tuple(names[i] for i in wants), (*heads, *read), context, looks, way.training)
    pull = _adjoint(op, values, context, ins, wants, len(heads)) if op.name in LINEAR else _refusal(op)
    inputs = heads if op.name in LINEAR else [*heads, *read]
    if any(tape.entry_of(x) is not None for x in inputs):
        step = tape.CodeStep(f"{op.name}_backward", inputs, plain, pull)
        for i, each in enumerate(plain):
            each._entry = tape.Entry(step, i)
    return plain


def _adjoint(op: Op, values: Values, context, ins, wants, heads: int) -> Callable[..., Sequence[Any]]:
    """The gradient of a linear operator's gradient: the operator."""

    def pull(*hs: NDArray):
        given = dict(zip(wants, hs, strict=True))
        inputs = [
            given[i] if i in given else values[name] if name in values else nd.zeros(ins[i][0], context, ins[i][1])
            for i, name in enumerate(op.inputs())
        ]
        found = nd.invoke(op, inputs)
        return [found] if heads == 1 else list(found)

    return pull


def _refusal(op: Op) -> Callable[..., NoReturn]:
    def pull(*hs):
        raise GraphError(
            f"{op.name}: its gradient cannot be differentiated again; compute it by other operators, or state it in an "
            "autograd.Function whose backward uses operators."
        )

    return pull


# ---- formulas ----

Formula = Callable[[Op, NDArray, Values], "Values | None"]  # None: not for these parameters


def _unary(derivative: Callable[[Any, Any], Any]) -> Formula:
    """Of out = f(data): `derivative(data, out)`, of which it uses what the operator's backward reads."""

    def formula(op: Op, g: NDArray, v: Values) -> Values:
        return {"data": g * derivative(v.get("data"), v.get("out"))}

    return formula


def _scalar(derivative: Callable[[float, Any, Any], Any]) -> Formula:
    """Of out = f(data, scalar)."""

    def formula(op: Op, g: NDArray, v: Values) -> Values:
        return {"data": g * derivative(op.attrs["scalar"], v.get("data"), v.get("out"))}

    return formula


def _binary(left: Callable[..., Any], right: Callable[..., Any]) -> Formula:
    """Of out = f(lhs, rhs), shapes that broadcast included: what stands beside g for each."""

    def formula(op: Op, g: NDArray, v: Values) -> Values:
        a, b, out = v["lhs"], v["rhs"], v.get("out")
        return {"lhs": _times(g, left(a, b, out)), "rhs": _times(g, right(a, b, out))}

    return formula


def _times(g: NDArray, factor: Any) -> NDArray:
    return g * factor


def _positive(x: NDArray) -> NDArray:
    return x > 0


_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {  # the derivative in terms of out
    "relu": _positive,
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: 1 - y * y,
    "softrelu": lambda y: 1 - nd.exp(-y),
}


def _activation(op: Op, g: NDArray, v: Values) -> Values | None:
    derivative = _ACTIVATIONS.get(op.attrs["act_type"])
    return derivative and {"data": g * derivative(v["out"])}


def _dot(op: Op, g: NDArray, v: Values) -> Values | None:
    a, b = v["lhs"], v["rhs"]
    if a.ndim != 2 or b.ndim != 2:
        return None
    return _products("dot", op, a, b, g)


def _batch_dot(op: Op, g: NDArray, v: Values) -> Values:
    return _products("batch_dot", op, v["lhs"], v["rhs"], g)


def _products(name: str, op: Op, a: NDArray, b: NDArray, g: NDArray) -> Values:
    """Gradients of a product of matrices, either of which may stand transposed in it."""
    ta, tb = bool(op.attrs.get("transpose_a")), bool(op.attrs.get("transpose_b"))

    def product(x, y, tx, ty):
        return nd.invoke(make(name, transpose_a=tx, transpose_b=ty), (x, y))

    return {
        "lhs": product(b, g, tb, True) if ta else product(g, b, False, not tb),
        "rhs": product(g, a, True, ta) if tb else product(a, g, not ta, False),
    }


def _fully_connected(op: Op, g: NDArray, v: Values) -> Values | None:
    data, weight = v["data"], v["weight"]
    if not op.attrs.get("flatten", True):
        return None
    flat = data.reshape((data.shape[0], -1))
    plain, transposed = make("dot"), make("dot", transpose_a=True)
    return {
        "data": nd.invoke(plain, (g, weight)).reshape(data.shape),
        "weight": nd.invoke(transposed, (g, flat)),
        "bias": g.sum(axis=0),
    }


def _softmax(op: Op, g: NDArray, v: Values) -> Values | None:
    if op.attrs.get("temperature") not in (None, 1.0) or op.attrs.get("use_length"):
        return None
    y, axis = v["out"], op.attrs["axis"]
    return {"data": y * (g - (g * y).sum(axis=axis, keepdims=True))}


def _log_softmax(op: Op, g: NDArray, v: Values) -> Values | None:
    if op.attrs.get("temperature") not in (None, 1.0):
        return None
    y, axis = v["out"], op.attrs["axis"]
    return {"data": g - nd.exp(y) * g.sum(axis=axis, keepdims=True)}


def _clip(op: Op, g: NDArray, v: Values) -> Values:
    x = v["data"]
    return {"data": g * (x >= op.attrs["a_min"]) * (x <= op.attrs["a_max"])}


_product = _binary(lambda a, b, _: b, lambda a, b, _: a)
_quotient = _binary(lambda a, b, _: 1 / b, lambda a, b, _: -a / (b * b))
_power = _binary(lambda a, b, y: b * a ** (b - 1), lambda a, b, y: y * nd.log(a))
_larger = _binary(lambda a, b, _: a >= b, lambda a, b, _: a < b)
_smaller = _binary(lambda a, b, _: a <= b, lambda a, b, _: a > b)

FORMULAS: dict[str, Formula] = {
    "_mul": _product, "broadcast_mul": _product, "_div": _quotient, "broadcast_div": _quotient,
    "_power": _power, "broadcast_power": _power, "_maximum": _larger, "broadcast_maximum": _larger,
    "_minimum": _smaller, "broadcast_minimum": _smaller,
    "_plus_scalar": lambda op, g, v: {"data": g * 1}, "_minus_scalar": lambda op, g, v: {"data": g * 1},
    "_rminus_scalar": lambda op, g, v: {"data": -g},
    "_rdiv_scalar": _scalar(lambda s, x, y: -y / x),
    "_power_scalar": _scalar(lambda s, x, y: s * x ** (s - 1)),
    "_rpower_scalar": _scalar(lambda s, x, y: y * math.log(s)),
    "_maximum_scalar": _scalar(lambda s, x, y: x >= s), "_minimum_scalar": _scalar(lambda s, x, y: x <= s),
    "square": _unary(lambda x, y: 2 * x),
    "sqrt": _unary(lambda x, y: 0.5 / y), "rsqrt": _unary(lambda x, y: -0.5 * y / x),
    "cbrt": _unary(lambda x, y: 1 / (3 * y * y)), "reciprocal": _unary(lambda x, y: -y * y),
    "exp": _unary(lambda x, y: y), "expm1": _unary(lambda x, y: y + 1),
    "log": _unary(lambda x, y: 1 / x), "log1p": _unary(lambda x, y: 1 / (x + 1)),
    "log2": _unary(lambda x, y: 1 / (x * math.log(2))), "log10": _unary(lambda x, y: 1 / (x * math.log(10))),
    "sin": _unary(lambda x, y: nd.cos(x)), "cos": _unary(lambda x, y: -nd.sin(x)),
    "tan": _unary(lambda x, y: y * y + 1),
    "sinh": _unary(lambda x, y: nd.cosh(x)), "cosh": _unary(lambda x, y: nd.sinh(x)),
    "tanh": _unary(lambda x, y: 1 - y * y),
    "arcsin": _unary(lambda x, y: nd.rsqrt(1 - x * x)), "arccos": _unary(lambda x, y: -nd.rsqrt(1 - x * x)),
    "arctan": _unary(lambda x, y: 1 / (x * x + 1)), "arcsinh": _unary(lambda x, y: nd.rsqrt(x * x + 1)),
    "arccosh": _unary(lambda x, y: nd.rsqrt(x * x - 1)), "arctanh": _unary(lambda x, y: 1 / (1 - x * x)),
    "erf": _unary(lambda x, y: nd.exp(-x * x) * (2 / math.sqrt(math.pi))),
    "sigmoid": _unary(lambda x, y: y * (1 - y)), "relu": _unary(lambda x, y: _positive(y)),
    "softsign": _unary(lambda x, y: 1 / nd.square(nd.abs(x) + 1)), "abs": _unary(lambda x, y: nd.sign(x)),
    "Activation": _activation, "clip": _clip, "dot": _dot, "batch_dot": _batch_dot,
    "FullyConnected": _fully_connected, "softmax": _softmax, "log_softmax": _log_softmax,
}  # fmt: skip
