"""Rows: tables."""

import numpy as np

from tests.ops.cases.table import FLOATS, case, classes

# fmt: off
_repeated = np.array([[2.0, 0, 2], [1, 2, 0]])


def _sums(x, w, g):
    total = np.zeros_like(w)
    np.add.at(total, np.clip(x.astype(int), 0, len(w) - 1), g)
    return total


case("Embedding", classes((3, 2), 5), (5, 4), input_dim=5, output_dim=4, ref=lambda x, w: w[x], dtypes=FLOATS)
case("Embedding", _repeated, (4, 3), input_dim=4, output_dim=3, ref=lambda x, w: w[x.astype(int)])
case("Embedding", np.array([-1.0, 1.9, 3, 7]), (4, 3), input_dim=4, output_dim=3,
     ref=lambda x, w: w[[0, 1, 3, 3]], gradient={"weight": _sums})
case("Embedding", _repeated, (4, 3), input_dim=4, output_dim=3, sparse_grad=True, ref=lambda x, w: w[x.astype(int)],
     mxnet="it wants a sparse array for the gradient")
case("Embedding", classes(4, 3), (3, 2), input_dim=3, output_dim=2, dtype="int32", dtypes=("int32", "uint8"),
     ref=lambda x, w: w[x])
