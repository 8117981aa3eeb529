"""Arrays from nothing."""

from __future__ import annotations

import math

import numpy as np

from raymx.errors import ParameterError
from raymx.ops.constant import Constant
from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param


class Source(Op):
    """out (`shape`), of element type `dtype`, without inputs; a 0 in `shape` is inferred from the result's use."""

    shape: Shape = param(doc="shape of the result")
    dtype: np.dtype = param(np.dtype("float32"), doc="element type of the result")

    def inputs(self):
        return ()

    def infer_shape(self, out=None):
        return {"out": self.shape}

    def infer_type(self, known):
        return {"out": self.dtype}


@operator("_zeros")
class Zeros(Source):
    """out = zeros."""

    def forward(self, xp, *, out):
        out.fill(0)


@operator("_ones")
class Ones(Source):
    """out = ones."""

    def forward(self, xp, *, out):
        out.fill(1)


@operator("_full")
class Full(Source):
    """out = `value` everywhere."""

    value: int | float = param(doc="the number to fill with")

    def setup(self):
        self.number = Constant(self.value)

    def forward(self, xp, *, out):
        out.fill(self.number.like(xp, out))


@operator("_arange")
class Arange(Op):
    """out (n,) = start, start + step, … below stop, each `repeat` times; without stop: from 0 to below start."""

    start: int | float = param(doc="first number")
    stop: int | float | None = param(None, doc="bound that is not reached")
    step: int | float = param(1, doc="distance")
    repeat: int = param(1, doc="how often each number stands", low=1)
    dtype: np.dtype = param(np.dtype("float32"), doc="element type of the result")

    def setup(self):
        self.first, last = (0, self.start) if self.stop is None else (self.start, self.stop)
        if self.step == 0:
            raise ParameterError("_arange: step must not be 0.")
        self.count = math.ceil((last - self.first) / self.step)
        if self.count <= 0:
            raise ParameterError(f"_arange: no number lies from {self.first} to {last} in steps of {self.step}.")

    def inputs(self):
        return ()

    def infer_shape(self, out=None):
        return {"out": (self.count * self.repeat,)}

    def infer_type(self, known):
        return {"out": self.dtype}

    def forward(self, xp, *, out):
        numbers = self.first + self.step * xp.arange(self.count)
        xp.copyto(out.reshape(self.count, self.repeat), numbers[:, None], casting="unsafe")


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
