"""Rows: layers."""

import numpy as np

from tests.ops.cases.reference import halves, sigmoid, softmax
from tests.ops.cases.table import case, fixed


# fmt: off
def _fully_connected(x, w, b=0):
    return x.reshape(len(x), -1) @ w.T + b


case("FullyConnected", (4, 6), (5, 6), (5,), num_hidden=5, ref=_fully_connected)
case("FullyConnected", (4, 3, 2), (5, 6), (5,), num_hidden=5, ref=_fully_connected)
case("FullyConnected", (4, 6), (5, 6), num_hidden=5, no_bias=True, ref=_fully_connected)
case("FullyConnected", (2, 3, 6), (5, 6), (5,), num_hidden=5, flatten=False, ref=lambda x, w, b: x @ w.T + b)
case("FullyConnected", (3,), (4, 1), (4,), num_hidden=4, ref=_fully_connected)
case("Activation", (3, 4), act_type="relu", ref=lambda x: np.where(x > 0, x, 0))
case("Activation", halves, act_type="relu", ref=lambda x: np.where(x > 0, x, 0),
     gradient={"data": lambda x, g: (x > 0) * g})
case("Activation", (3, 4), act_type="sigmoid", ref=sigmoid)
case("Activation", (3, 4), act_type="tanh", ref=np.tanh)
case("Activation", (3, 4), act_type="softrelu", ref=lambda x: np.log1p(np.exp(x)))
case("Activation", (3, 4), act_type="softsign", ref=lambda x: x / (1 + np.abs(x)))


def _dropout(x, rng, p=0.25):
    mask = (rng.random(x.shape, dtype=np.float32) >= p) / (1 - p)
    return {"out": x * mask, "mask": mask}


def _masked(x, mask):
    return {"out": x * mask, "mask": mask}


case("Dropout", (20, 10), p=0.25, train=True, dtypes=("float32", "float16"), ref=_dropout)
case("Dropout", (5, 4), p=0.25, ref=lambda x: {"out": x, "mask": np.ones_like(x)})
case("Dropout", (5, 4), p=0, train=True, ref=lambda x: {"out": x, "mask": np.ones_like(x)})
case("Dropout", (5, 4), p=1, train=True, mxnet="0 / 0, so NaN everywhere", ref=lambda x: {"out": 0 * x, "mask": 0 * x})
case("Dropout", (5, 4), p=0.25, mode="always", dtypes=("float32",), ref=_dropout)
case("Dropout", (5, 4, 3), p=0.25, axes=(0, -1), train=True, dtypes=("float32",),
     ref=lambda x, rng: _masked(x, _dropout(x[:1, :, :1], rng)["mask"]))


case("SoftmaxActivation", (3, 4), ref=softmax)
case("SoftmaxActivation", (3, 2, 4), ref=softmax,
     mxnet="forward goes along the last axis, but backward over all of an instance")
case("SoftmaxActivation", (3, 4, 2), mode="channel", ref=lambda x: softmax(x, 1))
case("SoftmaxActivation", (3, 4, 2), type="channel", ref=lambda x: softmax(x, 1))
case("softmax", (3, 4), ref=softmax)
case("softmax", (3, 4, 2), axis=1, temperature=2.0, ref=lambda x: softmax(x / 2, 1))
case("softmin", (3, 4), ref=lambda x: softmax(-x))
case("softmin", (3, 4, 2), axis=1, temperature=2.0, ref=lambda x: softmax(-x / 2, 1))
case("log_softmax", (3, 4), ref=lambda x: np.log(softmax(x)))
case("log_softmax", (3, 4, 2), axis=0, temperature=0.5, ref=lambda x: np.log(softmax(x * 2, 0)))


def _softmax_of_parts(x, length):
    """Along axis 1 of (N, K, M), each line as long as length (N, M) says."""
    out = np.zeros_like(x)
    for n, m in np.ndindex(length.shape):
        k = int(length[n, m])
        if k > 0:
            out[n, :k, m] = softmax(x[n, :k, m])
    return out


case("softmax", (2, 3, 4), fixed([[1, 2, 3, 3], [1, 1, 0, 2]], "int32"), axis=1, use_length=True,
     ref=_softmax_of_parts)
case("softmax", (3, 4), fixed([1, 2, 0], "int32"), use_length=True, temperature=2.0,
     ref=lambda x, length: _softmax_of_parts(x[:, :, None] / 2, length[:, None])[:, :, 0])
_narrow = "computes in the narrower type"
case("softmax", (3, 4), dtype="float64", mxnet=_narrow,
     ref=softmax)
case("softmax", (3, 4), dtype="float16", dtypes=("float64",), mxnet=_narrow,
     ref=softmax)
case("log_softmax", (3, 4), dtype="float64", temperature=2.0, mxnet=_narrow,
     ref=lambda x: np.log(softmax(x / 2)))
case("softmin", (3, 4), dtype="float64", mxnet=_narrow,
     ref=lambda x: softmax(-x))
