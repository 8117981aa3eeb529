"""Rows: from nothing."""

import numpy as np

from tests.ops.cases.table import case

# fmt: off
case("_zeros", shape=(2, 3), dtypes=("float32",), ref=lambda: np.zeros((2, 3)))
case("_ones", shape=(2,), dtype="int32", dtypes=("int32",), ref=lambda: np.ones(2))
case("_full", shape=(2, 3), value=2.5, dtypes=("float32",), ref=lambda: np.full((2, 3), 2.5))
case("_arange", start=5, dtypes=("float32",), ref=lambda: np.arange(5))
case("_arange", start=1, stop=5, step=1.5, repeat=2, dtype="float64", dtypes=("float64",),
     ref=lambda: np.repeat([1, 2.5, 4], 2))
case("_set_value", src=1.5, dtypes=("float32", "float64"), ref=lambda: np.full((2, 3), 1.5))
case("_set_value", src=-1, dtypes=("uint8",), ref=lambda: np.full((2, 3), 255))
case("_arange", start=2, step=0.5, infer_range=True, stop=4, dtypes=("float32",), ref=lambda: np.arange(2, 4, 0.5))
case("_arange", start=10, stop=0, step=-3, dtype="int32", dtypes=("int32",), ref=lambda: np.arange(10, 0, -3))
case("_linspace", start=1, stop=3, num=5, dtypes=("float32",), ref=lambda: np.linspace(1, 3, 5))
case("_linspace", start=3, stop=1, num=4, endpoint=False, dtypes=("float32",), ref=lambda: np.linspace(3, 1, 4, False))
case("_linspace", start=2.5, stop=9, num=1, dtypes=("float32",), ref=lambda: np.array([2.5]))
case("_contrib_arange_like", (2, 3), start=1, step=0.5, ref=lambda x: np.arange(1, 4, 0.5).reshape(2, 3))
case("_contrib_arange_like", (2, 3), axis=-1, start=2, ref=lambda x: np.arange(2, 5))
case("_contrib_arange_like", (2, 3), repeat=2, ref=lambda x: np.array([[0, 0, 1], [1, 2, 2]]))
case("_eye", N=3, dtypes=("float32",), ref=lambda: np.eye(3))
case("_eye", N=2, M=4, k=-1, dtype="int32", dtypes=("int32",), ref=lambda: np.eye(2, 4, -1))
