"""Rows: sines and their like."""

import numpy as np

from tests.ops.cases.table import case

# fmt: off
for _name in ("cos", "sin", "tan", "sinh", "cosh", "arctan", "arcsinh", "degrees", "radians"):
    case(_name, (2, 3, 4), ref=getattr(np, _name))
for _name in ("arcsin", "arccos", "arctanh"):
    case(_name, (2, 3, 4), between=(-0.9, 0.9), ref=getattr(np, _name))
case("arccosh", (2, 3, 4), between=(1.1, 3.0), ref=np.arccosh)
case("sinh", np.array([0, 1, 2]), dtypes=("int32",), ref=lambda x: np.array([0, 1, 3]))
case("arccos", np.array([1.0, 2]), dtypes=("float32", "float64"), ref=lambda x: np.array([0, np.nan]),
     gradient={"data": lambda x, g: np.array([-np.inf * g[0], np.nan])})
