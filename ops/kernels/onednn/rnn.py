"""The operator RNN with oneDNN's products: its steps are collected once and run many times."""

from __future__ import annotations

from raymx.ops.kernels import Run, register
from raymx.ops.kernels.onednn.product import product
from raymx.ops.rnn import Steps


class _Steps(Steps):
    def product(self, a, b, out, add=False):
        plan = product(a, b, out, beta=1.0 if add else 0.0)
        if plan is None:
            super().product(a, b, out, add)
        else:
            self.runs += plan


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
