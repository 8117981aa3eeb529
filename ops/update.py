"""Optimizer rules. A step reads weight and grad, changes its state and writes the new weight, which may be `weight`.

The gradient that a rule uses is grad * rescale_grad, held within [-clip_gradient, clip_gradient] if that is positive.
"""

from __future__ import annotations

import functools
import math

import numpy

from raymx.ops.op import Op, operator
from raymx.ops.params import param
from raymx.ops.random import fill
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


class Rule(Op):
    """out = the new weight; weight, grad, out and every state have one shape."""

    kinds = "f"
    inplace = (("weight", "out"),)

    lr: float = param(doc="learning rate")
    wd: float = param(0.0, doc="weight decay")

    def inputs(self):
        return ("weight", "grad")

    def infer_shape(self, weight=None, grad=None, out=None):
        shape = agreed(weight, grad, out)
        return dict.fromkeys(("weight", "grad", *self.aux(), "out"), shape)


class Update(Rule):
    """A rule for gradients that are rescaled and clipped."""

    rescale_grad: float = param(1.0, doc="factor of the gradient")
    clip_gradient: float = param(-1.0, doc="bound of the rescaled gradient; not positive = none")

    def clip(self, xp, array) -> None:
        _hold(xp, array, self.clip_gradient)

    def rescaled(self, xp, grad):
        """The gradient."""
        g = grad * self.rescale_grad
        self.clip(xp, g)
        return g

    def decayed(self, xp, weight, grad):
        """The gradient with weight decay, clipped together."""
        g = grad * self.rescale_grad
        g += self.wd * weight
        self.clip(xp, g)
        return g


def _hold(xp, array, bound: float) -> None:
    """Hold `array` within [-bound, bound], if bound is positive."""
    if bound > 0:
        xp.maximum(array, -bound, out=array)
        xp.minimum(array, bound, out=array)


def _follow(average, value, beta: float) -> None:
    """average = beta * average + (1 - beta) * value."""
    average *= beta
    average += (1 - beta) * value


# ---- rules of every step's cost: without temporaries ----


class LeanUpdate(Update):
    """A rule that keeps its temporaries in scratch memory."""

    joins = True

    def scratch(self, shapes, dtype):
        return {"step": (shapes["weight"], dtype)}

    def descent(self, xp, grad, step) -> None:
        """step = -lr * the gradient."""
        if self.clip_gradient > 0:
            xp.multiply(grad, self.rescale_grad, out=step)
            self.clip(xp, step)
            xp.multiply(step, -self.lr, out=step)
        else:
            xp.multiply(grad, -self.lr * self.rescale_grad, out=step)


@operator("sgd_update")
class SGDUpdate(LeanUpdate):
    """out = weight - lr * (gradient + wd * weight)."""

    lazy_update: bool = param(True, doc="accepted and without effect: gradients are dense")

    @blockwise
    def forward(self, xp, weight, grad, *, out, step):
        self.descent(xp, grad, step)
        if self.wd:
            xp.multiply(weight, 1 - self.lr * self.wd, out=out)
            xp.add(out, step, out=out)
        else:
            xp.add(weight, step, out=out)


@operator("sgd_mom_update")
class SGDMomUpdate(LeanUpdate):
    """mom = momentum * mom - lr * (gradient + wd * weight); out = weight + mom."""

    leading = ("lr", "momentum")

    momentum: float = param(0.0, doc="part of the last step that is kept")
    lazy_update: bool = param(True, doc="accepted and without effect: gradients are dense")

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
class AdamUpdate(LeanUpdate):
    """g = gradient + wd * weight; mean = beta1 * mean + (1 - beta1) * g; var = beta2 * var + (1 - beta2) * g**2;
    out = weight - lr * mean / (sqrt(var) + epsilon).

    With weight decay the clip bounds g, decay included, as in MXNet 1.x. The correction for the first steps is the
    caller's, in `lr`.
    """

    leading = ("lr", "beta1", "beta2", "epsilon")

    beta1: float = param(0.9, doc="decay of the mean")
    beta2: float = param(0.999, doc="decay of the mean square")
    epsilon: float = param(1e-8, doc="keeps the divisor from 0")
    lazy_update: bool = param(True, doc="accepted and without effect: gradients are dense")

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


# ---- rules in plain expressions: their temporaries are no longer than a block ----


@operator("nag_mom_update")
class NAGMomUpdate(Update):
    """mom = momentum * mom - lr * (gradient + wd * weight); out = weight, moved by how far mom will have moved it one
    step ahead: weight - momentum * (mom before) + (1 + momentum) * mom (Nesterov)."""

    leading = ("lr", "momentum")

    momentum: float = param(0.0, doc="part of the last step that is kept")

    def aux(self):
        return ("mom",)

    @blockwise
    def forward(self, xp, weight, grad, mom, *, out):
        step = self.lr * (self.rescaled(xp, grad) + self.wd * weight)
        mom *= self.momentum
        before = mom.copy()
        mom -= step
        out[...] = weight - before + (1 + self.momentum) * mom


class MasterUpdate(Update):
    """A rule that works on `weight32`, the weight in float32; weight, grad and out may have a shorter type."""

    lazy_update: bool = param(True, doc="accepted and without effect: gradients are dense")

    def infer_type(self, known):
        dtype = known["weight"] or known["grad"] or known["out"]
        states = dict.fromkeys(self.aux(), numpy.dtype("float32"))
        return {"weight": dtype, "grad": dtype, "out": dtype, **states}

    def wide(self, xp, grad, weight32):
        """The gradient with weight decay in float32."""
        return self.rescaled(xp, grad.astype("float32")) + self.wd * weight32


@operator("mp_sgd_update")
class MPSGDUpdate(MasterUpdate):
    """out = weight32 = weight32 - lr * (gradient + wd * weight32)."""

    def aux(self):
        return ("weight32",)

    @blockwise
    def forward(self, xp, weight, grad, weight32, *, out):
        weight32 -= self.lr * self.wide(xp, grad, weight32)
        xp.copyto(out, weight32, casting="same_kind")


@operator("mp_sgd_mom_update")
class MPSGDMomUpdate(MasterUpdate):
    """mom = momentum * mom - lr * (gradient + wd * weight32); out = weight32 = weight32 + mom."""

    leading = ("lr", "momentum")

    momentum: float = param(0.0, doc="part of the last step that is kept")

    def aux(self):
        return ("mom", "weight32")

    @blockwise
    def forward(self, xp, weight, grad, mom, weight32, *, out):
        mom *= self.momentum
        mom -= self.lr * self.wide(xp, grad, weight32)
        weight32 += mom
        xp.copyto(out, weight32, casting="same_kind")


@operator("mp_nag_mom_update")
class MPNAGMomUpdate(MasterUpdate):
    """`nag_mom_update` on weight32; out = weight32."""

    leading = ("lr", "momentum")

    momentum: float = param(0.0, doc="part of the last step that is kept")

    def aux(self):
        return ("mom", "weight32")

    @blockwise
    def forward(self, xp, weight, grad, mom, weight32, *, out):
        step = self.lr * self.wide(xp, grad, weight32)
        mom *= self.momentum
        weight32 -= mom
        mom -= step
        weight32 += (1 + self.momentum) * mom
        xp.copyto(out, weight32, casting="same_kind")


@operator("signsgd_update")
class SignSGDUpdate(Update):
    """out = weight - lr * (sign(grad) + wd * weight)."""

    @blockwise
    def forward(self, xp, weight, grad, *, out):
        out[...] = (1 - self.lr * self.wd) * weight - self.lr * xp.sign(grad)


@operator("signum_update")
class SignumUpdate(Update):
    """mom = momentum * mom - (1 - momentum) * (gradient + wd * weight);
    out = (1 - lr * wd_lh) * weight + lr * sign(mom)."""

    leading = ("lr", "momentum")

    momentum: float = param(0.0, doc="part of the average that is kept")
    wd_lh: float = param(0.0, doc="weight decay beside the sign")

    def aux(self):
        return ("mom",)

    @blockwise
    def forward(self, xp, weight, grad, mom, *, out):
        _follow(mom, -(self.rescaled(xp, grad) + self.wd * weight), self.momentum)
        out[...] = (1 - self.lr * self.wd_lh) * weight + self.lr * xp.sign(mom)


class RMSPropRule(Update):
    """g = gradient and decay, clipped together; n is the average of its squares."""

    gamma1: float = param(0.95, doc="decay of the averages")
    epsilon: float = param(1e-8, doc="keeps the divisor from 0")
    clip_weights: float = param(-1.0, doc="bound of the new weight; not positive = none")


@operator("rmsprop_update")
class RMSPropUpdate(RMSPropRule):
    """g = gradient + wd * weight, clipped; n = gamma1 * n + (1 - gamma1) * g**2;
    out = weight - lr * g / sqrt(n + epsilon) (Tieleman and Hinton)."""

    leading = ("lr", "gamma1", "epsilon")

    def aux(self):
        return ("n",)

    @blockwise
    def forward(self, xp, weight, grad, n, *, out):
        slope = self.decayed(xp, weight, grad)
        _follow(n, slope * slope, self.gamma1)
        out[...] = weight - self.lr * slope / xp.sqrt(n + self.epsilon)
        _hold(xp, out, self.clip_weights)


@operator("rmspropalex_update")
class RMSPropAlexUpdate(RMSPropRule):
    """d = gradient + wd * weight, clipped; n and g are the averages of d**2 and d;
    delta = gamma2 * delta - lr * d / sqrt(n - g**2 + epsilon); out = weight + delta (Graves 2013)."""

    leading = ("lr", "gamma1", "gamma2", "epsilon")

    gamma2: float = param(0.9, doc="part of the last step that is kept")

    def aux(self):
        return ("n", "g", "delta")

    @blockwise
    def forward(self, xp, weight, grad, n, g, delta, *, out):
        slope = self.decayed(xp, weight, grad)
        _follow(n, slope * slope, self.gamma1)
        _follow(g, slope, self.gamma1)
        delta *= self.gamma2
        delta -= self.lr * slope / xp.sqrt(n - g * g + self.epsilon)
        out[...] = weight + delta
        _hold(xp, out, self.clip_weights)


@operator("ftrl_update")
class FtrlUpdate(Update):
    """g = gradient; z = z + g - (sqrt(n + g**2) - sqrt(n)) * weight / lr; n = n + g**2;
    out = (sign(z) * lamda1 - z) / ((beta + sqrt(n)) / lr + wd) where |z| > lamda1, else 0 (McMahan et al. 2013)."""

    leading = ("lr", "lamda1", "beta")

    lamda1: float = param(0.01, doc="bound under which a weight is 0")
    beta: float = param(1.0, doc="slows the first steps")

    def aux(self):
        return ("z", "n")

    @blockwise
    def forward(self, xp, weight, grad, z, n, *, out):
        g = self.rescaled(xp, grad)
        before = xp.sqrt(n)
        n += g * g
        root = xp.sqrt(n)
        z += g - (root - before) * weight / self.lr
        out[...] = (xp.sign(z) * self.lamda1 - z) / ((self.beta + root) / self.lr + self.wd)
        out *= xp.absolute(z) > self.lamda1


@operator("ftml_update")
class FTMLUpdate(Rule):
    """g = gradient + wd * weight, clipped; v = beta2 * v + (1 - beta2) * g**2;
    e = (1 - beta1**t) / lr * (sqrt(v / (1 - beta2**t)) + epsilon);
    z = beta1 * z + (1 - beta1) * g - (e - beta1 * d) * weight; d = e; out = -z / d (Zheng and Kwok 2017)."""

    leading = ("lr", "beta1", "beta2", "epsilon", "t")

    rescale_grad: float = param(1.0, doc="factor of the gradient")
    clip_grad: float = param(-1.0, doc="bound of the rescaled gradient; not positive = none")
    beta1: float = param(0.6, doc="decay of z", low=0, high=1)
    beta2: float = param(0.999, doc="decay of v", low=0, high=1)
    epsilon: float = param(1e-8, doc="keeps the divisor from 0")
    t: int = param(doc="number of the update, from 1", low=1)

    def aux(self):
        return ("d", "v", "z")

    @blockwise
    def forward(self, xp, weight, grad, d, v, z, *, out):
        g = grad * self.rescale_grad + self.wd * weight
        _hold(xp, g, self.clip_grad)
        _follow(v, g * g, self.beta2)
        root = xp.sqrt(v / (1 - self.beta2**self.t)) + self.epsilon
        new = (1 - self.beta1**self.t) / self.lr * root
        _follow(z, g, self.beta1)
        z -= (new - self.beta1 * d) * weight
        d[...] = new
        out[...] = -z / new


# ---- rules that MXNet writes as programs on arrays: its optimizers of the same names ----


@operator("_adagrad_update")
class AdaGradUpdate(Update):
    """history = history + gradient**2; out = weight - lr * (gradient / sqrt(history + eps) + wd * weight)
    (Duchi et al. 2011)."""

    eps: float = param(1e-7, doc="keeps the divisor from 0")

    def aux(self):
        return ("history",)

    @blockwise
    def forward(self, xp, weight, grad, history, *, out):
        g = self.rescaled(xp, grad)
        history += g * g
        out[...] = weight - self.lr * (g / xp.sqrt(history + self.eps) + self.wd * weight)


@operator("_adadelta_update")
class AdaDeltaUpdate(Update):
    """acc_g follows gradient**2; delta = sqrt(acc_delta + epsilon) / sqrt(acc_g + epsilon) * gradient; acc_delta
    follows delta**2; out = weight - delta - wd * weight (Zeiler 2012). lr has no effect."""

    rho: float = param(0.9, doc="decay of the averages")
    epsilon: float = param(1e-5, doc="keeps the divisor from 0")

    def aux(self):
        return ("acc_g", "acc_delta")

    @blockwise
    def forward(self, xp, weight, grad, acc_g, acc_delta, *, out):
        delta = self.rescaled(xp, grad)
        _follow(acc_g, delta * delta, self.rho)
        delta *= xp.sqrt(acc_delta + self.epsilon) / xp.sqrt(acc_g + self.epsilon)
        _follow(acc_delta, delta * delta, self.rho)
        out[...] = weight - (delta + self.wd * weight)


@operator("_adamax_update")
class AdamaxUpdate(Update):
    """g = gradient + wd * weight, clipped; mean follows g; peak = max(beta2 * peak, |g|); out = weight - lr mean / peak
    (Kingma and Ba 2014, section 7). The correction for the first steps is the caller's, in `lr`."""

    beta1: float = param(0.9, doc="decay of the mean")
    beta2: float = param(0.999, doc="decay of the peak")

    def aux(self):
        return ("mean", "peak")

    @blockwise
    def forward(self, xp, weight, grad, mean, peak, *, out):
        g = self.decayed(xp, weight, grad)
        _follow(mean, g, self.beta1)
        peak *= self.beta2
        xp.maximum(peak, xp.absolute(g), out=peak)
        out[...] = weight - self.lr * mean / peak


@operator("_nadam_update")
class NadamUpdate(Update):
    """g = gradient + wd * weight, clipped; mean and var follow g and g**2;
    out = weight - lr * (from_grad * g + from_mean * mean) / (sqrt(var / var_part) + epsilon) (Dozat 2015)."""

    beta1: float = param(0.9, doc="decay of the mean")
    beta2: float = param(0.999, doc="decay of the mean square")
    epsilon: float = param(1e-8, doc="keeps the divisor from 0")
    from_grad: float = param(doc="part of the gradient in the step")
    from_mean: float = param(doc="part of the mean in the step")
    var_part: float = param(doc="how much of var the steps so far have filled, 1 - beta2**t")

    def aux(self):
        return ("mean", "var")

    @blockwise
    def forward(self, xp, weight, grad, mean, var, *, out):
        g = self.decayed(xp, weight, grad)
        _follow(mean, g, self.beta1)
        _follow(var, g * g, self.beta2)
        step = self.from_grad * g + self.from_mean * mean
        out[...] = weight - self.lr * step / (xp.sqrt(var / self.var_part) + self.epsilon)


@operator("_dcasgd_update")
class DCASGDUpdate(Update):
    """mom = momentum * mom - lr * (g + wd * weight + lamda * g**2 * (weight - previous)) for the gradient g;
    previous = weight; out = weight + mom (Zheng et al. 2016)."""

    momentum: float = param(0.0, doc="part of the last step that is kept")
    lamda: float = param(0.04, doc="factor of the delay's compensation")

    def aux(self):
        return ("mom", "previous")

    @blockwise
    def forward(self, xp, weight, grad, mom, previous, *, out):
        g = self.rescaled(xp, grad)
        mom *= self.momentum
        mom -= self.lr * (g + self.wd * weight + self.lamda * g * g * (weight - previous))
        previous[...] = weight
        out[...] = weight + mom


@operator("_sgld_update")
class SGLDUpdate(LeanUpdate):
    """out = weight - lr / 2 * (gradient + wd * weight) + sqrt(lr) * normal numbers (Patterson and Teh 2013)."""

    def scratch(self, shapes, dtype):
        return {"step": (shapes["weight"], dtype), "noise": (shapes["weight"], dtype)}

    def forward(self, xp, weight, grad, *, out, step, noise, rng):
        fill(xp, rng.standard_normal, noise)
        xp.multiply(noise, math.sqrt(self.lr), out=noise)
        self.descent(xp, grad, step)
        xp.multiply(step, 0.5, out=step)
        xp.add(noise, step, out=noise)
        xp.multiply(weight, 1 - self.lr / 2 * self.wd, out=out)
        xp.add(out, noise, out=out)
