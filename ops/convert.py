"""Arrays of other element types."""

from __future__ import annotations

import numpy as np

from raymx.ops.elementwise import Copy, Unary
from raymx.ops.op import Op, operator
from raymx.ops.params import param
from raymx.ops.shapes import agreed


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


@operator("amp_cast")
class AmpCast(Cast):
    """out = data converted to `dtype` if it is of a floating type; the gradient is converted back."""

    def infer_type(self, known):
        kept = known["data"] is not None and known["data"].kind != "f"
        return {"out": known["data"] if kept else self.dtype}


@operator("amp_multicast")
class AmpMulticast(Op):
    """output0, output1, … = the inputs in the widest of their floating types, or the narrowest with `cast_narrow`."""

    variadic = "num_outputs"
    num_outputs: int = param(doc="number of inputs", low=1)
    cast_narrow: bool = param(False, doc="the narrowest type instead of the widest")

    def inputs(self):
        return tuple(f"data_{i}" for i in range(self.num_outputs))

    def outputs(self):
        return tuple(f"output{i}" for i in range(self.num_outputs))

    def infer_shape(self, **known):
        pairs = {(i, o): agreed(known[i], known[o]) for i, o in zip(self.inputs(), self.outputs(), strict=True)}
        return {name: shape for pair, shape in pairs.items() for name in pair}

    def infer_type(self, known):
        types = [known[n] for n in self.inputs()]
        if any(t is None for t in types):
            return {}
        chosen = (min if self.cast_narrow else max)((t for t in types if t.kind == "f"), key=_width, default=None)
        return {o: chosen if t.kind == "f" else t for o, t in zip(self.outputs(), types, strict=True)}

    def forward(self, xp, *args, **outs):
        for name, source in zip(self.outputs(), args, strict=True):
            if name in outs:
                xp.copyto(outs[name], source, casting="unsafe")

    def backward(self, xp, gs, **d):
        for name, g in zip(self.inputs(), gs, strict=True):
            if d.get(f"d_{name}") is not None:
                xp.copyto(d[f"d_{name}"], g, casting="unsafe")


def _width(dtype: np.dtype) -> int:
    return dtype.itemsize


@operator("cast_storage")
class CastStorage(Copy):
    """out = data. Every array is dense here, so `stype` only says what a file meant."""

    stype: str = param(doc="how the array was stored", choices=("default", "row_sparse", "csr"))
