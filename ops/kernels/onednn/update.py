"""Optimizer rules with a pass over memory for each product and sum, on every core; the bits are NumPy's."""

from __future__ import annotations

import numpy as np

from raymx.ops.kernels import Run
from raymx.ops.kernels.onednn import binding as dnn
from raymx.ops.kernels.onednn.elementwise import ADD, MUL, SMALLEST, add, flat


def scaled(array, factor: float, out, plus=None) -> Run:
    """out = array * factor, and then perhaps + `plus`; each result is rounded."""
    arrays = flat(array, out) if plus is None else flat(array, out, plus)
    source, target = arrays[:2]
    number = dnn.memory(np.full(1, factor, "float32"))
    after = () if plus is None else (dnn.With(ADD, arrays[2].layout),)
    computation = dnn.primitive("binary", MUL, source.layout, number.layout, target.layout, after=after)
    arguments = {dnn.SRC: source, dnn.SRC_1: number, dnn.DST: target}
    if plus is not None:
        arguments[dnn.second_of(0)] = arrays[2]
    return dnn.call(computation, arguments)


@dnn.kernel("sgd_update", "forward")
def sgd(op, ins, outs, extras) -> Run | None:
    weight, grad, out = ins["weight"], ins["grad"], outs["out"]
    if op.clip_gradient > 0 or weight.size < SMALLEST:
        return None
    if not op.wd:
        return scaled(grad, -op.lr * op.rescale_grad, out, plus=weight)
    steps = [scaled(weight, 1 - op.lr * op.wd, out), scaled(grad, -op.lr * op.rescale_grad, out, plus=out)]
    return dnn.chain(steps)


@dnn.kernel("sgd_mom_update", "forward")
def sgd_with_momentum(op, ins, outs, extras) -> Run | None:
    weight, grad, mom, out = ins["weight"], ins["grad"], ins["mom"], outs["out"]
    if op.clip_gradient > 0 or weight.size < SMALLEST:
        return None
    steps = [scaled(mom, op.momentum, mom), scaled(grad, -op.lr * op.rescale_grad, mom, plus=mom)]
    if op.wd:
        steps.append(scaled(weight, -op.lr * op.wd, mom, plus=mom))
    return dnn.chain([*steps, add(weight, mom, out)])
