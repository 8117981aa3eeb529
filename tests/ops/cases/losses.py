"""Rows: losses: the stated gradients."""

import numpy as np

from tests.ops.cases.reference import sigmoid, soft2d, softmax
from tests.ops.cases.table import case, classes


# fmt: off
def _onehot(label, n, axis=-1):
    return np.moveaxis(np.eye(n)[label.astype(int)], -1, axis)


def _softmax_gradient(factor=1.0, weight=lambda label: 1.0, n=4):
    return {"data": lambda x, y, g: (softmax(x) - _onehot(y, n)) * factor * weight(y)}


def _but(ignored):
    return lambda y: (y != ignored)[:, None]


four = np.array([1.0, 3, 0])
case("SoftmaxOutput", (3, 4), four, ref=lambda x, y: softmax(x), gradient=_softmax_gradient())
case("SoftmaxOutput", (3, 4), four, grad_scale=0.5, ref=lambda x, y: softmax(x), gradient=_softmax_gradient(0.5))
case("SoftmaxOutput", (3, 4), four, normalization="batch", ref=lambda x, y: softmax(x),
     gradient=_softmax_gradient(1 / 3))
case("SoftmaxOutput", (3, 4), four, normalization="valid", ref=lambda x, y: softmax(x),
     gradient=_softmax_gradient(1 / 3))
case("SoftmaxOutput", (3, 4), four, use_ignore=True, ignore_label=3, ref=lambda x, y: softmax(x),
     gradient=_softmax_gradient(1, _but(3)))
case("SoftmaxOutput", (3, 4), four, use_ignore=True, ignore_label=3, normalization="valid",
     ref=lambda x, y: softmax(x), gradient=_softmax_gradient(1 / 2, _but(3)))
case("SoftmaxOutput", (3, 4), np.array([1.0, -1, 0]), ref=lambda x, y: softmax(x),
     gradient={"data": lambda x, y, g: softmax(x) - np.eye(5)[y.astype(int)][:, :4]})
case("SoftmaxOutput", (3, 4), four, out_grad=True, ref=lambda x, y: softmax(x),
     mxnet="its gradient is multiplied by the output instead of the head gradient",
     gradient={"data": lambda x, y, g: (softmax(x) - _onehot(y, 4)) * g})
case("SoftmaxOutput", (3, 4), four, smooth_alpha=0.1, ref=lambda x, y: softmax(x),
     gradient={"data": lambda x, y, g: softmax(x) - np.where(_onehot(y, 4) > 0, 0.9, 0.1 / 3)})
case("SoftmaxOutput", (3, 4), (3, 4), between=(0, 1), ref=lambda x, y: softmax(x),
     gradient={"data": lambda x, y, g: softmax(x) - y})
case("SoftmaxOutput", (2, 3, 2), classes(2, 6), ref=lambda x, y: soft2d(x),
     gradient={"data": lambda x, y, g: soft2d(x) - _onehot(y, 6).reshape(x.shape)})
case("SoftmaxOutput", (2, 3, 4), classes((2, 3), 4), preserve_shape=True, ref=lambda x, y: softmax(x),
     gradient=_softmax_gradient())
for _normalization, _factor in (("null", 1 / 4), ("batch", 1 / 8), ("valid", 1 / 8)):
    case("SoftmaxOutput", (2, 3, 2, 2), classes((2, 4), 3), multi_output=True, normalization=_normalization,
         ref=lambda x, y: softmax(x, 1),
         gradient={"data": lambda x, y, g, f=_factor: f * (softmax(x, 1) - _onehot(y.reshape(2, 2, 2), 3, 1))})
case("SoftmaxOutput", (2, 3, 2, 2), classes((2, 2, 2), 3), multi_output=True, ref=lambda x, y: softmax(x, 1),
     gradient={"data": lambda x, y, g: (softmax(x, 1) - _onehot(y, 3, 1)) / 4})
for _data, _label, _values in (
    ((3, 4), (3, 4), 4), ((3, 1), (3,), 1), ((3, 1), (3, 1), 1), ((3,), (3,), 1), ((3, 2, 2), (3, 4), 4),
):
    case("LinearRegressionOutput", _data, _label, grad_scale=2, ref=lambda x, y: x,
         gradient={"data": lambda x, y, g, n=_values: (x - y.reshape(x.shape)) * 2 / n})
case("LogisticRegressionOutput", (3, 4), (3, 4), ref=lambda x, y: sigmoid(x),
     gradient={"data": lambda x, y, g: (sigmoid(x) - y) / 4})
case("MAERegressionOutput", (3, 1), (3,), grad_scale=2, ref=lambda x, y: x,
     gradient={"data": lambda x, y, g: np.sign(x - y[:, None]) * 2})
case("MakeLoss", (3, 4), grad_scale=2, ref=lambda x: x, gradient={"data": lambda x, g: np.full_like(x, 2)})
case("MakeLoss", (3, 4), normalization="batch", ref=lambda x: x, gradient={"data": lambda x, g: np.full_like(x, 1 / 3)})
case("MakeLoss", (3, 4), normalization="valid", valid_thresh=0.25, ref=lambda x: x,
     gradient={"data": lambda x, g: np.full_like(x, 1 / (x > 0.25).sum())})
case("softmax_cross_entropy", (3, 4), four,
     ref=lambda x, y: -np.log(softmax(x)[range(3), y.astype(int)]).sum(keepdims=True))
case("smooth_l1", (4, 5), scalar=1.5, between=(-1.5, 1.5),
     ref=lambda x: np.where(np.abs(x) < 1 / 2.25, 0.5 * 2.25 * x * x, np.abs(x) - 0.5 / 2.25))


def _hinge(x, y, g, power=2, margin=1.0, c=1.0):
    side = np.where(_onehot(y, 4) > 0, 1, -1)
    beyond = np.maximum(margin - side * x, 0)
    return -c * side * (2 * beyond if power == 2 else beyond > 0)


case("SVMOutput", (3, 4), four, between=(-2, 2), ref=lambda x, y: x, gradient={"data": _hinge})
case("SVMOutput", (3, 4), four, between=(-2, 2), margin=0.5, regularization_coefficient=0.25, ref=lambda x, y: x,
     gradient={"data": lambda x, y, g: _hinge(x, y, g, 2, 0.5, 0.25)})
case("SVMOutput", (3, 4), four, between=(-2, 2), use_linear=True, regularization_coefficient=2, ref=lambda x, y: x,
     gradient={"data": lambda x, y, g: _hinge(x, y, g, 1, 1, 2)})


def _pull(x, m, g, t=0.1, penalty=0.001, momentum=0.9):
    m = momentum * m + (1 - momentum) * x.mean(axis=(0, *range(2, x.ndim)))
    return g + (penalty * ((1 - t) / (1 - m) - t / m)).reshape(-1, *[1] * (x.ndim - 2))


for _shape in ((4, 3), (4, 3, 2)):
    case("IdentityAttachKLSparseReg", _shape, (3,), between=(0.1, 0.9), ref=lambda x, m: {"out": x, "moving_avg": m},
         gradient={"data": _pull})
case("IdentityAttachKLSparseReg", (4, 3), (3,), between=(0.1, 0.9), sparseness_target=0.2, penalty=0.5, momentum=0.75,
     train=True, ref=lambda x, m: {"out": x, "moving_avg": m},
     gradient={"data": lambda x, m, g: _pull(x, m, g, 0.2, 0.5, 0.75)})
