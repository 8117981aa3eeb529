"""Arrays from nothing."""

from __future__ import annotations

import math

import numpy as np

from raymx.errors import ParameterError
from raymx.ops.constant import Constant
from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param
from raymx.ops.shapes import positive_axis


class Source(Op):
    """Something made without inputs."""

    ctx: str = param("", doc="a device, in old files; it is not used, the context of the call counts")
    dtype: np.dtype = param(np.dtype("float32"), doc="element type of the result")

    def inputs(self):
        return ()

    def infer_type(self, known):
        return {"out": self.dtype}


class Filled(Source):
    """out (`shape`), of element type `dtype`, without inputs; a 0 in `shape` is inferred from the result's use."""

    leading = ("shape",)

    shape: Shape = param(doc="shape of the result")

    def infer_shape(self, out=None):
        return {"out": self.shape}


@operator("_zeros")
class Zeros(Filled):
    """out = zeros."""

    def forward(self, xp, *, out):
        out.fill(0)


@operator("_ones")
class Ones(Filled):
    """out = ones."""

    def forward(self, xp, *, out):
        out.fill(1)


@operator("_full")
class Full(Filled):
    """out = `value` everywhere."""

    value: int | float = param(doc="the number to fill with")

    def setup(self):
        self.number = Constant(self.value)

    def forward(self, xp, *, out):
        out.fill(self.number.like(xp, out))


@operator("_arange")
class Arange(Source):
    """out (n,) = start, start + step, … below stop, each `repeat` times; without stop: from 0 to below start.

    With `infer_range` and without stop: from start on, as many as the result's use asks for.
    """

    leading = ("start", "stop", "step", "repeat", "infer_range")

    start: int | float = param(doc="first number")
    stop: int | float | None = param(None, doc="bound that is not reached")
    step: int | float = param(1, doc="distance")
    repeat: int = param(1, doc="how often each number stands", low=1)
    infer_range: bool = param(False, doc="infer the length from the result's use")

    def setup(self):
        self.open = self.infer_range and self.stop is None
        self.first, last = (0, self.start) if self.stop is None and not self.open else (self.start, self.stop)
        if self.step == 0:
            raise ParameterError("_arange: step must not be 0.")
        self.count = 0 if self.open else math.ceil((last - self.first) / self.step)
        if self.count <= 0 and not self.open:
            raise ParameterError(f"_arange: no number lies from {self.first} to {last} in steps of {self.step}.")

    def infer_shape(self, out=None):
        return {} if self.open else {"out": (self.count * self.repeat,)}

    def forward(self, xp, *, out):
        count_up(xp, out, self.first, self.step, self.repeat)


@operator("_linspace")
class Linspace(Source):
    """out (`num`,) = numbers at equal distances from start to stop: the last one or, without `endpoint`, the next."""

    leading = ("start", "stop", "num", "endpoint")

    start: int | float = param(doc="first number")
    stop: int | float = param(doc="last number")
    num: int = param(50, doc="how many numbers", low=1)
    endpoint: bool = param(True, doc="stop is the last number")

    def infer_shape(self, out=None):
        return {"out": (self.num,)}

    def forward(self, xp, *, out):
        count_up(xp, out, self.start, (self.stop - self.start) / max(self.num - self.endpoint, 1))


def count_up(xp, out, start, step, repeat: int = 1) -> None:
    """out = start, start + step, …, each `repeat` times; computed in float64, and whole numbers exactly."""
    places = xp.arange(out.size) // repeat
    xp.copyto(out, (start + step * places).reshape(out.shape), casting="unsafe")


@operator("_contrib_arange_like")
class ArangeLike(Op):
    """out = `start`, start + step, …, each `repeat` times: as many as data has elements, in data's shape, or as it is
    long along `axis`, (n,). No gradient.
    """

    start: float = param(0.0, doc="first number")
    step: float = param(1.0, doc="distance")
    repeat: int = param(1, doc="how often each number stands", low=1)
    ctx: str = param("", doc="a device, in old files; it is not used")
    axis: int | None = param(None, doc="axis whose length counts; None = all elements")

    def infer_shape(self, data):
        return {"out": data if self.axis is None else (data[positive_axis(self.axis, len(data))],)}

    def forward(self, xp, data, *, out):
        count_up(xp, out, self.start, self.step, self.repeat)


@operator("_eye")
class Eye(Source):
    """out (N, M) = ones on the diagonal `k`, zeros elsewhere; M 0 = N."""

    leading = ("N", "M", "k")

    N: int = param(doc="number of rows", low=1)
    M: int = param(0, doc="number of columns; 0 = as many as rows", low=0)
    k: int = param(0, doc="which diagonal: 0 the main one, above it positive, below negative")

    def infer_shape(self, out=None):
        return {"out": (self.N, self.M or self.N)}

    def forward(self, xp, *, out):
        xp.copyto(out, xp.eye(*out.shape, k=self.k), casting="unsafe")


@operator("_set_value")
class SetValue(Op):
    """out = `src` everywhere; `out` must be given."""

    src: int | float = param(doc="the number to fill with")

    def setup(self):
        self.number = Constant(self.src)

    def inputs(self):
        return ()

    def infer_shape(self, out=None):
        return {}

    def forward(self, xp, *, out):
        out.fill(self.number.like(xp, out))
