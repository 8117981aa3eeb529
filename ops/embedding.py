"""Rows of a table by number."""

from __future__ import annotations

import numpy as np

from raymx.ops.op import Op, operator
from raymx.ops.params import param
from raymx.ops.rows import add_rows, take_rows
from raymx.ops.shapes import reshaped


@operator("Embedding")
class Embedding(Op):
    """out (…, output_dim) = the rows of weight (input_dim, output_dim) whose numbers are data (…), cut to whole ones.

    Numbers below 0 mean row 0, those above the last the last. No gradient for data; that of weight adds up what a row
    gets from each place where it stands. `sparse_grad` is accepted: gradients are always dense.
    """

    kinds = "fiub"
    input_dim: int = param(doc="rows of weight, how many things are told apart", low=1)
    output_dim: int = param(doc="numbers in a row", low=1)
    dtype: np.dtype = param(np.dtype("float32"), doc="element type of weight, if nothing else tells it")
    sparse_grad: bool = param(False, doc="accepted and without effect")

    def inputs(self):
        return ("data", "weight")

    def infer_shape(self, data=None, out=None):
        known = {"weight": (self.input_dim, self.output_dim)}
        if data is not None:
            known["out"] = (*data, self.output_dim)
        elif out is not None:
            known["data"] = out[:-1]
        return known

    def infer_type(self, known):
        dtype = known["weight"] or known["out"] or self.dtype
        return {"data": known["data"] or dtype, "weight": dtype, "out": dtype}

    def forward(self, xp, data, weight, *, out):
        take_rows(xp, weight, _numbers(data), reshaped(out, (data.size, self.output_dim)))

    def backward(self, xp, g, data, *, d_weight=None):
        add_rows(xp, g.reshape(data.size, self.output_dim), _numbers(data), d_weight)


def _numbers(data):
    return data.reshape(-1).astype("int64")
