"""Elements chosen by numbers that stand in another array."""

from __future__ import annotations

from raymx.ops.op import Op, operator
from raymx.ops.params import Shape

# ---- rows, and one element of each ----


@operator("element_mask")
class ElementMask(Op):
    """out (N, …) = lhs (N, …) with row n multiplied by rhs (N,)[n]; rhs gets no gradient."""

    inplace = (("lhs", "out"),)
    inplace_backward = (("g", "d_lhs"),)

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, lhs):
        return {"rhs": lhs[:1], "out": lhs}

    def forward(self, xp, lhs, rhs, *, out):
        xp.multiply(lhs, rhs.reshape((-1,) + (1,) * (lhs.ndim - 1)), out=out)

    def backward(self, xp, g, rhs, *, d_lhs=None):
        self.forward(xp, g, rhs, out=d_lhs)


def _columns(xp, rows, index):
    """The index (0…n-1, whole numbers of `index`) of one element in each of n rows."""
    return xp.arange(rows.shape[0]), index.astype("int64")


@operator("choose_element_0index")
class ChooseElement0Index(Op):
    """out (N,) = lhs (N, C) at column rhs (N,) of each row."""

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, lhs):
        n, _ = _matrix(lhs)
        return {"rhs": (n,), "out": (n,)}

    def forward(self, xp, lhs, rhs, *, out):
        xp.copyto(out, lhs[_columns(xp, lhs, rhs)])

    def backward(self, xp, g, rhs, *, d_lhs=None):
        d_lhs.fill(0)
        d_lhs[_columns(xp, d_lhs, rhs)] = g


@operator("fill_element_0index")
class FillElement0Index(Op):
    """out (N, C) = lhs (N, C) with mhs (N,) put in column rhs (N,) of each row; no gradient."""

    inplace = (("lhs", "out"),)

    def inputs(self):
        return ("lhs", "mhs", "rhs")

    def infer_shape(self, lhs):
        n, _ = _matrix(lhs)
        return {"mhs": (n,), "rhs": (n,), "out": lhs}

    def forward(self, xp, lhs, mhs, rhs, *, out):
        xp.copyto(out, lhs)
        out[_columns(xp, lhs, rhs)] = mhs


@operator("_onehot_encode")
class OneHotEncode(Op):
    """out (N, C) = 1 in column lhs (N,) of each row, 0 elsewhere; rhs (N, C) only gives the shape. No gradient."""

    inplace = (("rhs", "out"),)

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, rhs):
        n, _ = _matrix(rhs)
        return {"lhs": (n,), "out": rhs}

    def forward(self, xp, lhs, rhs, *, out):
        out.fill(0)
        out[_columns(xp, out, lhs)] = 1


def _matrix(shape: Shape) -> Shape:
    if len(shape) != 2:
        raise ValueError("the rows must form a matrix")
    return shape
