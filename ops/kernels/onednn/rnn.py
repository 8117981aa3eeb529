"""The operator RNN with oneDNN's products and functions: its steps are collected once and run many times."""

from __future__ import annotations

from raymx.ops.kernels import Run, register
from raymx.ops.kernels.onednn import binding as dnn
from raymx.ops.kernels.onednn.elementwise import activation, flat
from raymx.ops.kernels.onednn.product import product
from raymx.ops.rnn import Steps

SMALLEST = 1 << 12  # elements below which NumPy's sigmoid is as fast


class _Steps(Steps):
    def product(self, a, b, out, add=False):
        plan = product(a, b, out, beta=1.0 if add else 0.0)
        if plan is None:
            super().product(a, b, out, add)
        else:
            self.runs += plan

    def affine(self, a, b, bias, out):
        plan = product(a, b, out, beta=1.0)
        if plan is None:
            super().affine(a, b, bias, out)
        else:
            self.do(self.xp.copyto, out, bias)
            self.runs += plan

    def copy(self, source, out):
        try:
            self.runs.append(dnn.reorder(dnn.strided(source), dnn.memory(out)))
        except (dnn.Unsupported, KeyError):
            super().copy(source, out)

    def sigmoid(self, x):
        found = activation("sigmoid")
        if found is None or x.size < SMALLEST:
            super().sigmoid(x)
            return
        try:
            (memory,) = flat(x)
            number, alpha, beta = found
            computation = dnn.primitive("eltwise_forward", dnn.TRAIN, number, memory.layout, memory.layout, alpha, beta)
            self.runs.append(dnn.call(computation, {dnn.SRC: memory, dnn.DST: memory}))
        except dnn.Unsupported:
            super().sigmoid(x)


@register("RNN", "forward", "onednn")
def rnn(op, xp, ins, outs, extras) -> Run | None:
    if not _viewable(ins):
        return None
    steps = _Steps(xp)
    op.plan_forward(steps, ins, outs, extras["is_train"], extras["rng"], extras["turned"])
    return steps.run


@register("RNN", "backward", "onednn")
def rnn_backward(op, xp, ins, outs, extras) -> Run | None:
    if not _viewable(ins):
        return None
    steps = _Steps(xp)
    gs = [ins[f"g{i}"] for i in range(op.visible_outputs())]
    wanted = {name: outs.get(f"d_{name}") for name in op.inputs()}
    op.plan_backward(steps, gs, ins["out"], ins["reserve"], ins, wanted, extras["space"])
    return steps.run


def _viewable(ins) -> bool:
    """Whether every input keeps its memory under any shape: a step may run again only on views."""
    return all(array.flags.c_contiguous for array in ins.values())
