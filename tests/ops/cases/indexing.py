"""Rows: elements chosen by numbers."""

import numpy as np

from tests.ops.cases.table import case, classes

# fmt: off
case("element_mask", (3, 2, 2), (3,), constant=("rhs",), ref=lambda x, m: x * m[:, None, None])
case("choose_element_0index", (4, 3), classes(4, 3), ref=lambda x, i: x[range(4), i])
case("fill_element_0index", (4, 3), (4,), classes(4, 3), constant=("lhs", "mhs"),
     ref=lambda x, v, i: np.where(np.arange(3) == i[:, None], v[:, None], x))
case("_onehot_encode", classes(4, 3), (4, 3), ref=lambda i, rows: np.eye(3)[i])
