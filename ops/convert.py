"""Arrays of other element types."""

from __future__ import annotations

import numpy as np

from raymx.ops.elementwise import Unary
from raymx.ops.op import operator
from raymx.ops.params import param


@operator("Cast", "cast")
class Cast(Unary):
    """out = data converted to `dtype` as C does; the gradient is converted back. Types are not inferred through it."""

    dtype: np.dtype = param(doc="the new element type")

    inplace = ()
    elementwise = False

    def infer_type(self, known):
        return {"out": self.dtype}

    def forward(self, xp, data, *, out):
        xp.copyto(out, data, casting="unsafe")

    def backward(self, xp, g, *, d_data=None):
        xp.copyto(d_data, g, casting="unsafe")
