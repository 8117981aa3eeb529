"""Products of matrices."""

from __future__ import annotations

from raymx.ops.op import Op, operator
from raymx.ops.params import param
from raymx.ops.shapes import reshaped


@operator("dot")
class Dot(Op):
    """out (M…, N…) = lhs (M…, K) · rhs (K, N…): lhs's last axis with rhs's first; of two vectors: shape (1,).

    `transpose_a`: lhs is (K, M…); `transpose_b`: rhs is (N…, K).
    """

    heavy = True
    transpose_a: bool = param(False, doc="contract lhs's first axis")
    transpose_b: bool = param(False, doc="contract rhs's last axis")

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, lhs, rhs):
        left, k = (lhs[1:], lhs[0]) if self.transpose_a else (lhs[:-1], lhs[-1])
        right, k_right = (rhs[:-1], rhs[-1]) if self.transpose_b else (rhs[1:], rhs[0])
        if k != k_right:
            raise ValueError(f"the contracted axes must be equal, {k} is not {k_right}")
        return {"out": left + right or (1,)}

    def matrices(self, lhs, rhs):
        """Both as matrices (M, K) and (K, N)."""
        a = lhs.reshape(lhs.shape[0], -1).T if self.transpose_a else lhs.reshape(-1, lhs.shape[-1])
        b = rhs.reshape(-1, rhs.shape[-1]).T if self.transpose_b else rhs.reshape(rhs.shape[0], -1)
        return a, b

    def forward(self, xp, lhs, rhs, *, out):
        a, b = self.matrices(lhs, rhs)
        xp.matmul(a, b, out=reshaped(out, (a.shape[0], b.shape[1])))

    def products(self, a, b, g, d_lhs, d_rhs):
        """The matrix products of backward as (left, right, destination), for the destinations that are wanted."""
        if d_lhs is not None:
            flat = (d_lhs.shape[0], a.shape[0]) if self.transpose_a else a.shape
            yield (b, g.T, reshaped(d_lhs, flat)) if self.transpose_a else (g, b.T, reshaped(d_lhs, flat))
        if d_rhs is not None:
            flat = (b.shape[1], b.shape[0]) if self.transpose_b else b.shape
            yield (g.T, a, reshaped(d_rhs, flat)) if self.transpose_b else (a.T, g, reshaped(d_rhs, flat))

    def backward(self, xp, g, lhs, rhs, *, d_lhs=None, d_rhs=None):
        a, b = self.matrices(lhs, rhs)
        for left, right, out in self.products(a, b, g.reshape(a.shape[0], b.shape[1]), d_lhs, d_rhs):
            xp.matmul(left, right, out=out)


@operator("batch_dot")
class BatchDot(Op):
    """out (B…, M, N) = lhs (B…, M, K) · rhs (B…, K, N), one product for each index of B.

    `transpose_a`: lhs is (B…, K, M); `transpose_b`: rhs is (B…, N, K).
    """

    heavy = True
    transpose_a: bool = param(False, doc="transpose each matrix of lhs")
    transpose_b: bool = param(False, doc="transpose each matrix of rhs")

    def inputs(self):
        return ("lhs", "rhs")

    def infer_shape(self, lhs, rhs):
        if len(lhs) < 3 or len(lhs) != len(rhs) or lhs[:-2] != rhs[:-2]:
            raise ValueError("both must have at least 3 axes, all but the last two equal")
        m, k = lhs[:-3:-1] if self.transpose_a else lhs[-2:]
        k_right, n = rhs[:-3:-1] if self.transpose_b else rhs[-2:]
        if k != k_right:
            raise ValueError(f"the contracted axes must be equal, {k} is not {k_right}")
        return {"out": lhs[:-2] + (m, n)}

    def matrices(self, lhs, rhs):
        """Both as stacks of matrices (…, M, K) and (…, K, N)."""
        return lhs.swapaxes(-1, -2) if self.transpose_a else lhs, rhs.swapaxes(-1, -2) if self.transpose_b else rhs

    def forward(self, xp, lhs, rhs, *, out):
        xp.matmul(*self.matrices(lhs, rhs), out=out)

    def products(self, a, b, g, d_lhs, d_rhs):
        """The matrix products of backward as (left, right, destination), for the destinations that are wanted."""
        a_t, b_t, g_t = (x.swapaxes(-1, -2) for x in (a, b, g))
        if d_lhs is not None:
            yield (b, g_t, d_lhs) if self.transpose_a else (g, b_t, d_lhs)
        if d_rhs is not None:
            yield (g_t, a, d_rhs) if self.transpose_b else (a_t, g, d_rhs)

    def backward(self, xp, g, lhs, rhs, *, d_lhs=None, d_rhs=None):
        for left, right, out in self.products(*self.matrices(lhs, rhs), g, d_lhs, d_rhs):
            xp.matmul(left, right, out=out)
