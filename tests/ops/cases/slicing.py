"""Rows: joins and cuts."""

import numpy as np

from tests.ops.cases.table import case

# fmt: off
case("Concat", (2, 3), (2, 1), (2, 2), num_args=3, ref=lambda *a: np.concatenate(a, axis=1))
case("Concat", (2, 3, 2), (2, 3, 3), num_args=2, dim=-1, ref=lambda *a: np.concatenate(a, axis=2))
case("SliceChannel", (2, 6, 3), num_outputs=3, ref=lambda x: (x[:, :2], x[:, 2:4], x[:, 4:]))
case("SliceChannel", (3, 2), num_outputs=2, axis=-1, squeeze_axis=True, ref=lambda x: (x[:, 0], x[:, 1]))
case("SliceChannel", (2, 3), num_outputs=1, ref=lambda x: x)
case("slice_axis", (3, 5), axis=1, begin=1, end=-1, ref=lambda x: x[:, 1:-1])
case("slice_axis", (3, 5), axis=-2, begin=-2, end=None, ref=lambda x: x[-2:])
case("crop", (3, 5, 2), begin=(1, 0), end=(3, -1), ref=lambda x: x[1:3, 0:-1])
case("crop", (3, 5), begin=(None, -4), end=(2, None), ref=lambda x: x[:2, -4:])


def _with_region(x, value):
    x = x.copy()
    x[1:, :-2] = value
    return x


case("_crop_assign", (3, 5, 2), (2, 3, 2), begin=(1, None), end=(None, -2), ref=_with_region)
case("_crop_assign_scalar", (3, 5, 2), begin=(1, None), end=(None, -2), scalar=2.5, ref=lambda x: _with_region(x, 2.5))
