"""Random numbers on any device: one seed, and draws that repeat on each device.

`mx.random` is `mx.nd.random`; `mx.sym.random` has the same functions for symbols. A distribution's parameters are
numbers, or arrays (symbols): then numbers are drawn for each of their elements, and the result has the arrays' shape
with `shape` behind it.
"""

from __future__ import annotations

from typing import Any

from raymx import runtime
from raymx.context import Context
from raymx.errors import DTypeError
from raymx.ndarray import NDArray, checked_dtype, checked_shape, invoke
from raymx.ops.op import make
from raymx.symbol import Symbol

# what the operators that take arrays call the parameters of those that take numbers, where they differ
_OF_ARRAYS = {"normal": {"loc": "mu", "scale": "sigma"}}


def seed(seed_state: int, ctx: Context | str = "all") -> None:
    """Start the stream of every device anew from this number, devices that start later included; `ctx` is accepted
    and has no effect."""
    runtime.seed(int(seed_state))


class Draws:
    """The functions of this module. A subclass says what becomes of an operator."""

    array: type  # of the arrays that may be parameters

    def make(self, name: str, params: dict[str, Any], arrays: list, shape, dtype, place: dict[str, Any]):
        """The operator `name`, applied to `arrays`. `place` holds ctx and out, and keywords that nobody knows yet."""
        raise NotImplementedError

    def uniform(self, low=0.0, high=1.0, shape=None, dtype=None, ctx=None, out=None, **kwargs):
        """Uniform over [low, high): a new array of `shape` (by default (1,)) on `ctx`, or into `out`."""
        return self._draw("uniform", {"low": low, "high": high}, shape, dtype, ctx, out, kwargs)

    def normal(self, loc=0.0, scale=1.0, shape=None, dtype=None, ctx=None, out=None, **kwargs):
        """Normal with mean `loc` and standard deviation `scale` (in old scripts `mean`, `stdvar`)."""
        loc, scale = kwargs.pop("mean", loc), kwargs.pop("stdvar", scale)
        return self._draw("normal", {"loc": loc, "scale": scale}, shape, dtype, ctx, out, kwargs)

    def randn(self, *shape, loc=0.0, scale=1.0, dtype=None, ctx=None, out=None, **kwargs):
        """As `normal`, the shape's numbers coming first."""
        return self.normal(loc, scale, shape, dtype, ctx, out, **kwargs)

    def exponential(self, scale=1.0, shape=None, dtype=None, ctx=None, out=None, **kwargs):
        """Exponential with mean `scale`."""
        return self._draw("exponential", {"lam": 1.0 / scale}, shape, dtype, ctx, out, kwargs)

    def gamma(self, alpha=1.0, beta=1.0, shape=None, dtype=None, ctx=None, out=None, **kwargs):
        """A gamma distribution of shape `alpha` and scale `beta`."""
        return self._draw("gamma", {"alpha": alpha, "beta": beta}, shape, dtype, ctx, out, kwargs)

    def poisson(self, lam=1.0, shape=None, dtype=None, ctx=None, out=None, **kwargs):
        """A Poisson distribution of mean `lam`."""
        return self._draw("poisson", {"lam": lam}, shape, dtype, ctx, out, kwargs)

    def negative_binomial(self, k=1, p=1.0, shape=None, dtype=None, ctx=None, out=None, **kwargs):
        """How often something happens that fails with probability `p`, before it fails the `k`th time."""
        return self._draw("negative_binomial", {"k": k, "p": p}, shape, dtype, ctx, out, kwargs)

    def generalized_negative_binomial(self, mu=1.0, alpha=1.0, shape=None, dtype=None, ctx=None, out=None, **kwargs):
        """A negative binomial distribution of mean `mu` and variance mu + alpha mu²."""
        params = {"mu": mu, "alpha": alpha}
        return self._draw("generalized_negative_binomial", params, shape, dtype, ctx, out, kwargs)

    def randint(self, low, high, shape=None, dtype=None, ctx=None, out=None, **kwargs):
        """Whole numbers from [low, high), int32 unless `dtype` says int64."""
        return self._draw("randint", {"low": low, "high": high}, shape, dtype or "int32", ctx, out, kwargs)

    def multinomial(self, data, shape=None, get_prob=False, out=None, dtype="int32", **kwargs):
        """Numbers of classes, drawn with the probabilities data (…, K): the result has the shape (…, *shape). With
        `get_prob` also the logarithms of the drawn ones' probabilities, with a gradient for data."""
        shape = () if shape is None else checked_shape(shape)
        params = {"get_prob": get_prob, "dtype": checked_dtype(dtype), "shape": shape}
        return self.make("_sample_multinomial", params, [data], None, None, {"out": out, **kwargs})

    def shuffle(self, data, out=None, **kwargs):
        """Data with its first axis in a random order."""
        return self.make("_shuffle", {}, [data], None, None, {"out": out, **kwargs})

    def _draw(self, family: str, params: dict[str, Any], shape, dtype, ctx, out, kwargs):
        if isinstance(dtype, Context) or isinstance(ctx, NDArray):  # the order of 2015: shape, ctx, out
            dtype, ctx, out = None, dtype, ctx if out is None else out
        place = {"ctx": ctx, "out": out, **kwargs}
        given = {n: v for n, v in params.items() if isinstance(v, self.array)}
        if not given:
            return self.make(f"_random_{family}", params, [], shape, dtype, place)
        for name in params.keys() - given.keys():
            kind = self.array.__name__
            raise DTypeError(f"random.{family}: {name} must be a {kind}, as {next(iter(given))} is, "
                             f"got {type(params[name]).__name__}.")  # fmt: skip
        renamed = _OF_ARRAYS.get(family, {})
        arrays = {renamed.get(n, n): v for n, v in given.items()}
        shape = {"shape": () if shape is None else checked_shape(shape)}
        return self.make(f"_sample_{family}", shape, list(arrays.values()), None, dtype, place)


class ArrayDraws(Draws):
    """Draws at once."""

    array = NDArray

    def make(self, name, params, arrays, shape, dtype, place):
        ctx, out = place.pop("ctx", None), place.pop("out", None)
        if place:
            function = name.removeprefix("_random_").removeprefix("_sample_").removeprefix("_")
            raise TypeError(f"random.{function}: unknown arguments {', '.join(place)}.")
        if not arrays:
            shape = out.shape if out is not None and shape is None else (1,) if shape is None else shape
            params = {**params, "shape": checked_shape(shape)}
            dtype = out.dtype if out is not None else dtype or "float32"
        if dtype is not None:
            params = {**params, "dtype": checked_dtype(dtype)}
        return invoke(make(name, **params), tuple(arrays), out, ctx)


class SymbolDraws(Draws):
    """Composes nodes that draw each time they run. `name` and `attr` are theirs; `ctx` has no effect."""

    array = Symbol

    def make(self, name, params, arrays, shape, dtype, place):
        if place.pop("out", None) is not None:
            raise TypeError("a symbol has no `out`; bind it and read its outputs.")
        place.pop("ctx", None)
        if shape is not None:
            params = {**params, "shape": checked_shape(shape)}
        if dtype is not None:
            params = {**params, "dtype": checked_dtype(dtype)}
        return getattr(_symbols(), name)(*arrays, **params, **place)


def _symbols():
    from raymx import symbol

    return symbol


arrays, symbols = ArrayDraws(), SymbolDraws()
uniform, normal, randn, exponential = arrays.uniform, arrays.normal, arrays.randn, arrays.exponential
gamma, poisson, negative_binomial = arrays.gamma, arrays.poisson, arrays.negative_binomial
generalized_negative_binomial, randint = arrays.generalized_negative_binomial, arrays.randint
multinomial, shuffle = arrays.multinomial, arrays.shuffle
