"""Random numbers. `rng` is the device's generator; tasks that draw from it run in order, so results repeat."""

from __future__ import annotations

import functools
import math

import numpy as np

from raymx.errors import ParameterError
from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param
from raymx.ops.rows import take_rows
from raymx.ops.shapes import agreed

FLOAT32, INT32 = np.dtype("float32"), np.dtype("int32")


class RandomSource(Op):
    """out (`shape`, or the shape of a given `out`) of random numbers."""

    shape: Shape | None = param(None, doc="shape of the result; None = that of `out`")
    dtype: np.dtype | None = param(None, doc="element type of the result, a floating one; None = float32")
    ctx: str | None = param(None, doc="accepted and without effect: where the result is used decides")

    def setup(self):
        if self.dtype is not None and self.dtype.kind != "f":
            raise ParameterError(f"{self.name}: dtype must be a floating type, got {self.dtype}.")

    def inputs(self):
        return ()

    def infer_shape(self, out=None):
        return {"out": self.shape or None}

    def infer_type(self, known):
        return {"out": known.get("out") or self.dtype or FLOAT32}


class Sample(Op):
    """out (*S, *`shape`): for each element of the parameters, arrays (*S), random numbers of their own."""

    kinds = "fiu"
    shape: Shape = param((), doc="shape of what is drawn for each element; () = one number")
    dtype: np.dtype | None = param(None, doc="element type, a floating one; None = the parameters', if they are floats")
    names: tuple[str, ...] = ()

    setup = RandomSource.setup

    def inputs(self):
        return self.names

    def infer_shape(self, **known):
        shape = agreed(*(known[n] for n in self.names))
        return {**dict.fromkeys(self.names, shape), "out": None if shape is None else shape + self.shape}

    def infer_type(self, known):
        given = next((known[n] for n in self.names if known[n] is not None), None)
        own = given if given is not None and given.kind == "f" else FLOAT32
        return {**dict.fromkeys(self.names, given), "out": self.dtype or known["out"] or own}

    def stretched(self, array):
        """A parameter (*S), so that it stretches over out."""
        return array.reshape(array.shape + (1,) * len(self.shape))


@operator("_random_uniform", "random_uniform", "uniform")
class RandomUniform(RandomSource):
    """out is uniform over [low, high)."""

    low: float = param(0.0, doc="lower bound")
    high: float = param(1.0, doc="upper bound")

    def forward(self, xp, *, out, rng):
        draw(xp, rng.random, self.high - self.low, self.low, out)


@operator("_sample_uniform", "sample_uniform")
class SampleUniform(Sample):
    """out (*S, *shape) is uniform over [low, high) for each element of low (*S) and high (*S)."""

    names = ("low", "high")

    def forward(self, xp, low, high, *, out, rng):
        draw(xp, rng.random, self.stretched(high - low), self.stretched(low), out)


@operator("_random_normal", "random_normal", "normal")
class RandomNormal(RandomSource):
    """out is normal with mean `loc` and standard deviation `scale`."""

    loc: float = param(0.0, doc="mean")
    scale: float = param(1.0, doc="standard deviation", low=0)

    def forward(self, xp, *, out, rng):
        draw(xp, rng.standard_normal, self.scale, self.loc, out)


@operator("_sample_normal", "sample_normal")
class SampleNormal(Sample):
    """out (*S, *shape) is normal with mean mu (*S) and standard deviation sigma (*S)."""

    names = ("mu", "sigma")

    def forward(self, xp, mu, sigma, *, out, rng):
        draw(xp, rng.standard_normal, self.stretched(sigma), self.stretched(mu), out)


@operator("_random_exponential", "random_exponential", "exponential")
class RandomExponential(RandomSource):
    """out is exponential with rate `lam`, its mean is 1 / lam."""

    lam: float = param(1.0, doc="rate", low=0)

    def forward(self, xp, *, out, rng):
        draw(xp, rng.standard_exponential, 1 / self.lam if self.lam else math.inf, 0, out)


@operator("_sample_exponential", "sample_exponential")
class SampleExponential(Sample):
    """out (*S, *shape) is exponential with rate lam (*S)."""

    names = ("lam",)

    def forward(self, xp, lam, *, out, rng):
        draw(xp, rng.standard_exponential, self.stretched(1 / lam), 0, out)


@operator("_random_gamma", "random_gamma")
class RandomGamma(RandomSource):
    """out has a gamma distribution of shape `alpha` and scale `beta`, its mean is alpha * beta."""

    alpha: float = param(1.0, doc="shape of the distribution", low=0)
    beta: float = param(1.0, doc="scale", low=0)

    def forward(self, xp, *, out, rng):
        draw(xp, functools.partial(rng.standard_gamma, self.alpha), self.beta, 0, out)


@operator("_sample_gamma", "sample_gamma")
class SampleGamma(Sample):
    """out (*S, *shape) has a gamma distribution of shape alpha (*S) and scale beta (*S)."""

    names = ("alpha", "beta")

    def forward(self, xp, alpha, beta, *, out, rng):
        draw(xp, functools.partial(rng.standard_gamma, self.stretched(alpha)), self.stretched(beta), 0, out)


@operator("_random_poisson", "random_poisson", "poisson")
class RandomPoisson(RandomSource):
    """out has a Poisson distribution of mean `lam`."""

    lam: float = param(1.0, doc="mean", low=0)

    def forward(self, xp, *, out, rng):
        out[...] = rng.poisson(self.lam, out.shape)


@operator("_sample_poisson", "sample_poisson")
class SamplePoisson(Sample):
    """out (*S, *shape) has a Poisson distribution of mean lam (*S)."""

    names = ("lam",)

    def forward(self, xp, lam, *, out, rng):
        out[...] = rng.poisson(self.stretched(lam), out.shape)


@operator("_random_negative_binomial", "random_negative_binomial", "negative_binomial")
class RandomNegativeBinomial(RandomSource):
    """out is how often something happens that fails with probability `p`, before it fails the `k`th time."""

    k: int = param(1, doc="failures to wait for", low=1)
    p: float = param(1.0, doc="probability of a failure", low=0, high=1)

    def forward(self, xp, *, out, rng):
        out[...] = negative_binomial(xp, rng, self.k, self.p, out.shape)


@operator("_sample_negative_binomial", "sample_negative_binomial")
class SampleNegativeBinomial(Sample):
    """out (*S, *shape) is how often something happens that fails with probability p (*S), before failure k (*S)."""

    names = ("k", "p")

    def forward(self, xp, k, p, *, out, rng):
        out[...] = negative_binomial(xp, rng, self.stretched(k), self.stretched(p), out.shape)


@operator("_random_generalized_negative_binomial", "random_generalized_negative_binomial",
          "generalized_negative_binomial")  # fmt: skip
class RandomGeneralizedNegativeBinomial(RandomSource):
    """out has a negative binomial distribution of mean `mu` and variance mu + `alpha` mu**2."""

    mu: float = param(1.0, doc="mean", low=0)
    alpha: float = param(1.0, doc="dispersion; 0 = a Poisson distribution", low=0)

    def forward(self, xp, *, out, rng):
        out[...] = dispersed(xp, rng, xp.asarray(self.mu), xp.asarray(self.alpha), out.shape)


@operator("_sample_generalized_negative_binomial", "sample_generalized_negative_binomial")
class SampleGeneralizedNegativeBinomial(Sample):
    """out (*S, *shape) has a negative binomial distribution of mean mu (*S) and dispersion alpha (*S)."""

    names = ("mu", "alpha")

    def forward(self, xp, mu, alpha, *, out, rng):
        out[...] = dispersed(xp, rng, self.stretched(mu), self.stretched(alpha), out.shape)


@operator("_random_randint", "random_randint")
class RandomRandint(RandomSource):
    """out is a whole number from [low, high), each as likely as the others."""

    low: int = param(doc="the lowest number")
    high: int = param(doc="bound that is not reached")
    dtype: np.dtype | None = param(None, doc="int32 or int64; None = int32")

    def setup(self):
        if self.low >= self.high:
            raise ParameterError(f"{self.name}: there is no number from [{self.low}, {self.high}).")
        if self.dtype is not None and self.dtype.name not in ("int32", "int64"):
            raise ParameterError(f"{self.name}: dtype must be int32 or int64, got {self.dtype}.")

    def infer_type(self, known):
        return {"out": known.get("out") or self.dtype or INT32}

    def forward(self, xp, *, out, rng):
        out[...] = rng.integers(self.low, self.high, out.shape)


@operator("_sample_multinomial", "sample_multinomial")
class SampleMultinomial(Op):
    """out (*S, *shape) = numbers of classes, drawn with the probabilities data (*S, K); (1,) for one draw from (K,).

    With `get_prob` a second output (*S, *shape) is the logarithms of their probabilities, through which a gradient
    passes to data.
    """

    kinds = "f"
    shape: Shape = param((), doc="shape of what is drawn for each line of data; () = one number")
    get_prob: bool = param(False, doc="also give the logarithm of the drawn classes' probabilities")
    dtype: np.dtype = param(INT32, doc="element type of the classes")

    def outputs(self):
        return ("out", "prob") if self.get_prob else ("out",)

    def output_labels(self):
        return ("output0", "output1") if self.get_prob else ("output",)

    def infer_shape(self, data):
        return dict.fromkeys(self.outputs(), data[:-1] + self.shape or (1,))

    def infer_type(self, known):
        dtype = known["data"] or known.get("prob")
        return {"data": dtype, "out": self.dtype, **({"prob": dtype} if self.get_prob else {})}

    def forward(self, xp, data, *, out, prob=None, rng):
        lines = data.reshape(-1, data.shape[-1]).astype("float64")
        sums = xp.cumsum(lines, axis=1)
        start = xp.arange(len(lines))[:, None]  # line i covers [i, i + 1)
        points = rng.random((len(lines), out.size // len(lines))) + start
        found = xp.searchsorted((sums / sums[:, -1:] + start).reshape(-1), points.reshape(-1), side="right")
        classes = xp.clip(found.reshape(points.shape) - start * lines.shape[1], 0, lines.shape[1] - 1)
        out[...] = classes.reshape(out.shape)
        if prob is not None:
            prob[...] = xp.log(lines[start, classes]).reshape(out.shape)

    def needs_head_gradient(self):
        return self.get_prob

    def has_gradient(self, input_name):
        return self.get_prob

    def backward_needs(self):
        return ("data", "out") if self.get_prob else ()

    def backward(self, xp, gs, data, out, *, d_data=None):
        lines = data.reshape(-1, data.shape[-1])
        rows, classes = xp.arange(len(lines))[:, None], out.reshape(len(lines), -1).astype("int64")
        d_data.fill(0)
        xp.add.at(d_data.reshape(lines.shape), (rows, classes), gs[1].reshape(classes.shape) / lines[rows, classes])


@operator("_shuffle", "shuffle")
class Shuffle(Op):
    """out (N, …) = data (N, …) with its first axis in a random order. No gradient."""

    kinds = "fiub"

    def infer_shape(self, data=None, out=None):
        return dict.fromkeys(("data", "out"), agreed(data, out))

    def forward(self, xp, data, *, out, rng):
        take_rows(xp, data, xp.argsort(rng.random(len(data))), out)


def negative_binomial(xp, rng, k, p, shape: Shape):
    """Poisson numbers whose means have a gamma distribution; `k` and `p` are numbers or arrays."""
    return rng.poisson(rng.standard_gamma(k, shape) * ((1 - p) / p))


def dispersed(xp, rng, mu, alpha, shape: Shape):
    """As `negative_binomial`, by mean and dispersion, which may be 0."""
    spread = xp.where(alpha > 0, alpha, 1)
    means = rng.standard_gamma(1 / spread, shape) * (spread * mu)
    return rng.poisson(xp.where(alpha > 0, means, mu))


def draw(xp, sample, factor, summand, out) -> None:
    """out = sample * factor + summand, numbers or arrays, in the element type of `out`."""
    fill(xp, sample, out)
    xp.multiply(out, factor, out=out, casting="same_kind")
    xp.add(out, summand, out=out, casting="same_kind")


def fill(xp, sample, out) -> None:
    """out = numbers of the generator's method `sample`, drawn as float64 if that is `out`'s type, else as float32."""
    dtype = "float64" if out.dtype.name == "float64" else "float32"
    if out.dtype.name == dtype and out.flags.c_contiguous:
        sample(out=out, dtype=dtype)
    else:
        xp.copyto(out, sample(out.shape, dtype=dtype), casting="unsafe")


def fill_mask(xp, rng, mask, p: float) -> None:
    """mask = 0 with probability `p`, else 1 / (1 - p); without a draw where `p` is 0."""
    if p == 0:
        mask.fill(1)
        return
    fill(xp, rng.random, mask)
    xp.greater_equal(mask, p, out=mask)
    xp.multiply(mask, 1 / (1 - p) if p < 1 else 0, out=mask)
