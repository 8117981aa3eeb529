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
case("squeeze", (2, 1, 3, 1), ref=lambda x: x.reshape(2, 3))
case("squeeze", (2, 1, 3, 1), axis=-1, ref=lambda x: x.reshape(2, 1, 3))
case("squeeze", (1, 2, 1), axis=(0, 2), ref=lambda x: x.reshape(2))
case("squeeze", (1, 1), ref=lambda x: x.reshape(1))
case("reshape_like", (6, 4), (2, 12), ref=lambda x, y: x.reshape(2, 12))
case("reshape_like", (15, 2), (5, 3, 4), lhs_begin=0, lhs_end=1, rhs_begin=0, rhs_end=2,
     ref=lambda x, y: x.reshape(5, 3, 2))
case("reshape_like", (2, 6, 4), (3, 2), lhs_begin=1, lhs_end=-1, ref=lambda x, y: x.reshape(2, 3, 2, 4))
case("shape_array", (2, 3, 4), constant=("data",), ref=lambda x: np.array([2, 3, 4]))
case("size_array", (2, 3, 4), constant=("data",), ref=lambda x: np.array([24]))
case("broadcast_like", (1, 3, 1), (2, 3, 4), ref=lambda x, y: np.broadcast_to(x, (2, 3, 4)))
case("broadcast_like", (1, 3), (4, 5), lhs_axes=(0,), rhs_axes=(-1,), ref=lambda x, y: np.broadcast_to(x, (5, 3)))
for _reps in ((2, 3), (2,), (2, 1, 3), (1,), ()):
    case("tile", (2, 3), reps=_reps, ref=lambda x, r=_reps: np.tile(x, r))
case("repeat", (2, 3), repeats=2, ref=lambda x: np.repeat(x, 2))
case("repeat", (2, 3), repeats=3, axis=0, ref=lambda x: np.repeat(x, 3, 0))
case("repeat", (2, 3, 2), repeats=2, axis=-2, ref=lambda x: np.repeat(x, 2, 1))


def _depth_to_space(x, size):
    n, c, h, w = x.shape
    out = np.empty((n, c // size**2, h * size, w * size))
    for i in range(size):
        for j in range(size):
            first = (i * size + j) * out.shape[1]
            out[:, :, i::size, j::size] = x[:, first : first + out.shape[1]]
    return out


def _space_to_depth(x, size):
    return np.concatenate([x[:, :, i::size, j::size] for i in range(size) for j in range(size)], axis=1)


case("depth_to_space", (2, 8, 3, 2), block_size=2, ref=lambda x: _depth_to_space(x, 2))
case("depth_to_space", (1, 9, 1, 2), block_size=3, ref=lambda x: _depth_to_space(x, 3))
case("space_to_depth", (2, 3, 4, 2), block_size=2, ref=lambda x: _space_to_depth(x, 2))
