"""Rows: matrices."""

import numpy as np

from tests.ops.cases.table import case, classes

# fmt: off
case("dot", (4, 3), (3, 5), ref=np.dot)
case("dot", (3,), (3,), ref=lambda a, b: np.array([a @ b]))
case("dot", (2, 3), (3,), ref=np.dot)
case("dot", (3, 4), (3, 5), transpose_a=True, ref=lambda a, b: a.T @ b)
case("dot", (4, 3), (5, 3), transpose_b=True, ref=lambda a, b: a @ b.T)
case("dot", (3, 4), (5, 3), transpose_a=True, transpose_b=True, ref=lambda a, b: a.T @ b.T)
case("dot", (2, 3, 4), (4, 5, 6), ref=lambda a, b: np.einsum("abk,kcd->abcd", a, b))
case("dot", (4, 2, 3), (5, 6, 4), transpose_a=True, transpose_b=True,
     ref=lambda a, b: np.einsum("kab,cdk->abcd", a, b))
case("dot", classes((2, 3), 5), classes((3, 4), 5), dtypes=("int32",), ref=np.dot)
case("batch_dot", (2, 3, 4), (2, 4, 5), ref=np.matmul)
case("batch_dot", (2, 2, 4, 3), (2, 2, 4, 5), transpose_a=True, ref=lambda a, b: np.einsum("xykm,xykn->xymn", a, b))
case("batch_dot", (2, 3, 4), (2, 5, 4), transpose_b=True, ref=lambda a, b: np.einsum("xmk,xnk->xmn", a, b))
case("batch_dot", (2, 4, 3), (2, 5, 4), transpose_a=True, transpose_b=True,
     ref=lambda a, b: np.einsum("xkm,xnk->xmn", a, b))
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
case("element_mask", (3, 2, 2), (3,), constant=("rhs",), ref=lambda x, m: x * m[:, None, None])
case("broadcast_to", (2, 1, 3), shape=(0, 4, 3), ref=lambda x: np.broadcast_to(x, (2, 4, 3)))
case("broadcast_axis", (1, 3, 1), axis=(0, 2), size=(2, 4), ref=lambda x: np.broadcast_to(x, (2, 3, 4)))
case("Cast", (2, 3), dtype="float64", dtypes=("float32",), ref=lambda x: x)
case("Cast", np.array([-1.75, 1.75, 3]), dtype="int32", ref=np.trunc, constant=("data",))
case("Cast", np.array([-1, 2]), dtype="float32", dtypes=("int8", "int64"), ref=lambda x: x)
case("clip", (3, 4), a_min=-0.5, a_max=0.25, ref=lambda x: np.minimum(np.maximum(x, -0.5), 0.25))
case("clip", np.array([-0.75, -0.5, 0, 0.25, 0.5]), a_min=-0.5, a_max=0.25,
     ref=lambda x: np.array([-0.5, -0.5, 0, 0.25, 0.25]),
     gradient={"data": lambda x, g: np.array([0, 1, 1, 1, 0]) * g})
case("clip", np.array([1, 5, 9]), a_min=2.5, a_max=7.5, dtypes=("int32",), ref=lambda x: np.array([2, 5, 7]))
case("choose_element_0index", (4, 3), classes(4, 3), ref=lambda x, i: x[range(4), i])
case("fill_element_0index", (4, 3), (4,), classes(4, 3), constant=("lhs", "mhs"),
     ref=lambda x, v, i: np.where(np.arange(3) == i[:, None], v[:, None], x))
case("_onehot_encode", classes(4, 3), (4, 3), ref=lambda i, rows: np.eye(3)[i])
