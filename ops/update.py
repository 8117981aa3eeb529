"""Optimizer rules. A step reads weight and grad, changes its state and writes the new weight, which may be `weight`.

The gradient that a rule uses is grad * rescale_grad, held within [-clip_gradient, clip_gradient] if that is positive.
"""

from __future__ import annotations

import functools

import numpy

from raymx.ops.op import Op, operator
from raymx.ops.params import param
from raymx.ops.shapes import agreed

BLOCK = 1 << 16  # elements of each array that stay in a core's cache through all the passes of a rule


def blockwise(kernel):
    """Run an elementwise rule block by block on long contiguous arrays of the CPU, up to twice as fast as in one go."""

    @functools.wraps(kernel)
    def run(self, xp, *arrays, out, **scratch):
        if xp is not numpy or out.size <= BLOCK or not all(a.flags.c_contiguous for a in (*arrays, out)):
            kernel(self, xp, *arrays, out=out, **scratch)
            return
        ins, flat = [a.reshape(-1) for a in arrays], out.reshape(-1)
        rough = {name: a.reshape(-1)[:BLOCK] for name, a in scratch.items()}
        for start in range(0, out.size, BLOCK):
            part = slice(start, start + BLOCK)
            here = flat[part]
            kernel(self, xp, *(a[part] for a in ins), out=here, **{n: a[: here.size] for n, a in rough.items()})

    return run


class Update(Op):
    """out = the new weight; weight, grad, out and every state have one shape."""

    kinds = "f"
    inplace = (("weight", "out"),)

    lr: float = param(doc="learning rate")
    wd: float = param(0.0, doc="weight decay")
    rescale_grad: float = param(1.0, doc="factor of the gradient")
    clip_gradient: float = param(-1.0, doc="bound of the rescaled gradient; not positive = none")

    def inputs(self):
        return ("weight", "grad")

    def infer_shape(self, weight=None, grad=None, out=None):
        shape = agreed(weight, grad, out)
        return dict.fromkeys(("weight", "grad", *self.aux(), "out"), shape)

    def scratch(self, shapes, dtype):
        return {"step": (shapes["weight"], dtype)}

    def clip(self, xp, array) -> None:
        if self.clip_gradient > 0:
            xp.maximum(array, -self.clip_gradient, out=array)
            xp.minimum(array, self.clip_gradient, out=array)

    def descent(self, xp, grad, step) -> None:
        """step = -lr * the gradient."""
        if self.clip_gradient > 0:
            xp.multiply(grad, self.rescale_grad, out=step)
            self.clip(xp, step)
            xp.multiply(step, -self.lr, out=step)
        else:
            xp.multiply(grad, -self.lr * self.rescale_grad, out=step)


@operator("sgd_update")
class SGDUpdate(Update):
    """out = weight - lr * (gradient + wd * weight)."""

    @blockwise
    def forward(self, xp, weight, grad, *, out, step):
        self.descent(xp, grad, step)
        if self.wd:
            xp.multiply(weight, 1 - self.lr * self.wd, out=out)
            xp.add(out, step, out=out)
        else:
            xp.add(weight, step, out=out)


@operator("sgd_mom_update")
class SGDMomUpdate(Update):
    """mom = momentum * mom - lr * (gradient + wd * weight); out = weight + mom."""

    momentum: float = param(0.0, doc="part of the last step that is kept")

    def aux(self):
        return ("mom",)

    @blockwise
    def forward(self, xp, weight, grad, mom, *, out, step):
        xp.multiply(mom, self.momentum, out=mom)
        self.descent(xp, grad, step)
        xp.add(mom, step, out=mom)
        if self.wd:
            xp.multiply(weight, -self.lr * self.wd, out=step)
            xp.add(mom, step, out=mom)
        xp.add(weight, mom, out=out)


@operator("adam_update")
class AdamUpdate(Update):
    """g = gradient + wd * weight; mean = beta1 * mean + (1 - beta1) * g; var = beta2 * var + (1 - beta2) * g**2;
    out = weight - lr * mean / (sqrt(var) + epsilon).

    With weight decay the clip bounds g, decay included, as in MXNet 1.x. The correction for the first steps is the
    caller's, in `lr`.
    """

    beta1: float = param(0.9, doc="decay of the mean")
    beta2: float = param(0.999, doc="decay of the mean square")
    epsilon: float = param(1e-8, doc="keeps the divisor from 0")

    def aux(self):
        return ("mean", "var")

    def scratch(self, shapes, dtype):
        return {"step": (shapes["weight"], dtype), "part": (shapes["weight"], dtype)}

    @blockwise
    def forward(self, xp, weight, grad, mean, var, *, out, step, part):
        xp.multiply(grad, self.rescale_grad, out=step)
        if self.wd:
            xp.multiply(weight, self.wd, out=part)
            xp.add(step, part, out=step)
        self.clip(xp, step)
        self._follow(xp, mean, step, self.beta1, part)
        xp.multiply(step, step, out=step)
        self._follow(xp, var, step, self.beta2, part)
        xp.sqrt(var, out=step)
        xp.add(step, self.epsilon, out=step)
        xp.divide(mean, step, out=step)
        xp.multiply(step, self.lr, out=step)
        xp.subtract(weight, step, out=out)

    def _follow(self, xp, average, value, beta: float, part) -> None:
        """average = beta * average + (1 - beta) * value."""
        xp.multiply(average, beta, out=average)
        xp.multiply(value, 1 - beta, out=part)
        xp.add(average, part, out=average)
