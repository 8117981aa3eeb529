"""Rows: convolution and its transpose, written out as loops over every position."""

import itertools

import numpy as np

from tests.ops.cases.table import case


def _ones(value, n, default):
    return value or (default,) * n


def convolve(x, w, b=0, *, stride=(), dilate=(), pad=(), groups=1):
    """out[n, f, y] = the sum over k, and channels c of f's group, of x[n, c, y s + k d - p] w[f, c, k]."""
    n = x.ndim - 2
    stride, dilate, pad = _ones(stride, n, 1), _ones(dilate, n, 1), _ones(pad, n, 0)
    x = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in pad)))
    sizes = [(x.shape[2 + i] - dilate[i] * (w.shape[2 + i] - 1) - 1) // stride[i] + 1 for i in range(n)]
    out = np.zeros((x.shape[0], w.shape[0], *sizes))
    part, filters = w.shape[1], w.shape[0] // groups
    for y in itertools.product(*map(range, sizes)):
        for k in itertools.product(*map(range, w.shape[2:])):
            at = tuple(y[i] * stride[i] + k[i] * dilate[i] for i in range(n))
            for f in range(w.shape[0]):
                c = f // filters * part
                out[(slice(None), f, *y)] += x[(slice(None), slice(c, c + part), *at)] @ w[(f, slice(None), *k)]
    return out + np.reshape(b, (-1, *(1,) * n))


def deconvolve(x, w, b=0, *, stride=(), dilate=(), pad=(), adj=(), groups=1, target=None):
    """What each x[n, c, y], times w[c, f], adds to out at y s + k d - p."""
    n = x.ndim - 2
    stride, dilate = _ones(stride, n, 1), _ones(dilate, n, 1)
    pad, adj = _ones(pad, n, 0), _ones(adj, n, 0)
    reach = [stride[i] * (x.shape[2 + i] - 1) + dilate[i] * (w.shape[2 + i] - 1) + 1 for i in range(n)]
    sizes = target or [reach[i] - 2 * pad[i] + adj[i] for i in range(n)]
    pad = pad if target is None else [(reach[i] - target[i] + 1) // 2 for i in range(n)]
    part, channels = w.shape[1], w.shape[0] // groups
    out = np.zeros((x.shape[0], part * groups, *sizes))
    for y in itertools.product(*map(range, x.shape[2:])):
        for k in itertools.product(*map(range, w.shape[2:])):
            at = tuple(y[i] * stride[i] + k[i] * dilate[i] - pad[i] for i in range(n))
            if all(0 <= a < s for a, s in zip(at, sizes, strict=True)):
                for c in range(w.shape[0]):
                    f = c // channels * part
                    grown = np.multiply.outer(x[(slice(None), c, *y)], w[(c, slice(None), *k)])
                    out[(slice(None), slice(f, f + part), *at)] += grown
    return out + np.reshape(b, (-1, *(1,) * n))


def _channels_last(reference):
    """The same for data (N, *X, C) and weight (F, *kernel, C)."""

    def wrapped(x, w, b=0):
        return np.moveaxis(reference(np.moveaxis(x, -1, 1), np.moveaxis(w, -1, 1), b), 1, -1)

    return wrapped


def _row(op, reference, *inputs, **params):
    """A row whose reference takes the same parameters."""
    names = {"stride": "stride", "dilate": "dilate", "pad": "pad", "num_group": "groups", "adj": "adj",
             "target_shape": "target"}  # fmt: skip
    settings = {names[k]: v for k, v in params.items() if k in names}
    case(op, *inputs, ref=lambda x, w, b=0: reference(x, w, b, **settings), **params)


# fmt: off
_row("Convolution", convolve, (2, 3, 7, 6), (4, 3, 3, 2), (4,), kernel=(3, 2), num_filter=4)
_row("Convolution", convolve, (2, 3, 7, 6), (4, 3, 3, 3), kernel=(3, 3), num_filter=4, pad=(1, 1), no_bias=True)
_row("Convolution", convolve, (2, 3, 8, 9), (4, 3, 3, 3), (4,), kernel=(3, 3), num_filter=4, stride=(2, 3), pad=(1, 2))
_row("Convolution", convolve, (2, 3, 9, 8), (2, 3, 3, 2), (2,), kernel=(3, 2), num_filter=2, dilate=(2, 3), pad=(2, 0))
_row("Convolution", convolve, (2, 4, 5, 5), (6, 2, 3, 3), (6,), kernel=(3, 3), num_filter=6, num_group=2, stride=(2, 2))
_row("Convolution", convolve, (2, 4, 5, 5), (4, 1, 3, 3), kernel=(3, 3), num_filter=4, num_group=4, no_bias=True)
_row("Convolution", convolve, (2, 3, 4, 4), (5, 3, 1, 1), (5,), kernel=(1, 1), num_filter=5, stride=(2, 2))
_row("Convolution", convolve, (1, 1, 3, 3), (2, 1, 3, 3), (2,), kernel=(3, 3), num_filter=2)
_row("Convolution", convolve, (2, 16, 5, 5), (32, 16, 3, 3), (32,), kernel=(3, 3), num_filter=32, pad=(1, 1))
_row("Convolution", convolve, (2, 32, 6, 5), (16, 32, 3, 3), kernel=(3, 3), num_filter=16, dilate=(2, 1), stride=(1, 2),
     no_bias=True)
_row("Convolution", convolve, (2, 16, 5, 5), (16, 1, 3, 3), (16,), kernel=(3, 3), num_filter=16, num_group=16)
_row("Convolution", convolve, (2, 16, 9), (16, 16, 3), (16,), kernel=(3,), num_filter=16, pad=(1,))
_row("Convolution", convolve, (1, 16, 4, 3, 4), (16, 16, 2, 2, 2), (16,), kernel=(2, 2, 2), num_filter=16)
_row("Convolution", convolve, (2, 3, 9), (4, 3, 3), (4,), kernel=(3,), num_filter=4, stride=(2,), pad=(1,))
_row("Convolution", convolve, (2, 4, 9), (4, 2, 2), kernel=(2,), num_filter=4, num_group=2, dilate=(3,), no_bias=True)
_row("Convolution", convolve, (1, 2, 4, 5, 4), (3, 2, 2, 3, 2), (3,), kernel=(2, 3, 2), num_filter=3, pad=(1, 0, 1),
     stride=(1, 2, 2))
case("Convolution", (2, 6, 5, 3), (4, 3, 2, 3), (4,), kernel=(3, 2), num_filter=4, layout="NHWC",
     ref=_channels_last(convolve))

_row("Deconvolution", deconvolve, (2, 3, 4, 5), (3, 4, 3, 2), kernel=(3, 2), num_filter=4)
_row("Deconvolution", deconvolve, (2, 3, 4, 3), (3, 2, 3, 3), (2,), kernel=(3, 3), num_filter=2, stride=(2, 3),
     pad=(1, 0), adj=(1, 2), no_bias=False)
_row("Deconvolution", deconvolve, (2, 4, 3, 3), (4, 3, 2, 2), kernel=(2, 2), num_filter=6, num_group=2, stride=(2, 2))
_row("Deconvolution", deconvolve, (2, 3, 4, 4), (3, 2, 2, 3), kernel=(2, 3), num_filter=2, dilate=(2, 1), pad=(0, 1))
_row("Deconvolution", deconvolve, (1, 2, 3, 3), (2, 1, 4, 4), kernel=(4, 4), num_filter=1, stride=(2, 2),
     target_shape=(7, 6))
_row("Deconvolution", deconvolve, (2, 16, 4, 4), (16, 16, 3, 3), (16,), kernel=(3, 3), num_filter=16, stride=(2, 2),
     pad=(1, 1), adj=(1, 1), no_bias=False)
_row("Deconvolution", deconvolve, (2, 3, 5), (3, 2, 4), (2,), kernel=(4,), num_filter=2, stride=(2,), pad=(1,),
     no_bias=False)
_row("Deconvolution", deconvolve, (1, 2, 2, 3, 2), (2, 3, 2, 2, 3), kernel=(2, 2, 3), num_filter=3, stride=(2, 1, 2),
     pad=(0, 1, 1))
case("Deconvolution", (2, 3, 4, 3), (3, 2, 2, 2), kernel=(2, 2), num_filter=2, stride=(2, 2), layout="NHWC",
     ref=_channels_last(lambda x, w, b: deconvolve(x, w, b, stride=(2, 2))))
