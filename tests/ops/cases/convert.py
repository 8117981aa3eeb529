"""Rows: other element types."""

import numpy as np

from tests.ops.cases.table import case

# fmt: off
case("Cast", (2, 3), dtype="float64", dtypes=("float32",), ref=lambda x: x)
case("Cast", np.array([-1.75, 1.75, 3]), dtype="int32", ref=np.trunc, constant=("data",))
case("Cast", np.array([-1, 2]), dtype="float32", dtypes=("int8", "int64"), ref=lambda x: x)
