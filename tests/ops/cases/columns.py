"""Rows: windows as columns."""

import numpy as np

from tests.ops.cases.table import case


# fmt: off
def _columns(x, kernel, stride=1, pad=0, dilate=1):
    """Windows of (N, C, H, W), place by place; `kernel` is (rows, columns), the others count for both axes."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    height, width = (n - dilate * (k - 1) for n, k in zip(x.shape[2:], kernel, strict=True))
    parts = [x[:, :, dilate * i : dilate * i + height : stride, dilate * j : dilate * j + width : stride]
             for i in range(kernel[0]) for j in range(kernel[1])]
    stacked = np.stack(parts, axis=2)
    return stacked.reshape(len(x), x.shape[1] * len(parts), -1)


def _image(columns, shape, **settings):
    """By the definition of the transpose: each element of the image gets what its own columns, all 0 but 1, meet."""
    out = np.zeros(shape)
    for index in np.ndindex(*shape):
        one = np.zeros(shape)
        one[index] = 1
        out[index] = (_columns(one, **settings) * columns).sum()
    return out


case("im2col", (2, 3, 4, 5), kernel=(2, 3), ref=lambda x: _columns(x, (2, 3)))
case("im2col", (1, 2, 5, 6), kernel=(3, 2), stride=(2, 2), pad=(1, 1), dilate=(2, 2),
     ref=lambda x: _columns(x, (3, 2), 2, 1, 2))
case("im2col", (2, 2, 6), kernel=(3,), stride=(2,), pad=(1,),
     ref=lambda x: np.pad(x, ((0, 0), (0, 0), (1, 1)))[:, :, [[0, 2, 4], [1, 3, 5], [2, 4, 6]]].reshape(2, 6, 3))
case("col2im", (2, 8, 6), output_size=(3, 4), kernel=(2, 2), ref=lambda x: _image(x, (2, 2, 3, 4), kernel=(2, 2)))
case("col2im", (1, 6, 6), output_size=(4, 5), kernel=(3, 2), stride=(2, 2), pad=(1, 1),
     ref=lambda x: _image(x, (1, 1, 4, 5), kernel=(3, 2), stride=2, pad=1))
