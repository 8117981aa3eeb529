"""Activations, sums of arrays, and copies from one layout to another."""

from __future__ import annotations

import numpy as np

from raymx.ops.kernels import Run
from raymx.ops.kernels.onednn import binding as dnn

SMALLEST = 1 << 13  # elements below which NumPy is as fast

_FUNCTIONS = {
    "relu": dnn.Function(32), "tanh": dnn.Function(33), "softrelu": dnn.Function(39, 1.0), "sigmoid": dnn.Function(41),
}  # fmt: skip
ADD, MUL, _ABOVE = 131056, 131057, 131063
_MINUS, _ONE_MINUS = dnn.Function(38, -1.0), dnn.Function(38, -1.0, 1.0)  # linear functions


def activation(act_type: str) -> dnn.Function | None:
    """What oneDNN calls the function; None if it does not know it."""
    return _FUNCTIONS.get(act_type)


def flat(*arrays) -> list[dnn.Memory]:
    """The arrays as vectors of their elements as they lie in memory, which must be in the same order in all of them.

    Raises Unsupported if it is not, or if there are gaps."""
    arrays = tuple(a.view(np.ndarray) for a in arrays)
    if len({a.shape for a in arrays}) == 1:
        for order in (tuple(range(arrays[0].ndim)), dnn.channels_last(arrays[0].ndim)):
            turned = [a.transpose(order) for a in arrays]
            if all(a.flags.c_contiguous for a in turned):
                return [dnn.memory(a.reshape(-1)) for a in turned]
    raise dnn.Unsupported("arrays whose elements lie in different orders")


def _worth_it(array) -> bool:
    return array.size >= SMALLEST


def slope(act_type: str, g, out, d_data) -> Run:
    """d_data = g * f'(x), told from out = f(x), in one pass.

    oneDNN's own backward of an activation takes three times as long on some processors.
    """
    incoming, result, target = flat(g, out, d_data)
    layout = target.layout
    times_g = dnn.With(MUL, incoming.layout)
    arguments = {dnn.SRC: result, dnn.DST: target}
    if act_type == "relu":
        zero = dnn.memory(np.zeros(1, "float32"))
        computation = dnn.primitive("binary", _ABOVE, layout, zero.layout, layout, after=(times_g,))
        arguments |= {dnn.SRC_1: zero, dnn.second_of(0): incoming}
    elif act_type == "tanh":
        computation = dnn.primitive("binary", MUL, layout, layout, layout, after=(_ONE_MINUS, times_g))
        arguments |= {dnn.SRC_1: result, dnn.second_of(1): incoming}
    elif act_type == "sigmoid":
        steps = _MINUS, dnn.With(ADD, layout), times_g  # out - out ** 2
        computation = dnn.primitive("binary", MUL, layout, layout, layout, after=steps)
        arguments |= {dnn.SRC_1: result, dnn.second_of(1): result, dnn.second_of(2): incoming}
    else:
        raise dnn.Unsupported(act_type)
    return dnn.call(computation, arguments)


def add(lhs, rhs, out, *after: dnn.Function) -> Run:
    """out = lhs + rhs, and then perhaps a function of it."""
    left, right, target = flat(lhs, rhs, out)
    computation = dnn.primitive("binary", ADD, left.layout, right.layout, target.layout, after=after)
    return dnn.call(computation, {dnn.SRC: left, dnn.SRC_1: right, dnn.DST: target})


# ---- kernels ----


@dnn.kernel("Activation", "forward")
def activate(op, ins, outs, extras) -> Run | None:
    found = activation(op.act_type)
    if found is None or not _worth_it(ins["data"]):
        return None
    source, target = flat(ins["data"], outs["out"])
    number, *constants = found
    computation = dnn.primitive("eltwise_forward", dnn.TRAIN, number, source.layout, target.layout, *constants)
    return dnn.call(computation, {dnn.SRC: source, dnn.DST: target})


@dnn.kernel("Activation", "backward")
def activate_backward(op, ins, outs, extras) -> Run | None:
    if not _worth_it(ins["g"]):
        return None
    return slope(op.act_type, ins["g"], ins["out"], outs["d_data"])


@dnn.kernel("_plus", "forward")
def plus(op, ins, outs, extras) -> Run | None:
    return add(ins["lhs"], ins["rhs"], outs["out"]) if _worth_it(outs["out"]) else None


@dnn.kernel("ElementWiseSum", "forward")
def total(op, ins, outs, extras) -> Run | None:
    first, *others = ins.values()
    out = outs["out"]
    if not others or not _worth_it(out):
        return None
    return dnn.chain([add(first, others[0], out), *(add(out, later, out) for later in others[1:])])


@dnn.kernel("_add_relu", "forward")
def add_relu(op, ins, outs, extras) -> Run:
    return add(ins["lhs"], ins["rhs"], outs["out"], _FUNCTIONS["relu"])


@dnn.kernel("_add_relu", "backward")
def add_relu_backward(op, ins, outs, extras) -> Run:
    first, *others = outs.values()
    steps = [slope("relu", ins["g"], ins["out"], first)]
    steps += [dnn.reorder(*flat(first, other)) for other in others]
    return dnn.chain(steps)


@dnn.kernel("_reorder", "forward")
def reorder(op, ins, outs, extras) -> Run:
    return dnn.reorder(dnn.memory(ins["data"]), dnn.memory(outs["out"]))
