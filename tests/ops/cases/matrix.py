"""Rows: products of matrices."""

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
