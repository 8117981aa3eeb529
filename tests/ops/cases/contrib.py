"""Rows: small operators of the contrib family."""

import numpy as np

from tests.ops.cases.table import case

# fmt: off
case("_contrib_div_sqrt_dim", (2, 3, 5), ref=lambda x: x / np.sqrt(5))
case("_contrib_quadratic", (3, 4), a=0.5, b=-2, c=3, ref=lambda x: 0.5 * x * x - 2 * x + 3)
case("_contrib_quadratic", (3, 4), ref=lambda x: 0 * x)
case("_contrib_quadratic", np.array([1, 2, 3]), a=2, b=1, c=1, dtypes=("int32",), ref=lambda x: 2 * x * x + x + 1)
