"""First values of parameters.

An initializer is called as `init(name, array)` and fills the array in place. What it does depends on the name:
`upsampling…` gets bilinear kernels; names ending in `bias`, `beta`, `moving_mean`, `moving_avg`, … get 0; `gamma`,
`moving_var`, … get 1; `weight` is filled in the class's own way. Any other name is an error, unless the variable was
made with `Variable(name, init=…)`.

Random values are drawn from `mx.random` on the array's device, so `mx.random.seed` makes them repeatable.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from raymx import ndarray as nd
from raymx import random
from raymx.errors import ParameterError, ShapeError
from raymx.registry import Registry

_log = logging.getLogger("raymx")
_initializers = Registry("initializer")
register = _initializers.register


class InitDesc(str):
    """A parameter's name together with the attributes of its variable (`__init__` chooses the initializer) and the
    initializer of the whole network."""

    attrs: dict[str, str]

    def __new__(cls, name, attrs=None, global_init=None):
        desc = super().__new__(cls, name)
        desc.attrs, desc.global_init = dict(attrs or {}), global_init
        return desc


class Initializer:
    """Base of initializers. A subclass defines `_init_weight(name, array)`, and may define any of the other rules."""

    # how a name ends → what is called
    _RULES = (
        ("weight", "_init_weight"), ("bias", "_init_bias"), ("gamma", "_init_gamma"), ("beta", "_init_beta"),
        ("moving_mean", "_init_zero"), ("moving_avg", "_init_zero"), ("moving_inv_var", "_init_zero"),
        ("moving_var", "_init_one"), ("min", "_init_zero"), ("max", "_init_one"),
    )  # fmt: skip
    _verbose = False

    def __init__(self, **settings):
        self._kwargs = {key: _plain(value) for key, value in settings.items()}

    def set_verbosity(self, verbose: bool = False, print_func: Callable | None = None) -> Initializer:
        """Log a line for each array that is filled, with what `print_func(array)` says of it, |x| / sqrt(size) by
        default; returns the initializer."""
        self._verbose, self._print_func = verbose, print_func or _root_mean_square
        return self

    def __call__(self, name: str, arr) -> None:
        """Fill `arr` by the rule for `name`; raises ParameterError for a name without rule."""
        self._fill(name, arr)
        if self._verbose:
            _log.info("Initialized %s by %r: %s", name, self, self._print_func(arr))

    def _fill(self, name: str, arr) -> None:
        own = getattr(name, "attrs", {}).get("__init__")
        if own:
            create(own)._init_weight(name, arr)
        elif name.startswith("upsampling"):
            self._init_bilinear(name, arr)
        else:
            rule = next((rule for ending, rule in self._RULES if name.endswith(ending)), "_init_default")
            getattr(self, rule)(name, arr)

    def dumps(self) -> str:
        """`["class", {settings}]`, which `create` understands: the form of the attribute `__init__`."""
        return json.dumps([type(self).__name__.lower(), self._kwargs])

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self._kwargs.items())})"

    def __eq__(self, other):
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = object.__hash__

    def _init_weight(self, name, arr):
        raise NotImplementedError(f"{type(self).__name__} must define _init_weight(name, arr).")

    def _init_bias(self, name, arr):
        self._init_zero(name, arr)

    def _init_gamma(self, name, arr):
        self._init_one(name, arr)

    def _init_beta(self, name, arr):
        self._init_zero(name, arr)

    def _init_zero(self, name, arr):
        arr[:] = 0.0

    def _init_one(self, name, arr):
        arr[:] = 1.0

    def _init_bilinear(self, name, arr):
        _, _, height, width = _ndim_4(name, arr)
        arr[:] = np.broadcast_to(np.outer(_tent(height), _tent(width)), arr.shape).astype("float32")

    def _init_default(self, name, arr):
        endings = ", ".join(ending for ending, _ in self._RULES)
        raise ParameterError(f"{type(self).__name__}: no rule for a parameter called {str(name)!r}; known endings are "
                             f"{endings}. Make it with Variable(name, init=...), or use Mixed with a pattern.")


@register
class Zero(Initializer):
    """Weights 0."""

    def _init_weight(self, name, arr):
        self._init_zero(name, arr)


@register
class One(Initializer):
    """Weights 1."""

    def _init_weight(self, name, arr):
        self._init_one(name, arr)


@register
class Constant(Initializer):
    """Weights `value`, a number, or an array (or list) of the weights' shape."""

    def __init__(self, value):
        super().__init__(value=value)
        self.value = value

    def _init_weight(self, name, arr):
        arr[:] = np.asarray(self.value, arr.dtype) if isinstance(self.value, (list, tuple)) else self.value


@register
class Bilinear(Initializer):
    """Weights (channels, 1, height, width) that interpolate when a Deconvolution upsamples with them."""

    def _init_weight(self, name, arr):
        self._init_bilinear(name, arr)


@register
class Uniform(Initializer):
    """Weights drawn evenly from [-scale, scale)."""

    def __init__(self, scale: float = 0.07):
        super().__init__(scale=scale)
        self.scale = scale

    def _init_weight(self, name, arr):
        random.uniform(-self.scale, self.scale, out=arr)


@register
class Normal(Initializer):
    """Weights from the normal distribution of mean 0 and standard deviation `sigma`."""

    def __init__(self, sigma: float = 0.01):
        super().__init__(sigma=sigma)
        self.sigma = sigma

    def _init_weight(self, name, arr):
        random.normal(0.0, self.sigma, out=arr)


@register
class Xavier(Initializer):
    """Weights (out, in, …) scaled by sqrt(magnitude / factor), which keeps the variance from layer to layer (Glorot and
    Bengio 2010).

    `factor` is the number of inputs (`in`), of outputs (`out`), or their mean (`avg`), each times the kernel's size.
    `uniform` draws from ± the scale, `gaussian` has it as standard deviation. Raises ShapeError below two dimensions.
    """

    def __init__(self, rnd_type: str = "uniform", factor_type: str = "avg", magnitude: float = 3):
        super().__init__(rnd_type=rnd_type, factor_type=factor_type, magnitude=magnitude)
        _one_of("rnd_type", rnd_type, ("uniform", "gaussian"))
        _one_of("factor_type", factor_type, ("avg", "in", "out"))
        self.rnd_type, self.factor_type, self.magnitude = rnd_type, factor_type, float(magnitude)

    def _init_weight(self, name, arr):
        fan_in, fan_out = _fans(type(self).__name__, name, arr.shape)
        factor = {"avg": (fan_in + fan_out) / 2, "in": fan_in, "out": fan_out}[self.factor_type]
        scale = math.sqrt(self.magnitude / factor)
        if self.rnd_type == "uniform":
            random.uniform(-scale, scale, out=arr)
        else:
            random.normal(0.0, scale, out=arr)


@register
class MSRAPrelu(Xavier):
    """Xavier with gaussian values and magnitude 2 / (1 + slope²), for layers before a (leaky) relu (He et al. 2015)."""

    def __init__(self, factor_type: str = "avg", slope: float = 0.25):
        super().__init__("gaussian", factor_type, 2.0 / (1 + slope**2))
        self._kwargs = {"factor_type": factor_type, "slope": slope}


@register
class Orthogonal(Initializer):
    """Weights (out, …) whose rows (or columns, if there are fewer) are orthogonal and of length `scale` (Saxe et al.
    2013)."""

    def __init__(self, scale: float = 1.414, rand_type: str = "uniform"):
        super().__init__(scale=scale, rand_type=rand_type)
        _one_of("rand_type", rand_type, ("uniform", "normal"))
        self.scale, self.rand_type = scale, rand_type

    def _init_weight(self, name, arr):
        matrix = (arr.shape[0], math.prod(arr.shape[1:]))
        draw = random.uniform(-1.0, 1.0, matrix) if self.rand_type == "uniform" else random.normal(0.0, 1.0, matrix)
        left, _, right = np.linalg.svd(draw.asnumpy(), full_matrices=False)
        basis = left if left.shape == matrix else right
        arr[:] = (self.scale * basis).reshape(arr.shape).astype("float32")


@register
class LSTMBias(Initializer):
    """Biases (4 * H,) of an LSTMCell: `forget_bias` for the forget gate, the second of four, else 0."""

    def __init__(self, forget_bias: float = 1.0):
        super().__init__(forget_bias=forget_bias)
        self.forget_bias = forget_bias

    def _init_weight(self, name, arr):
        units = arr.shape[0] // 4
        arr[:] = 0.0
        arr[units : 2 * units] = self.forget_bias


@register
class FusedRNN(Initializer):
    """The flat parameters of a FusedRNNCell of the same settings, each weight by the initializer `init`, or by that of
    the whole network if it is None; an LSTM's biases of forget gates are `forget_bias`."""

    def __init__(
        self, init, num_hidden: int, num_layers: int, mode: str, bidirectional: bool = False, forget_bias: float = 1.0
    ):
        self._init = init if init is None else create(init)
        super().__init__(
            init=None if self._init is None else self._init.dumps(), num_hidden=num_hidden, num_layers=num_layers,
            mode=mode, bidirectional=bidirectional, forget_bias=forget_bias,
        )  # fmt: skip

    def _init_weight(self, name, arr):
        from raymx.rnn.rnn_cell import FusedRNNCell

        chosen = self._init or getattr(name, "global_init", None)
        if chosen is None:
            raise ParameterError(f"FusedRNN: {str(name)!r} needs an initializer; give init=, or one for the network.")
        cell = FusedRNNCell(prefix="", **{k: v for k, v in self._kwargs.items() if k != "init"})
        parts = cell.unpack_weights({"parameters": arr})
        for part, values in parts.items():
            if cell._mode == "lstm" and part.endswith("_f_bias"):
                values[:] = self._kwargs["forget_bias"]
            else:
                chosen(InitDesc(part, global_init=getattr(name, "global_init", None)), values)
        arr[:] = cell.pack_weights(parts)["parameters"]


class Load:
    """Values from a `.params` file (path or URL) or a dict; names missing there go to `default_init`.

    Prefixes `arg:` and `aux:` of the names are dropped. Raises ShapeError when a shape differs, ParameterError when
    a name is missing and there is no `default_init`.
    """

    def __init__(self, param, default_init: Callable | None = None, verbose: bool = False):
        loaded = nd.load(os.fspath(param)) if isinstance(param, (str, os.PathLike)) else param
        if not isinstance(loaded, Mapping):
            raise ParameterError(f"Load: needs arrays with names, got a {type(loaded).__name__}; save a dict.")
        self.param = {name.removeprefix("arg:").removeprefix("aux:"): value for name, value in loaded.items()}
        self.default_init, self.verbose = default_init, verbose

    def __call__(self, name: str, arr) -> None:
        value = self.param.get(name)
        if value is None:
            if self.default_init is None:
                raise ParameterError(f"Load: no value for {str(name)!r} among the {len(self.param)} that were loaded, "
                                     "and no default_init; give one.")
            self.default_init(name, arr)
        elif value.shape != arr.shape:
            raise ShapeError(f"Load: {str(name)!r} has shape {arr.shape}, the loaded value {value.shape}.")
        else:
            arr[:] = value
        if self.verbose:
            print(f"{name} initialized {'by default' if value is None else 'from the loaded values'}")


class Mixed:
    """The initializer whose pattern, a regular expression, first matches the beginning of the name."""

    def __init__(self, patterns: Sequence[str], initializers: Sequence[Callable]):
        if len(patterns) != len(initializers):
            raise ParameterError(f"Mixed: {len(patterns)} patterns but {len(initializers)} initializers.")
        self.map = [(re.compile(p), init) for p, init in zip(patterns, initializers, strict=True)]

    def __call__(self, name: str, arr) -> None:
        for pattern, init in self.map:
            if pattern.match(name):
                init(name, arr)
                return
        raise ParameterError(f"Mixed: no pattern matches the name {str(name)!r}; add '.*' at the end with a default.")


def create(initializer, **settings) -> Any:
    """An initializer from its name, from what `dumps` gave, or itself; raises ParameterError for an unknown name."""
    if not isinstance(initializer, str):
        return initializer
    if initializer.startswith("["):
        initializer, settings = json.loads(initializer)
    return _initializers.create(initializer, **settings)


def _plain(value):
    """A setting as JSON can hold it."""
    return (value if isinstance(value, np.ndarray) else value.asnumpy()).tolist() if hasattr(value, "shape") else value


def _root_mean_square(array) -> str:
    return str(float(np.sqrt(np.square(array.asnumpy()).mean())))


def _one_of(setting: str, value, choices) -> None:
    if value not in choices:
        raise ParameterError(f"initializer: {setting} must be one of {', '.join(map(repr, choices))}, got {value!r}.")


def _fans(who: str, name, shape) -> tuple[float, float]:
    """Inputs and outputs of a weight (out, in, …), each times the kernel's size."""
    if len(shape) < 2:
        raise ShapeError(f"{who}: {str(name)!r} needs at least two dimensions (out, in, ...), got {shape}.")
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def _ndim_4(name, arr):
    if len(arr.shape) != 4:
        raise ShapeError(f"Bilinear: {str(name)!r} needs shape (channels, 1, height, width), got {arr.shape}.")
    return arr.shape


def _tent(size: int) -> np.ndarray:
    """Weights of linear interpolation along an axis of `size` taps."""
    half = math.ceil(size / 2.0)
    center = (2 * half - 1 - half % 2) / (2.0 * half)
    return 1 - np.abs(np.arange(size) / half - center)
