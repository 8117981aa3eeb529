"""Rows: normalisation."""

import numpy as np

from tests.ops.cases.reference import positive
from tests.ops.cases.table import case

WIDE = ("float32", "float64")  # of float16 data the factors are float32


def _standard(x, axes, eps):
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(var + eps), mean, var


def _along(vector, ndim, axis=1):
    return vector.reshape([-1 if i == axis else 1 for i in range(ndim)])


def batch_norm(eps=1e-3, fix_gamma=True, train=True, axis=1):
    """The reference of BatchNorm: out, mean, var, and the averages, which forward leaves alone."""

    def reference(x, gamma, beta, moving_mean, moving_var):
        axis_ = axis % x.ndim
        axes = tuple(i for i in range(x.ndim) if i != axis_)
        mean, var = (x.mean(axes), x.var(axes)) if train else (moving_mean, moving_var)
        gamma = 1 if fix_gamma else _along(gamma, x.ndim, axis_)
        out = (x - _along(mean, x.ndim, axis_)) / np.sqrt(_along(var, x.ndim, axis_) + eps) * gamma
        return {"out": out + _along(beta, x.ndim, axis_), "mean": mean, "var": var, "moving_mean": moving_mean,
                "moving_var": moving_var}  # fmt: skip

    return reference


def _vectors(n):
    """gamma, beta, moving_mean, moving_var."""
    return (n,), (n,), (n,), np.linspace(0.5, 2, n)


def _layer_norm(x, gamma, beta, axis=-1, eps=1e-5):
    out, mean, var = _standard(x, axis, eps)
    axis %= x.ndim
    return out * _along(gamma, x.ndim, axis) + _along(beta, x.ndim, axis), mean, np.sqrt(var + eps)


def _instance_norm(x, gamma, beta, eps=1e-3):
    out, mean, var = _standard(x, tuple(range(2, x.ndim)), eps)
    return out * _along(gamma, x.ndim) + _along(beta, x.ndim), mean.reshape(x.shape[:2]), var.reshape(x.shape[:2])


def _unit(axes, eps=1e-10):
    return lambda x: x / np.sqrt((x**2).sum(axes, keepdims=True) + eps)


def _lrn(x, nsize, alpha=1e-4, beta=0.75, knorm=2.0):
    """Channel c sees those from c - nsize // 2 on."""
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        near = x[:, max(0, c - nsize // 2) : c - nsize // 2 + nsize]
        out[:, c] = x[:, c] * (knorm + alpha / nsize * (near**2).sum(1)) ** -beta
    return out


# fmt: off
case("BatchNorm", (3, 4, 5, 2), *_vectors(4), train=True, dtypes=WIDE, ref=batch_norm())
case("BatchNorm", (3, 4, 5, 2), *_vectors(4), train=True, fix_gamma=False, eps=1e-5, dtypes=WIDE,
     ref=batch_norm(1e-5, False))
case("BatchNorm", (3, 4, 5, 2), *_vectors(4), fix_gamma=False, dtypes=WIDE, ref=batch_norm(1e-3, False, False))
case("BatchNorm", (3, 4, 5, 2), *_vectors(4), dtypes=WIDE, ref=batch_norm(train=False))
case("BatchNorm", (3, 4, 5, 2), *_vectors(4), train=True, use_global_stats=True, fix_gamma=False, dtypes=WIDE,
     ref=batch_norm(1e-3, False, False))
case("BatchNorm", (6, 3), *_vectors(3), train=True, fix_gamma=False, dtypes=WIDE, ref=batch_norm(1e-3, False))
case("BatchNorm", (4, 3, 5), *_vectors(3), train=True, fix_gamma=False, momentum=0.5, dtypes=WIDE,
     ref=batch_norm(1e-3, False))
case("BatchNorm", (2, 16, 3, 4, 2), *_vectors(16), train=True, fix_gamma=False, dtypes=WIDE,
     ref=batch_norm(1e-3, False))
case("BatchNorm", (3, 32, 2, 3), *_vectors(32), train=True, dtypes=WIDE, ref=batch_norm())
case("BatchNorm", (3, 5, 2, 4), *_vectors(4), train=True, axis=-1, fix_gamma=False, dtypes=WIDE,
     ref=batch_norm(1e-3, False, axis=-1))


def _with_statistics(*arrays):
    found = batch_norm(1e-3, False)(*arrays)
    return found["out"], found["mean"], 1 / np.sqrt(found["var"] + 1e-3)


case("BatchNorm", (3, 4, 5, 2), *_vectors(4), train=True, fix_gamma=False, output_mean_var=True, dtypes=WIDE,
     ref=_with_statistics, gradient={
         "data": lambda *a, g: _data_gradient(*a, g), "beta": lambda *a, g: g.sum((0, 2, 3)),
         "gamma": lambda x, *a, g: (_standard(x, (0, 2, 3), 1e-3)[0] * g).sum((0, 2, 3))})


def _data_gradient(x, gamma, beta, moving_mean, moving_var, g):
    """Of one channel's n numbers, by the Jacobian (I - 1/n - z z' / n) / std."""
    result = np.zeros_like(x)
    for c in range(x.shape[1]):
        numbers, n = x[:, c].ravel(), x[:, c].size
        z = _standard(numbers, 0, 1e-3)[0]
        jacobian = (np.eye(n) - 1 / n - np.outer(z, z) / n) / np.sqrt(numbers.var() + 1e-3)
        result[:, c] = (jacobian @ (g[:, c].ravel() * gamma[c])).reshape(x[:, c].shape)
    return result


case("LayerNorm", (3, 4, 5), (5,), (5,), ref=_layer_norm)
case("LayerNorm", (3, 4, 5), (4,), (4,), axis=1, eps=1e-2, ref=lambda x, a, b: _layer_norm(x, a, b, 1, 1e-2))
case("LayerNorm", (6, 3), (3,), (3,), ref=_layer_norm)
case("InstanceNorm", (2, 3, 4, 5), (3,), (3,), dtypes=WIDE, ref=_instance_norm)
case("InstanceNorm", (2, 3, 8), (3,), (3,), eps=0.1, dtypes=WIDE, ref=lambda x, a, b: _instance_norm(x, a, b, 0.1))
case("L2Normalization", (3, 4), between=positive, ref=_unit(1))
case("L2Normalization", (2, 3, 4, 5), eps=0.5, ref=_unit((1, 2, 3), 0.5))
case("L2Normalization", (2, 3, 4, 5), mode="channel", ref=_unit(1))
case("L2Normalization", (2, 3, 4, 5), mode="spatial", ref=_unit((2, 3)))
case("LRN", (2, 7, 3, 4), nsize=5, ref=lambda x: _lrn(x, 5))
case("LRN", (2, 16, 3, 3), nsize=3, alpha=0.5, beta=0.6, knorm=1.5, ref=lambda x: _lrn(x, 3, 0.5, 0.6, 1.5))
case("LRN", (2, 5, 3, 3), nsize=4, alpha=0.5, ref=lambda x: _lrn(x, 4, 0.5),
     mxnet="its window of an even size is another one in oneDNN and outside of it")
case("LRN", (2, 2, 3), nsize=5, alpha=1.0, ref=lambda x: _lrn(x, 5, 1.0), mxnet="it wants four axes")


def _group_norm(x, gamma, beta, eps=1e-5):
    groups = x.reshape(len(x), len(gamma), -1)
    out, mean, var = _standard(groups, 2, eps)
    return (out * gamma[:, None] + beta[:, None]).reshape(x.shape), mean[:, :, 0], np.sqrt(var + eps)[:, :, 0]


for _shape, _groups in (((3, 4, 5), 1), ((2, 6, 3, 2), 3), ((2, 4, 3), 4)):
    case("GroupNorm", _shape, (_groups,), (_groups,), num_groups=_groups, dtypes=WIDE,
         ref=lambda *a: _group_norm(*a)[0])
case("GroupNorm", (2, 4, 3), (2,), (2,), num_groups=2, eps=0.5, dtypes=("float32", "float16"),
     ref=lambda *a: _group_norm(*a, 0.5)[0])
