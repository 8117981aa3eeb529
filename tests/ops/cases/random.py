"""Rows: random numbers. References draw from a generator in the same state."""

import numpy as np

from tests.ops.cases.table import case, fixed

# fmt: off
_free = {"dtypes": ("float32",)}
_wide = {"dtype": "float64", "dtypes": ("float64",)}


def _f32(draw, *args):
    return draw(*args, dtype=np.float32)


def _stretched(a, axes=1):
    return a.reshape(a.shape + (1,) * axes)


def _mixed(rng, k, p, shape):
    """A negative binomial distribution as Poisson numbers of gamma distributed means."""
    return rng.poisson(rng.standard_gamma(k, shape) * (1 - p) / p)


def _dispersed(rng, mu, alpha, shape):
    spread = np.where(alpha > 0, alpha, 1)
    means = rng.standard_gamma(1 / spread, shape) * spread * mu
    return rng.poisson(np.where(alpha > 0, means, mu))


case("_random_uniform", low=-1, high=3, shape=(4, 5), **_free, ref=lambda rng: _f32(rng.random, (4, 5)) * 4 - 1)
case("_random_normal", loc=1, scale=2, shape=(4, 5), **_wide, ref=lambda rng: rng.standard_normal((4, 5)) * 2 + 1)
case("_random_normal", shape=(4, 5), dtype="float16", dtypes=("float16",),
     ref=lambda rng: _f32(rng.standard_normal, (4, 5)))
case("_random_exponential", lam=4, shape=(4, 5), **_free, ref=lambda rng: _f32(rng.standard_exponential, (4, 5)) / 4)
case("_random_gamma", alpha=2, beta=0.5, shape=(4, 5), **_wide, ref=lambda rng: rng.standard_gamma(2, (4, 5)) / 2)
case("_random_poisson", lam=3, shape=(4, 5), **_free, ref=lambda rng: rng.poisson(3, (4, 5)))
case("_random_negative_binomial", k=3, p=0.25, shape=(4, 5), **_free, ref=lambda rng: _mixed(rng, 3, 0.25, (4, 5)))
case("_random_generalized_negative_binomial", mu=2, alpha=0.5, shape=(4, 5), **_free,
     ref=lambda rng: _dispersed(rng, 2, 0.5, (4, 5)))
case("_random_generalized_negative_binomial", mu=2, alpha=0, shape=(4, 5), **_free,
     ref=lambda rng: _dispersed(rng, 2, 0, (4, 5)))
case("_random_randint", low=-2, high=5, shape=(4, 5), dtypes=("int32",), ref=lambda rng: rng.integers(-2, 5, (4, 5)))
case("_random_randint", low=0, high=2, shape=9, dtype="int64", dtypes=("int64",), ref=lambda rng: rng.integers(0, 2, 9))

_a, _b = np.array([[0.5, 1.0, 2.0], [3.0, 1.5, 4.0]]), np.array([[1.0, 2.0, 3.0], [5.0, 2.0, 4.5]])
_p, _dispersion = np.array([[0.5, 0.25, 0.75], [0.5, 1.0, 0.125]]), np.array([[0.0, 0.5, 1], [2, 0.25, 0]])
case("_sample_uniform", _a, _b, shape=4, **_free, constant=("low", "high"),
     ref=lambda a, b, rng: _f32(rng.random, (2, 3, 4)) * _stretched(b - a) + _stretched(a))
case("_sample_uniform", _a, _b, dtype="float64", dtypes=("float64", "int32"), constant=("low", "high"),
     ref=lambda a, b, rng: rng.random((2, 3)) * (b - a) + a)
case("_sample_normal", _a, _b, shape=(2, 2), **_free, constant=("mu", "sigma"),
     ref=lambda a, b, rng: _f32(rng.standard_normal, (2, 3, 2, 2)) * _stretched(b, 2) + _stretched(a, 2))
case("_sample_exponential", _a, shape=4, **_free, constant=("lam",),
     ref=lambda a, rng: _f32(rng.standard_exponential, (2, 3, 4)) / _stretched(a))
case("_sample_gamma", _a, _b, shape=4, **_wide, constant=("alpha", "beta"),
     ref=lambda a, b, rng: rng.standard_gamma(_stretched(a), (2, 3, 4)) * _stretched(b))
case("_sample_poisson", _a, shape=4, **_free, constant=("lam",),
     ref=lambda a, rng: rng.poisson(_stretched(a), (2, 3, 4)))
case("_sample_negative_binomial", _b, _p, shape=4, dtypes=("float64",), constant=("k", "p"),
     ref=lambda k, p, rng: _mixed(rng, _stretched(k), _stretched(p), (2, 3, 4)))
case("_sample_generalized_negative_binomial", _b, _dispersion, shape=4, dtypes=("float64",), constant=("mu", "alpha"),
     ref=lambda m, a, rng: _dispersed(rng, _stretched(m), _stretched(a), (2, 3, 4)))


def _drawn(p, count, rng):
    """One line after the other: the class in whose part of [0, 1) a number falls."""
    points = rng.random((len(p), count))
    return np.array([[np.searchsorted(np.cumsum(line), u, side="right") for u in us]
                     for line, us in zip(p, points, strict=True)])


def _with_probabilities(p, rng):
    classes = _drawn(p, 4, rng)
    return classes, np.log(np.take_along_axis(p, classes, 1))


_odds = np.array([[0.125, 0.5, 0.375], [0.25, 0.25, 0.5]])
case("_sample_multinomial", _odds, shape=4, **_free, ref=lambda p, rng: _drawn(p, 4, rng))
case("_sample_multinomial", _odds[0], dtype="uint8", **_free, ref=lambda p, rng: _drawn(p[None], 1, rng)[0])
case("_sample_multinomial", _odds, shape=4, get_prob=True, constant=("data",), dtypes=("float64", "float32"),
     ref=_with_probabilities)
case("_shuffle", (6, 2), constant=("data",), ref=lambda x, rng: x[np.argsort(rng.random(6))])
case("_shuffle", fixed([5, 6, 7], "int32"), dtypes=("int32",), ref=lambda x, rng: x[np.argsort(rng.random(3))])
