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
case("stack", (2, 3), (2, 3), num_args=2, ref=lambda *a: np.stack(a))
case("stack", (2, 3), (2, 3), (2, 3), num_args=3, axis=-1, ref=lambda *a: np.stack(a, axis=2))
case("stack", (3,), num_args=1, axis=1, ref=lambda a: a[:, None])
case("_split_v2", (2, 7), indices=(0, 2, 3), ref=lambda x: (x[:, :2], x[:, 2:3], x[:, 3:]))
case("_split_v2", (6, 2), indices=(), sections=3, axis=0, ref=lambda x: (x[:2], x[2:4], x[4:]))
case("_split_v2", (2, 3, 2), indices=(), sections=3, axis=1, squeeze_axis=True,
     ref=lambda x: (x[:, 0], x[:, 1], x[:, 2]))
case("_split_v2", (2, 3), indices="[0, 1]", axis=-1, ref=lambda x: (x[:, :1], x[:, 1:]))
case("crop", (5, 6), begin=(None, 4), end=(None, 0), step=(2, -2), ref=lambda x: x[::2, 4:0:-2])
case("crop", (5, 6), begin=(4, None), end=(None, None), step=(-1, None), ref=lambda x: x[::-1])
case("crop", (3, 4), begin=(0, 0), end=(9, -1), ref=lambda x: x[:, :-1])
case("slice_like", (4, 5), (2, 3), ref=lambda x, y: x[:2, :3])
case("slice_like", (4, 5, 6), (2, 9, 3), axes=(0, -1), ref=lambda x, y: x[:2, :, :3])
case("slice_like", (4, 5, 6), (2, 3, 9), axes=(1,), ref=lambda x, y: x[:, :3])


def _every_second(x, value):
    x = x.copy()
    x[::2, ::-1] = value
    return x


case("_crop_assign", (3, 4), (2, 4), begin=(None, None), end=(None, None), step=(2, -1), ref=_every_second)
case("_crop_assign_scalar", (3, 4), begin=(None, None), end=(None, None), step=(2, -1), scalar=2,
     ref=lambda x: _every_second(x, 2))
for _k in (-1, 0, 2):
    case("diag", (3,), k=_k, ref=lambda x, k=_k: np.diag(x, k))
    case("diag", (3, 4), k=_k, ref=lambda x, k=_k: np.diag(x, k))
case("diag", (2, 3, 4), ref=lambda x: np.diagonal(x))
case("diag", (2, 3, 4), axis1=-1, axis2=-2, k=1, ref=lambda x: np.diagonal(x, 1, 2, 1))
