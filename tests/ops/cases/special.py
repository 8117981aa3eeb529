"""Rows: special functions, against integrals and series summed here."""

import math

import numpy as np

from tests.ops.cases.reference import positive
from tests.ops.cases.table import case

# fmt: off
_each = np.vectorize


def _digamma(x):
    """By recurrence to where the asymptotic series is exact."""
    below = sum(1 / (x + k) for k in range(40))
    y = x + 40
    return np.log(y) - 1 / (2 * y) - 1 / (12 * y**2) + 1 / (120 * y**4) - 1 / (252 * y**6) - below


case("erf", (3, 4), between=(-2.0, 2.0), ref=_each(math.erf))
case("erf", np.array([-9.0, 0, 9]), ref=lambda x: np.array([-1, 0, 1]))
case("erfinv", np.array([math.erf(x) for x in (-1.5, -0.5, 0, 0.25, 1)]), dtypes=("float32", "float64"),
     ref=lambda x: np.array([-1.5, -0.5, 0, 0.25, 1]))
case("erfinv", np.array([-1.0, 1, 2]), ref=lambda x: np.array([-np.inf, np.inf, np.nan]),
     gradient={"data": lambda x, g: np.array([np.inf, np.inf, np.nan]) * g})
case("gamma", (3, 4), between=positive, ref=_each(math.gamma))
case("gamma", np.array([-1.5, -0.25, 3, 5]), ref=_each(math.gamma))
case("gammaln", (3, 4), between=positive, ref=_each(math.lgamma))
case("gammaln", np.array([-1.5, -0.25, 3, 50]), ref=_each(math.lgamma))
case("digamma", (3, 4), between=positive, ref=_digamma)
