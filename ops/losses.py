"""Outputs of networks that are their own losses: backward states the gradient and takes no head gradient.

A label gets no gradient.
"""

from __future__ import annotations

import math

from raymx.ops.elementwise import Unary, sigmoid
from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param
from raymx.ops.shapes import agreed, flat2d, reshaped, size
from raymx.ops.softmax import softmax


@operator("SoftmaxOutput", "Softmax")
class SoftmaxOutput(Op):
    """out = softmax of data; d_data = (out - onehot(label)) * grad_scale / divisor, summed over the batch.

    By default data (N, …) is one line of classes per n and label (N,). `multi_output`: data (N, C, …) has a line along
    axis 1 for each position of label (N, positions). `preserve_shape`: lines along the last axis, label (…). A label of
    data's shape holds probabilities instead of classes.
    `normalization` tells the divisor: null: positions per n; batch: all labels; valid: labels that are not
    `ignore_label`. `use_ignore`: no gradient where label is `ignore_label`. `out_grad`: multiply by the head gradient.
    """

    kinds = "f"
    grad_scale: float = param(1.0, doc="factor of the gradient")
    ignore_label: float = param(-1.0, doc="the label that does not count")
    multi_output: bool = param(False, doc="classes along axis 1, a label per position")
    use_ignore: bool = param(False, doc="no gradient where the label is ignore_label")
    preserve_shape: bool = param(False, doc="classes along the last axis, a label per line")
    normalization: str = param("null", doc="what divides the gradient", choices=("null", "batch", "valid"))
    out_grad: bool = param(False, doc="multiply the gradient by the head gradient")
    smooth_alpha: float = param(0.0, doc="part of each label's weight that goes to the other classes", low=0, high=1)

    def inputs(self):
        return ("data", "label")

    def needs_head_gradient(self):
        return self.out_grad

    def infer_shape(self, data=None, label=None, out=None):
        data = data or out
        if data is None:
            return {}
        n, positions = self._label(data)
        expected = n if positions is None else (*n, positions)
        fits = label is not None and (label == data or (label[0] == data[0] and size(label) == size(expected)))
        return {"data": data, "label": label if fits else expected, "out": data}

    def _label(self, data: Shape) -> tuple[Shape, int | None]:
        if self.multi_output:
            return data[:1], math.prod(data[2:]) if len(data) > 2 else None
        return (data[:-1] if self.preserve_shape and len(data) > 1 else data[:1]), None

    def lines(self, shape: Shape) -> Shape:
        """Data's shape as (lines, C) or (N, C, positions): classes at axis 1."""
        if self.multi_output and len(shape) > 2:
            return shape[0], shape[1], math.prod(shape[2:])
        if self.preserve_shape:
            return math.prod(shape[:-1]), shape[-1]
        return flat2d(shape)

    def forward(self, xp, data, label, *, out):
        view = self.lines(data.shape)
        softmax(xp, data.reshape(view), reshaped(out, view), 1)

    def backward(self, xp, g, label, out, *, d_data=None):
        view = self.lines(out.shape)
        gradient = reshaped(d_data, view)
        if label.shape == out.shape:
            xp.subtract(out, label, out=d_data)
            label = None
        else:
            label = label.reshape(view[:1] + (1,) + view[2:])
            self._target(xp, label, gradient)
            xp.subtract(out.reshape(view), gradient, out=gradient)
        self._scale(xp, label, gradient)
        if self.out_grad:
            xp.multiply(d_data, g, out=d_data)

    def _target(self, xp, label, target) -> None:
        """The wanted probabilities for classes."""
        count = target.shape[1]
        classes = xp.arange(count, dtype=label.dtype).reshape((-1,) + (1,) * (target.ndim - 2))
        xp.equal(label, classes, out=target)
        if self.smooth_alpha:
            others = self.smooth_alpha / (count - 1)
            xp.multiply(target, 1 - self.smooth_alpha - others, out=target)
            xp.add(target, others, out=target)

    def _scale(self, xp, label, gradient) -> None:
        if self.use_ignore and label is not None:
            xp.multiply(gradient, label != self.ignore_label, out=gradient)
        factor = self.grad_scale / self._divisor(label, gradient)
        if factor != 1:
            xp.multiply(gradient, factor, out=gradient)

    def _divisor(self, label, gradient) -> int:
        labels = gradient.size // gradient.shape[1]
        if self.normalization == "batch" or (self.normalization == "valid" and label is None):
            return labels
        if self.normalization == "valid":
            return max(int((label != self.ignore_label).sum()), 1)
        return labels // gradient.shape[0]


class Regression(Op):
    """out = f(data); d_data = slope(out - label) * grad_scale / values per sample. label has data's shape; (N,) fits
    data (N, 1)."""

    kinds = "f"
    inplace = (("data", "out"),)

    grad_scale: float = param(1.0, doc="factor of the gradient")

    def inputs(self):
        return ("data", "label")

    def infer_shape(self, data=None, label=None, out=None):
        data = data or out
        if data is None:
            return {}
        fits = label is not None and label[0] == data[0] and size(label) == size(data)
        expected = data[:1] if data[1:] == (1,) else data
        return {"data": data, "label": label if fits else expected, "out": data}

    def forward(self, xp, data, label, *, out):
        xp.copyto(out, data)

    def difference(self, xp, label, out, d_data) -> None:
        xp.subtract(out, label.reshape(out.shape), out=d_data)

    def backward(self, xp, label, out, *, d_data=None):
        self.difference(xp, label, out, d_data)
        factor = self.grad_scale / math.prod(out.shape[1:])
        if factor != 1:
            xp.multiply(d_data, factor, out=d_data)


@operator("LinearRegressionOutput")
class LinearRegressionOutput(Regression):
    """out = data; d_data = (out - label) * grad_scale / values per sample."""


@operator("LogisticRegressionOutput")
class LogisticRegressionOutput(Regression):
    """out = 1 / (1 + e**-data); d_data = (out - label) * grad_scale / values per sample."""

    def forward(self, xp, data, label, *, out):
        sigmoid(xp, data, out)


@operator("MAERegressionOutput")
class MAERegressionOutput(Regression):
    """out = data; d_data = sign(out - label) * grad_scale / values per sample."""

    def difference(self, xp, label, out, d_data) -> None:
        super().difference(xp, label, out, d_data)
        xp.sign(d_data, out=d_data)


@operator("MakeLoss", "make_loss")
class MakeLoss(Unary):
    """out = data; d_data = grad_scale / divisor everywhere.

    `normalization` tells the divisor: null: 1; batch: N of data (N, …); valid: elements above `valid_thresh`.
    """

    elementwise = False
    grad_scale: float = param(1.0, doc="the gradient")
    valid_thresh: float = param(0.0, doc="elements above it are valid")
    normalization: str = param("null", doc="what divides the gradient", choices=("null", "batch", "valid"))

    def forward(self, xp, data, *, out):
        xp.copyto(out, data)

    def backward(self, xp, data, *, d_data=None):
        d_data.fill(self.grad_scale / self._divisor(data))

    def _divisor(self, data) -> int:
        if self.normalization == "valid":
            return max(int((data > self.valid_thresh).sum()), 1)
        return data.shape[0] if self.normalization == "batch" else 1


@operator("SVMOutput")
class SVMOutput(Op):
    """out = data (N, C); d_data = how the hinge loss of its lines grows, summed over the batch. label (N,).

    With s = 1 at the label's column and -1 elsewhere and v = max(margin - s data, 0), the loss is
    regularization_coefficient * v (`use_linear`) or v**2, added up over the columns.
    """

    kinds = "f"
    inplace = (("data", "out"),)

    margin: float = param(1.0, doc="how far on its side an output must be to count nothing")
    regularization_coefficient: float = param(1.0, doc="factor of the gradient")
    use_linear: bool = param(False, doc="v instead of its square")

    def inputs(self):
        return ("data", "label")

    def infer_shape(self, data=None, label=None, out=None):
        data = agreed(data, out)
        return {} if data is None else {"data": data, "label": data[:-1] or (1,), "out": data}

    def forward(self, xp, data, label, *, out):
        xp.copyto(out, data)

    def backward(self, xp, label, out, *, d_data=None):
        side = xp.where(label[..., None] == xp.arange(out.shape[-1]), out.dtype.type(-1), out.dtype.type(1))
        xp.multiply(side, out, out=d_data)
        xp.add(d_data, self.margin, out=d_data)
        if self.use_linear:
            xp.greater(d_data, 0, out=d_data)
        else:
            xp.maximum(d_data, 0, out=d_data)
            xp.add(d_data, d_data, out=d_data)
        xp.multiply(d_data, side, out=d_data)
        xp.multiply(d_data, self.regularization_coefficient, out=d_data)


@operator("IdentityAttachKLSparseReg")
class IdentityAttachKLSparseReg(Op):
    """out = data (N, C, …), outputs of a sigmoid; the gradient gets a part that draws the channels' means to a target:
    penalty * ((1 - t) / (1 - m) - t / m) for the target t and moving_avg m (C,).

    moving_avg follows the means over all axes but the second, once in each backward pass, before it is used.
    (Hinton, A practical guide to training restricted Boltzmann machines, section 11.)
    """

    kinds = "f"
    inplace = (("data", "out"),)
    inplace_backward = (("g", "d_data"),)
    initial = {"moving_avg": '["zero", {}]'}

    sparseness_target: float = param(0.1, doc="the wanted mean", low=0, high=1)
    penalty: float = param(0.001, doc="factor of the added gradient")
    momentum: float = param(0.9, doc="part of the last average that is kept", low=0, high=1)

    def aux(self):
        return ("moving_avg",)

    def infer_shape(self, data=None, out=None):
        data = agreed(data, out)
        if data is not None and len(data) < 2:
            raise ValueError("data must have at least 2 axes, samples and channels")
        return {} if data is None else {"data": data, "moving_avg": data[1:2], "out": data}

    def forward(self, xp, data, moving_avg, *, out):
        xp.copyto(out, data)

    def backward(self, xp, g, data, moving_avg, *, d_data=None):
        mean = data.mean(axis=(0, *range(2, data.ndim)))
        xp.multiply(moving_avg, self.momentum, out=moving_avg)
        xp.add(moving_avg, mean * (1 - self.momentum), out=moving_avg, casting="same_kind")
        target = self.sparseness_target
        pull = self.penalty * ((1 - target) / (1 - moving_avg) - target / moving_avg)
        xp.add(g, pull.reshape((-1,) + (1,) * (g.ndim - 2)), out=d_data)


@operator("softmax_cross_entropy")
class SoftmaxCrossEntropy(Op):
    """out (1,) = -sum over n of log(softmax(data (N, C))[n, label (N,)]); takes a head gradient."""

    kinds = "f"

    def inputs(self):
        return ("data", "label")

    def infer_shape(self, data):
        if len(data) != 2:
            raise ValueError("data must be a matrix, a line of classes per sample")
        return {"label": data[:1], "out": (1,)}

    def forward(self, xp, data, label, *, out):
        shifted = data - data.max(axis=1, keepdims=True)
        logarithms = shifted - xp.log(xp.exp(shifted).sum(axis=1, keepdims=True))
        xp.sum(-logarithms, where=self._chosen(xp, data, label), keepdims=True, out=out.reshape(1, 1))

    def backward(self, xp, g, data, label, *, d_data=None):
        softmax(xp, data, d_data, 1)
        xp.subtract(d_data, self._chosen(xp, data, label), out=d_data)
        xp.multiply(d_data, g, out=d_data)

    def _chosen(self, xp, data, label):
        return label[:, None] == xp.arange(data.shape[1])


@operator("smooth_l1")
class SmoothL1(Unary):
    """out = (s x)**2 / 2 where |x| < 1 / s**2, else |x| - 1 / (2 s**2), for data x and `scalar` s."""

    kinds = "f"
    scalar: float = param(1.0, doc="s, where the parabola ends")

    inplace = ()

    def forward(self, xp, data, *, out):
        s2 = self.scalar**2
        size_of = xp.absolute(data)
        xp.copyto(out, xp.where(size_of < 1 / s2, 0.5 * s2 * data * data, size_of - 0.5 / s2))

    def backward(self, xp, g, data, *, d_data=None):
        s2 = self.scalar**2
        xp.multiply(data, s2, out=d_data)
        xp.maximum(d_data, -1, out=d_data)
        xp.minimum(d_data, 1, out=d_data)
        xp.multiply(d_data, g, out=d_data)
