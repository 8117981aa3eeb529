"""Rows: activations."""

import math

import numpy as np

from tests.ops.cases.reference import halves
from tests.ops.cases.table import case


# fmt: off
def _else(below):
    return lambda x: np.where(x > 0, x, below(x))


def _gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def _prelu(x, gamma):
    return np.where(x > 0, x, x * gamma.reshape(gamma.shape + (1,) * (x.ndim - 2)))


def _rrelu(x, rng, low=0.25, high=0.5):
    mask = rng.random(x.shape, dtype=np.float32) * (high - low) + low
    return {"out": np.where(x > 0, x, mask * x), "mask": mask}


case("LeakyReLU", (3, 4), ref=_else(lambda x: 0.25 * x))
case("LeakyReLU", (3, 4, 2), slope=1.5, ref=_else(lambda x: 1.5 * x))
case("LeakyReLU", halves, act_type="leaky", slope=0.125, ref=_else(lambda x: 0.125 * x),
     gradient={"data": lambda x, g: g * np.where(x > 0, 1, 0.125)})
for _data, _gamma in (((3, 4), (4,)), ((3, 4, 2, 2), (4,)), ((3, 4, 2), (1,)), ((3, 4), (3, 4)), ((5,), (1,))):
    case("LeakyReLU", _data, _gamma, act_type="prelu", ref=_prelu)
case("LeakyReLU", (3, 4), act_type="elu", slope=0.5, ref=_else(lambda x: 0.5 * np.expm1(x)))
case("LeakyReLU", (3, 4), act_type="selu", mxnet="its gradient has 1.05 too often",
     ref=lambda x: 1.0507009873554805 * _else(lambda x: 1.6732632423543772 * np.expm1(x))(x))
case("LeakyReLU", (3, 4), act_type="gelu", between=(-4, 4), ref=_gelu)
case("LeakyReLU", (20, 10), act_type="rrelu", lower_bound=0.25, upper_bound=0.5, train=True,
     dtypes=("float32", "float16"), ref=_rrelu)
case("LeakyReLU", (3, 4), act_type="rrelu", lower_bound=0.25, upper_bound=0.5,
     ref=lambda x: {"out": _else(lambda x: 0.375 * x)(x), "mask": np.full_like(x, 0.375)})
case("hard_sigmoid", (3, 4), between=(-4, 4), ref=lambda x: np.clip(0.2 * x + 0.5, 0, 1))
case("hard_sigmoid", (3, 4), alpha=0.5, beta=0.25, ref=lambda x: np.clip(0.5 * x + 0.25, 0, 1))
