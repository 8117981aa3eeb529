"""Activations, sums of arrays, and copies from one layout to another."""

from __future__ import annotations

import numpy as np

from raymx.ops.kernels import Run
from raymx.ops.kernels.onednn import binding as dnn

SMALLEST = 1 << 13  # elements below which NumPy is as fast

_ALGORITHMS = {"relu": 32, "tanh": 33, "softrelu": 39, "sigmoid": 41}
_FROM_OUTPUT = {"relu": 256, "tanh": 257, "sigmoid": 260}  # for backward: told from the result
_ADD = 131056


def activation(act_type: str, backward: bool = False) -> dnn.Activation | None:
    """What oneDNN calls the function (or its slope, told from the result); None if it does not know it."""
    number = (_FROM_OUTPUT if backward else _ALGORITHMS).get(act_type)
    return None if number is None else (number, 1.0 if act_type == "softrelu" else 0.0, 0.0)


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
    """d_data = g * f'(x), told from out = f(x)."""
    found = activation(act_type, backward=True)
    if found is None:
        raise dnn.Unsupported(act_type)
    incoming, result, target = flat(g, out, d_data)
    layout = target.layout
    number, alpha, beta = found
    hint = dnn.primitive("eltwise_forward", dnn.TRAIN, number, layout, layout, alpha, beta)
    computation = dnn.primitive("eltwise_backward", number, layout, layout, layout, alpha, beta, hint=hint)
    return dnn.call(computation, {dnn.DIFF_DST: incoming, dnn.DST: result, dnn.DIFF_SRC: target})


def add(lhs, rhs, out, after: dnn.Activation | None = None) -> Run:
    """out = lhs + rhs, and then perhaps an activation."""
    left, right, target = flat(lhs, rhs, out)
    layouts = left.layout, right.layout, target.layout
    computation = dnn.primitive("binary", _ADD, *layouts, activation=after)
    return dnn.call(computation, {dnn.SRC: left, dnn.SRC_1: right, dnn.DST: target})


# ---- kernels ----


@dnn.kernel("Activation", "forward")
def activate(op, ins, outs, extras) -> Run | None:
    found = activation(op.act_type)
    if found is None or not _worth_it(ins["data"]):
        return None
    source, target = flat(ins["data"], outs["out"])
    number, alpha, beta = found
    computation = dnn.primitive("eltwise_forward", dnn.TRAIN, number, source.layout, target.layout, alpha, beta)
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
    return add(ins["lhs"], ins["rhs"], outs["out"], activation("relu"))


@dnn.kernel("_add_relu", "backward")
def add_relu_backward(op, ins, outs, extras) -> Run:
    first, *others = outs.values()
    steps = [slope("relu", ins["g"], ins["out"], first)]
    steps += [dnn.reorder(*flat(first, other)) for other in others]
    return dnn.chain(steps)


@dnn.kernel("_reorder", "forward")
def reorder(op, ins, outs, extras) -> Run:
    return dnn.reorder(dnn.memory(ins["data"]), dnn.memory(outs["out"]))
