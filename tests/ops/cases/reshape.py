"""Rows: other shapes, other orders, repeats."""

import numpy as np

from tests.ops.cases.table import case

# fmt: off
case("transpose", (2, 3, 4), ref=np.transpose)
case("transpose", (2, 3, 4), axes=(1, -1, 0), ref=lambda x: x.transpose(1, 2, 0))
case("SwapAxis", (2, 3, 4), dim1=0, dim2=-1, ref=lambda x: x.swapaxes(0, 2))
case("flip", (2, 3), axis=1, ref=lambda x: x[:, ::-1])
case("flip", (2, 3), axis=(0, 1), ref=lambda x: x[::-1, ::-1])
for _shape, _result in (
    ((0, -1), (2, 12)), ((-2,), (2, 3, 4)), ((-3, 0), (6, 4)), ((0, -3), (2, 12)), ((-3, -2), (6, 4)),
    ((-1, 0), (8, 3)), ((4, 0, -1), (4, 3, 2)), ((-4, 1, 2, 0, 0), (1, 2, 3, 4)), ((0, -4, -1, 3, -2), (2, 1, 3, 4)),
    ((-4, -1, 2, -2), (1, 2, 3, 4)), ((0, 0, -4, 2, -1), (2, 3, 2, 2)), ((24,), (24,)),
):
    case("Reshape", (2, 3, 4), shape=_shape, ref=lambda x, s=_result: x.reshape(s))
case("Reshape", (2, 3, 4), shape=(-1, 0), reverse=True, ref=lambda x: x.reshape(6, 4))
case("Reshape", (2, 3, 4), shape=(0, -1), reverse=True, ref=lambda x: x.reshape(3, 8))
case("Reshape", (2, 3, 4), target_shape=(2, 0), ref=lambda x: x.reshape(2, 12))
case("Reshape", (2, 3, 4), target_shape=(0, 0), keep_highest=True, ref=lambda x: x.reshape(2, 12))
case("Flatten", (2, 3, 4), ref=lambda x: x.reshape(2, 12))
case("Flatten", (3,), ref=lambda x: x.reshape(3, 1))
case("expand_dims", (2, 3), axis=-1, ref=lambda x: x[:, :, None])
case("expand_dims", (2, 3), axis=1, ref=lambda x: x[:, None])
case("broadcast_to", (2, 1, 3), shape=(0, 4, 3), ref=lambda x: np.broadcast_to(x, (2, 4, 3)))
case("broadcast_axis", (1, 3, 1), axis=(0, 2), size=(2, 4), ref=lambda x: np.broadcast_to(x, (2, 3, 4)))
