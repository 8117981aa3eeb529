"""Rows: extents of images."""

import numpy as np

from tests.ops.cases.table import INTS, case


# fmt: off
def _padded(x, width, **how):
    return np.pad(x, np.reshape(width, (-1, 2)), **how)


_widths = ((0, 0, 0, 0, 1, 2, 3, 1), (0, 0, 0, 0, 0, 2, 1, 0))
for _width in _widths:
    for _mode in ("constant", "edge", "reflect"):
        case("Pad", (2, 3, 4, 5), mode=_mode, pad_width=_width, ref=lambda x, m=_mode, w=_width: _padded(x, w, mode=m))
case("Pad", (2, 3, 4, 5), mode="constant", pad_width=_widths[0], constant_value=2.5, dtypes=("float32", *INTS),
     between=(0, 100), ref=lambda x: _padded(x, _widths[0], constant_values=np.array(2.5).astype(x.dtype)))
for _mode in ("constant", "edge", "reflect"):
    case("Pad", (2, 1, 3, 2, 4), mode=_mode, pad_width=(0, 0, 0, 0, 1, 2, 1, 1, 0, 3),
         ref=lambda x, m=_mode: _padded(x, (0, 0, 0, 0, 1, 2, 1, 1, 0, 3), mode=m))
case("Crop", (2, 3, 5, 6), num_args=1, h_w=(2, 4), ref=lambda x: x[:, :, :2, :4])
case("Crop", (2, 3, 5, 6), num_args=1, h_w=(2, 4), offset=(3, 1), ref=lambda x: x[:, :, 3:, 1:5])
case("Crop", (2, 3, 5, 6), num_args=1, h_w=(2, 4), center_crop=True, ref=lambda x: x[:, :, 1:3, 1:5])
case("Crop", (2, 3, 5, 6), (2, 1, 4, 4), num_args=2, offset=(1, 2), ref=lambda x, like: x[:, :, 1:, 2:])
case("Crop", (2, 3, 5, 6), (2, 1, 2, 3), num_args=2, center_crop=True, ref=lambda x, like: x[:, :, 1:3, 1:4])


def _repeated(x, n):
    return x.repeat(n, 2).repeat(n, 3)


case("UpSampling", (2, 3, 2, 3), scale=2, sample_type="nearest", num_args=1, ref=lambda x: _repeated(x, 2))
case("UpSampling", (2, 3, 2, 3), scale=3, sample_type="nearest", multi_input_mode="sum", num_args=1,
     ref=lambda x: _repeated(x, 3))
case("UpSampling", (2, 3, 4, 6), (2, 1, 8, 12), (2, 2, 2, 3), scale=2, sample_type="nearest", num_args=3,
     ref=lambda a, b, c: np.concatenate([_repeated(a, 2), b, _repeated(c, 4)], axis=1))
case("UpSampling", (2, 3, 4, 6), (2, 3, 8, 12), (2, 3, 2, 3), scale=2, sample_type="nearest", num_args=3,
     multi_input_mode="sum", ref=lambda a, b, c: _repeated(a, 2) + b + _repeated(c, 4))


def _spread(x, w, s):
    """Each element of x adds its kernel to a canvas, of which the middle is cut out."""
    k, pad, (h, v) = w.shape[-1], s // 2, x.shape[2:]
    canvas = np.zeros((*x.shape[:2], s * (h - 1) + k, s * (v - 1) + k))
    for i in range(h):
        for j in range(v):
            canvas[:, :, s * i : s * i + k, s * j : s * j + k] += x[:, :, i, j, None, None] * w[None, :, 0]
    return canvas[:, :, pad : pad + s * h, pad : pad + s * v]


for _scale, _kernel in ((2, 4), (3, 5), (1, 1), (4, 8)):
    case("UpSampling", (2, 3, 2, 4), (3, 1, _kernel, _kernel), scale=_scale, sample_type="bilinear", num_filter=3,
         num_args=2, ref=lambda x, w, s=_scale: _spread(x, w, s))
