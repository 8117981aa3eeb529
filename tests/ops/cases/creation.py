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
case("_random_uniform", low=-1, high=3, shape=(4, 5), dtypes=("float32",),
     ref=lambda rng: rng.random((4, 5), dtype=np.float32) * 4 - 1)
case("_random_normal", loc=1, scale=2, shape=(4, 5), dtype="float64", dtypes=("float64",),
     ref=lambda rng: rng.standard_normal((4, 5)) * 2 + 1)
case("_random_normal", shape=(4, 5), dtype="float16", dtypes=("float16",),
     ref=lambda rng: rng.standard_normal((4, 5), dtype=np.float32))
