"""Rows: other element types."""

import numpy as np

from tests.ops.cases.table import case, fixed

# fmt: off
case("Cast", (2, 3), dtype="float64", dtypes=("float32",), ref=lambda x: x)
case("Cast", np.array([-1.75, 1.75, 3]), dtype="int32", ref=np.trunc, constant=("data",))
case("Cast", np.array([-1, 2]), dtype="float32", dtypes=("int8", "int64"), ref=lambda x: x)
case("amp_cast", (2, 3), dtype="float16", dtypes=("float32", "float64"), ref=lambda x: x.astype("float16"),
     gradient={"data": lambda x, g: g}, mxnet="crashes")
case("amp_cast", (2, 3), dtype="float32", ref=lambda x: x, gradient={"data": lambda x, g: g})
case("amp_cast", np.array([1, 2]), dtype="float16", dtypes=("int32",), ref=lambda x: x, mxnet="crashes")
case("amp_multicast", (2, 3), (2,), num_outputs=2, ref=lambda x, y: (x, y))
case("amp_multicast", (2, 3), fixed([1.5, 2], "float16"), num_outputs=2, dtypes=("float64",), mxnet="crashes",
     ref=lambda x, y: (x, y))
case("amp_multicast", (2, 3), fixed([1.5, 2], "float16"), num_outputs=2, cast_narrow=True, dtypes=("float64",),
     mxnet="crashes", ref=lambda x, y: (x.astype("float16"), y))
case("amp_multicast", fixed([1.5, 2], "float16"), np.array([3]), num_outputs=2, dtypes=("int32",), mxnet="crashes",
     ref=lambda x, y: (x, y))
case("cast_storage", (2, 3), stype="default", ref=lambda x: x)
case("cast_storage", (2, 3), stype="row_sparse", mxnet="the result is sparse", ref=lambda x: x)
