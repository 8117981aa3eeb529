"""Rows: pooling, written out as a loop over windows."""

import itertools

import numpy as np

from tests.ops.cases.table import case


def _pool(x, take, kernel, stride=(), pad=(), sizes=None):
    """out[n, c, y] = take(the elements of x within window y, (N, C, …); bounds of the window by axis)."""
    n = len(kernel)
    stride, pad = stride or (1,) * n, pad or (0,) * n
    sizes = sizes or [(x.shape[2 + i] + 2 * pad[i] - kernel[i]) // stride[i] + 1 for i in range(n)]
    out = np.zeros((*x.shape[:2], *sizes))
    for y in itertools.product(*map(range, sizes)):
        starts = [y[i] * stride[i] - pad[i] for i in range(n)]
        inside = tuple(slice(max(0, a), a + k) for a, k in zip(starts, kernel, strict=True))
        bounds = [(a, a + k, x.shape[2 + i], pad[i]) for i, (a, k) in enumerate(zip(starts, kernel, strict=True))]
        out[(..., *y)] = take(x[(..., *inside)].reshape(*x.shape[:2], -1), bounds)
    return out


def _max(part, bounds):
    return part.max(-1)


def _sum(part, bounds):
    return part.sum(-1)


def _mean(part, bounds):
    """Over what lies within data and pad."""
    return part.sum(-1) / np.prod([min(stop, n + p) - start for start, stop, n, p in bounds])


def _mean_inside(part, bounds):
    return part.mean(-1)


def _mean_of_kernel(part, bounds):
    return part.sum(-1) / np.prod([stop - start for start, stop, _, _ in bounds])


def _last(reference):
    return lambda x: np.moveaxis(reference(np.moveaxis(x, -1, 1)), 1, -1)


SQUARE = {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1)}
UP = {**SQUARE, "pooling_convention": "full"}  # on 6 x 6 windows lie outside by more than pad

# fmt: off
case("Pooling", (2, 3, 6, 7), kernel=(2, 3), ref=lambda x: _pool(x, _max, (2, 3)))
case("Pooling", (2, 3, 6, 7), **SQUARE, ref=lambda x: _pool(x, _max, **SQUARE))
case("Pooling", (2, 3, 6, 6), **UP, ref=lambda x: _pool(x, _max, **SQUARE, sizes=(4, 4)))
case("Pooling", (2, 16, 5, 5), kernel=(2, 2), stride=(2, 2), pooling_convention="full",
     ref=lambda x: _pool(x, _max, (2, 2), (2, 2), sizes=(3, 3)))
case("Pooling", (2, 32, 6, 6), kernel=(3, 3), stride=(2, 2), pad=(1, 1), ref=lambda x: _pool(x, _max, **SQUARE))
case("Pooling", (2, 16, 6, 6), pool_type="avg", **SQUARE, ref=lambda x: _pool(x, _mean, **SQUARE))
case("Pooling", (2, 16, 8), kernel=(2,), ref=lambda x: _pool(x, _max, (2,)))
case("Pooling", (2, 3, 9), kernel=(2,), stride=(2,), ref=lambda x: _pool(x, _max, (2,), (2,)))
case("Pooling", (1, 2, 4, 5, 6), kernel=(2, 3, 2), stride=(2, 1, 2), pad=(0, 1, 1),
     ref=lambda x: _pool(x, _max, (2, 3, 2), (2, 1, 2), (0, 1, 1)))
case("Pooling", (2, 3, 5, 6), global_pool=True, ref=lambda x: x.max((2, 3), keepdims=True))
case("Pooling", (1, 1, 18, 17), kernel=(16, 16), ref=lambda x: _pool(x, _max, (16, 16)))
case("Pooling", (2, 5, 5, 3), kernel=(2, 2), layout="NHWC", ref=_last(lambda x: _pool(x, _max, (2, 2))))
case("Pooling", (2, 1, 5), kernel=(2,), stride=(2,), pooling_convention="same",
     ref=lambda x: _pool(x, _max, (2,), (2,), sizes=(3,)), mxnet="its oneDNN build refuses")
case("Pooling", np.ones((1, 1, 4, 4)), kernel=(3, 3), ref=lambda x: np.ones((1, 1, 2, 2)),
     gradient={"data": lambda x, g: np.pad(g, ((0, 0), (0, 0), (0, 2), (0, 2)))})
case("Pooling", (2, 3, 6, 7), pool_type="avg", **SQUARE, ref=lambda x: _pool(x, _mean, **SQUARE))
case("Pooling", (2, 3, 6, 6), pool_type="avg", **UP, ref=lambda x: _pool(x, _mean, **SQUARE, sizes=(4, 4)))
case("Pooling", (2, 3, 6, 6), pool_type="avg", count_include_pad=False, **UP,
     ref=lambda x: _pool(x, _mean_inside, **SQUARE, sizes=(4, 4)))
case("Pooling", (2, 3, 7, 7), pool_type="avg", kernel=(2, 2), stride=(2, 2), pooling_convention="full",
     ref=lambda x: _pool(x, _mean_inside, (2, 2), (2, 2), sizes=(4, 4)), mxnet="its gradient is not that of its values")
case("Pooling", (2, 16, 4, 4), pool_type="avg", global_pool=True, kernel=(2, 2), pad=(1, 1),
     ref=lambda x: x.mean((2, 3), keepdims=True))
case("Pooling", (2, 3, 6, 6), pool_type="sum", **SQUARE, ref=lambda x: _pool(x, _sum, **SQUARE))
case("Pooling", (2, 3, 8), pool_type="sum", kernel=(3,), ref=lambda x: _pool(x, _sum, (3,)))
case("Pooling", (2, 3, 5), pool_type="lp", p_value=2, kernel=(2,), between=(0.5, 2),
     ref=lambda x: _pool(x, lambda part, _: (np.abs(part) ** 2).sum(-1) ** 0.5, (2,)))
case("Pooling", (2, 3, 5), pool_type="lp", p_value=1, kernel=(3,), ref=lambda x: _pool(x, _sum, (3,)))
case("Pooling", (2, 3, 5), pool_type="lp", p_value=3, kernel=(3,),
     ref=lambda x: _pool(x, lambda part, _: np.cbrt((part**3).sum(-1)), (3,)))
case("Pooling_v1", (2, 3, 6, 6), pool_type="avg", **UP,
     ref=lambda x: _pool(x, _mean_of_kernel, **SQUARE, sizes=(4, 4)))
case("Pooling_v1", (2, 3, 6, 6), **UP, ref=lambda x: _pool(x, _max, **SQUARE, sizes=(4, 4)),
     mxnet="it lets zeros within pad win, and gives every maximum of a window the gradient")
