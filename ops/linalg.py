"""Linear algebra on matrices, which are the last two axes of arrays; all axes before them count through a stack."""

from __future__ import annotations

import numpy as np

from raymx.errors import DTypeError
from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param

# ---- shapes and triangles ----


def matrices(*shapes: Shape) -> Shape:
    """The axes that count through the stack, equal for all shapes; raises ValueError."""
    if any(len(s) < 2 for s in shapes) or any(s[:-2] != shapes[0][:-2] for s in shapes):
        raise ValueError("each must hold matrices in its last two axes, and the axes before them must be equal")
    return shapes[0][:-2]


def square(a: Shape) -> int:
    """The size of square matrices; raises ValueError for others."""
    matrices(a)
    if a[-1] != a[-2]:
        raise ValueError("the matrices must be square")
    return a[-1]


def t(array):
    """The matrices transposed."""
    return array.swapaxes(-1, -2)


def put(xp, value, out) -> None:
    xp.copyto(out, value, casting="same_kind")


def both_triangles(xp, m):
    """Symmetric matrices with the lower triangles of `m`."""
    return xp.tril(m) + t(xp.tril(m, -1))


class Linalg(Op):
    """Something about the matrices A (…, N, M) that needs the solvers of LAPACK, which know two element types."""

    kinds = "f"

    def inputs(self):
        return ("A",)

    def infer_type(self, known):
        found = super().infer_type(known)
        if any(dtype == np.float16 for dtype in found.values() if dtype is not None):
            raise DTypeError(f"{self.name}: the matrices must be float32 or float64, got float16; convert with astype.")
        return found


# ---- products ----


class Gemm2Like(Op):
    """A product alpha * op(A) · op(B), where op may transpose; the rows of the matrices lie at `axis`."""

    transpose_a: bool = param(False, doc="transpose the matrices of A")
    transpose_b: bool = param(False, doc="transpose the matrices of B")

    axis: int
    alpha: float

    def rows_last_but_one(self, xp, array):
        """`array` with its rows, which lie at `axis`, last but one."""
        return array if self.axis == -2 else xp.moveaxis(array, self.axis, -2)

    def product_shape(self, a: Shape, b: Shape) -> Shape:
        a, b = (self._moved(s) for s in (a, b))
        lead = matrices(a, b)
        m, k = a[:-3:-1] if self.transpose_a else a[-2:]
        k_right, n = b[:-3:-1] if self.transpose_b else b[-2:]
        if k != k_right:
            raise ValueError(f"the contracted axes must be equal, {k} is not {k_right}")
        shape = [*lead, n]
        shape.insert(len(shape) + 1 + self.axis if self.axis < 0 else self.axis, m)
        return tuple(shape)

    def _moved(self, shape: Shape) -> Shape:
        rest = list(shape)
        row = rest.pop(self.axis)
        return (*rest[:-1], row, rest[-1])

    def sides(self, xp, A, B):
        """Both matrices as they are multiplied."""
        a, b = self.rows_last_but_one(xp, A), self.rows_last_but_one(xp, B)
        return t(a) if self.transpose_a else a, t(b) if self.transpose_b else b

    def multiply(self, xp, A, B, out) -> None:
        into = self.rows_last_but_one(xp, out)
        xp.matmul(*self.sides(xp, A, B), out=into)
        if self.alpha != 1:
            xp.multiply(into, self.alpha, out=into)

    def gradients(self, xp, g, A, B, d_A, d_B) -> None:
        g, (a, b) = self.rows_last_but_one(xp, g), self.sides(xp, A, B)
        for wanted, left, right, turned in (
            (d_A, g, t(b), self.transpose_a),
            (d_B, t(a), g, self.transpose_b),
        ):
            if wanted is not None:
                into = self.rows_last_but_one(xp, wanted)
                xp.matmul(*((t(right), t(left)) if turned else (left, right)), out=into)
                if self.alpha != 1:
                    xp.multiply(into, self.alpha, out=into)


@operator("_linalg_gemm", "linalg_gemm")
class Gemm(Gemm2Like):
    """out (…, N, M) = `alpha` * op(A) · op(B) + `beta` * C, where op transposes with `transpose_a`, `transpose_b`."""

    inplace = (("C", "out"),)

    alpha: float = param(1.0, doc="factor of the product")
    beta: float = param(1.0, doc="factor of C")
    axis: int = param(-2, doc="axis of the matrices' rows")

    def inputs(self):
        return ("A", "B", "C")

    def infer_shape(self, A, B):
        shape = self.product_shape(A, B)
        return {"C": shape, "out": shape}

    def scratch(self, shapes, dtype):
        return {"product": (shapes["out"], dtype)}

    def forward(self, xp, A, B, C, *, out, product):
        self.multiply(xp, A, B, product)
        xp.multiply(C, self.beta, out=out)
        xp.add(out, product, out=out)

    def backward(self, xp, g, A, B, *, d_A=None, d_B=None, d_C=None):
        self.gradients(xp, g, A, B, d_A, d_B)
        if d_C is not None:
            xp.multiply(g, self.beta, out=d_C)


@operator("_linalg_gemm2", "linalg_gemm2")
class Gemm2(Gemm2Like):
    """out (…, N, M) = `alpha` * op(A) · op(B), where op transposes with `transpose_a`, `transpose_b`."""

    alpha: float = param(1.0, doc="factor of the product")
    axis: int = param(-2, doc="axis of the matrices' rows")

    def inputs(self):
        return ("A", "B")

    def infer_shape(self, A, B):
        return {"out": self.product_shape(A, B)}

    def forward(self, xp, A, B, *, out):
        self.multiply(xp, A, B, out)

    def backward(self, xp, g, A, B, *, d_A=None, d_B=None):
        self.gradients(xp, g, A, B, d_A, d_B)


@operator("_linalg_syrk", "linalg_syrk")
class Syrk(Op):
    """out (…, N, N) = `alpha` * A · A.T of A (…, N, M), or `alpha` * A.T · A of A (…, M, N) with `transpose`."""

    transpose: bool = param(False, doc="the transposed matrices first")
    alpha: float = param(1.0, doc="factor of the product")

    def inputs(self):
        return ("A",)

    def infer_shape(self, A):
        n = A[-1] if self.transpose else A[-2]
        return {"out": (*matrices(A), n, n)}

    def forward(self, xp, A, *, out):
        xp.matmul(*((t(A), A) if self.transpose else (A, t(A))), out=out)
        xp.multiply(out, self.alpha, out=out)

    def backward(self, xp, g, A, *, d_A=None):
        both = g + t(g)
        xp.matmul(*((A, both) if self.transpose else (both, A)), out=d_A)
        xp.multiply(d_A, self.alpha, out=d_A)


# ---- triangular matrices ----


class Triangular(Linalg):
    """Something with triangular matrices A (…, N, N), of which only one triangle is read, on one side of B."""

    transpose: bool = param(False, doc="transpose the matrices of A")
    rightside: bool = param(False, doc="A stands on the right")
    lower: bool = param(True, doc="A's lower triangle counts, else its upper one")
    alpha: float = param(1.0, doc="factor of the result")

    def inputs(self):
        return ("A", "B")

    def infer_shape(self, A, B):
        n = square(A)
        matrices(A, B)
        if B[-1 if self.rightside else -2] != n:
            raise ValueError(f"A is {n} x {n}, so B must have {n} {'columns' if self.rightside else 'rows'}")
        return {"out": B}

    def triangle(self, xp, a):
        return xp.tril(a) if self.lower else xp.triu(a)

    def acting(self, xp, A):
        """The matrices by which B is multiplied or divided."""
        return t(self.triangle(xp, A)) if self.transpose else self.triangle(xp, A)


@operator("_linalg_trmm", "linalg_trmm")
class Trmm(Triangular):
    """out = `alpha` * op(A) · B, or `alpha` * B · op(A) with `rightside`; A is triangular, op may transpose."""

    def forward(self, xp, A, B, *, out):
        a = self.acting(xp, A)
        xp.matmul(*((B, a) if self.rightside else (a, B)), out=out)
        xp.multiply(out, self.alpha, out=out)

    def backward(self, xp, g, A, B, *, d_A=None, d_B=None):
        if d_A is not None:
            a = xp.matmul(t(B), g) if self.rightside else xp.matmul(g, t(B))
            xp.multiply(self.triangle(xp, t(a) if self.transpose else a), self.alpha, out=d_A)
        if d_B is not None:
            a = t(self.acting(xp, A))
            xp.matmul(*((g, a) if self.rightside else (a, g)), out=d_B)
            xp.multiply(d_B, self.alpha, out=d_B)


@operator("_linalg_trsm", "linalg_trsm")
class Trsm(Triangular):
    """out = X with op(A) · X = `alpha` * B, or X · op(A) = `alpha` * B with `rightside`; A is triangular."""

    def solve(self, xp, a, b):
        """What a · X, or X · a, is to be b for."""
        return t(xp.linalg.solve(t(a), t(b))) if self.rightside else xp.linalg.solve(a, b)

    def forward(self, xp, A, B, *, out):
        put(xp, self.solve(xp, self.acting(xp, A), B), out)
        xp.multiply(out, self.alpha, out=out)

    def backward(self, xp, g, A, out, *, d_A=None, d_B=None):
        of_b = self.solve(xp, t(self.acting(xp, A)), g)
        if d_A is not None:
            a = xp.matmul(t(out), of_b) if self.rightside else xp.matmul(of_b, t(out))
            xp.negative(self.triangle(xp, t(a) if self.transpose else a), out=d_A)
        if d_B is not None:
            xp.multiply(of_b, self.alpha, out=d_B)


@operator("_linalg_potrf", "linalg_potrf")
class Potrf(Linalg):
    """out (…, N, N) = the Cholesky factor of symmetric, positive definite A: lower triangular L, L · L.T = A."""

    def infer_shape(self, A):
        square(A)
        return {"out": A}

    def forward(self, xp, A, *, out):
        put(xp, xp.linalg.cholesky(A), out)

    def backward(self, xp, g, out, *, d_A=None):  # 1/2 L^-T · (L.T · g, its lower triangle on both sides) · L^-1
        inverse = xp.linalg.inv(out)
        inner = both_triangles(xp, xp.matmul(t(out), xp.tril(g)))
        xp.matmul(xp.matmul(t(inverse), inner), inverse, out=d_A)
        xp.multiply(d_A, 0.5, out=d_A)


@operator("_linalg_potri", "linalg_potri")
class Potri(Linalg):
    """out (…, N, N) = the inverse of A · A.T, where A is lower triangular."""

    def infer_shape(self, A):
        square(A)
        return {"out": A}

    def forward(self, xp, A, *, out):
        inverse = xp.linalg.inv(xp.tril(A))
        xp.matmul(t(inverse), inverse, out=out)

    def backward(self, xp, g, A, out, *, d_A=None):  # - out · (g + g.T) · A^-T
        inverse = xp.linalg.inv(xp.tril(A))
        xp.negative(xp.tril(xp.matmul(xp.matmul(out, g + t(g)), t(inverse))), out=d_A)


@operator("_linalg_sumlogdiag", "linalg_sumlogdiag")
class SumLogDiag(Linalg):
    """out (…) = the sum of the logarithms of the elements on A's (…, N, N) diagonals."""

    def infer_shape(self, A):
        square(A)
        return {"out": A[:-2] or (1,)}

    def forward(self, xp, A, *, out):
        xp.sum(xp.log(_diagonal(xp, A)), axis=-1, out=out.reshape(A.shape[:-2]))

    def backward(self, xp, g, A, *, d_A=None):
        d_A.fill(0)
        n = xp.arange(A.shape[-1])
        d_A[..., n, n] = g.reshape(A.shape[:-2])[..., None] / _diagonal(xp, A)


def _diagonal(xp, a):
    return xp.diagonal(a, axis1=-2, axis2=-1)


# ---- factors ----


@operator("_linalg_gelqf", "linalg_gelqf")
class Gelqf(Linalg):
    """output0 = Q (…, N, M), output1 = L (…, N, N) with A (…, N, M) = L · Q, N <= M; L is lower triangular, Q's
    rows are orthonormal.
    """

    def outputs(self):
        return ("output0", "output1")

    def infer_shape(self, A):
        matrices(A)
        if A[-2] > A[-1]:
            raise ValueError("the matrices must not have more rows than columns")
        return {"output0": A, "output1": (*A[:-1], A[-2])}

    def forward(self, xp, A, *, output0, output1):
        q, r = xp.linalg.qr(t(A))
        put(xp, t(q), output0)
        put(xp, t(r), output1)

    def backward(self, xp, gs, output0, output1, *, d_A=None):  # L^-T · (dQ + both_triangles(M) · Q)
        of_q, of_l = gs
        m = xp.matmul(t(output1), of_l) - xp.matmul(of_q, t(output0))
        inner = of_q + xp.matmul(both_triangles(xp, m), output0)
        put(xp, xp.linalg.solve(t(output1), inner), d_A)


@operator("_linalg_syevd", "linalg_syevd")
class Syevd(Linalg):
    """output0 = U (…, N, N), whose rows are the eigenvectors of symmetric A, output1 = the eigenvalues (…, N), the
    smallest first. Of each vector the first of its largest elements in magnitude is positive. The gradient asks for
    eigenvalues that differ.
    """

    def outputs(self):
        return ("output0", "output1")

    def infer_shape(self, A):
        square(A)
        return {"output0": A, "output1": A[:-1]}

    def forward(self, xp, A, *, output0, output1):
        values, columns = xp.linalg.eigh(A)
        rows = t(columns)
        place = xp.argmax(xp.absolute(rows), axis=-1)[..., None]
        put(xp, xp.where(xp.take_along_axis(rows, place, -1) < 0, -rows, rows), output0)
        put(xp, values, output1)

    def backward(self, xp, gs, output0, output1, *, d_A=None):
        of_u, of_values = gs
        apart = output1[..., None, :] - output1[..., :, None]
        n = xp.arange(output1.shape[-1])
        apart[..., n, n] = np.inf
        inner = xp.matmul(of_u, t(output0)) / -apart
        inner = (inner + t(inner)) * 0.5
        inner[..., n, n] = of_values
        xp.matmul(xp.matmul(t(output0), inner), output0, out=d_A)


# ---- determinants and inverses ----


@operator("_linalg_det", "linalg_det")
class Det(Linalg):
    """out (…) = the determinants of A (…, N, N)."""

    def output_labels(self):
        return ("output0",)  # MXNet's operator has two more, hidden outputs

    def infer_shape(self, A):
        square(A)
        return {"out": A[:-2] or (1,)}

    def forward(self, xp, A, *, out):
        put(xp, xp.linalg.det(A).reshape(out.shape), out)

    def backward(self, xp, g, A, out, *, d_A=None):
        factor = (g * out).reshape(A.shape[:-2])[..., None, None]
        xp.multiply(t(xp.linalg.inv(A)), factor, out=d_A)


@operator("_linalg_slogdet", "linalg_slogdet")
class SlogDet(Linalg):
    """output0 (…) = the signs of the determinants of A (…, N, N), output1 = the logarithms of their magnitudes. The
    sign has no gradient.
    """

    def outputs(self):
        return ("output0", "output1")

    def infer_shape(self, A):
        square(A)
        return dict.fromkeys(self.outputs(), A[:-2] or (1,))

    def forward(self, xp, A, *, output0, output1):
        sign, logarithm = xp.linalg.slogdet(A)
        put(xp, sign.reshape(output0.shape), output0)
        put(xp, logarithm.reshape(output1.shape), output1)

    def backward(self, xp, gs, A, *, d_A=None):
        xp.multiply(t(xp.linalg.inv(A)), gs[1].reshape(A.shape[:-2])[..., None, None], out=d_A)


@operator("_linalg_inverse", "linalg_inverse")
class Inverse(Linalg):
    """out (…, N, N) = the inverses of A."""

    def infer_shape(self, A):
        square(A)
        return {"out": A}

    def forward(self, xp, A, *, out):
        put(xp, xp.linalg.inv(A), out)

    def backward(self, xp, g, out, *, d_A=None):
        xp.matmul(xp.matmul(t(out), g), t(out), out=d_A)
        xp.negative(d_A, out=d_A)


# ---- diagonals and triangles as vectors ----


class AsVector(Op):
    """Elements of matrices, chosen by `offset`, and vectors that hold only these."""

    offset: int = param(0, doc="which diagonal: 0 the main one, above it positive, below negative")

    def inputs(self):
        return ("A",)

    def places(self, n: int) -> tuple:
        """Rows and columns of the elements, in the vector's order, in matrices of n rows and columns."""
        along = np.arange(n - abs(self.offset))
        return along - min(self.offset, 0), along + max(self.offset, 0)

    def rows_for(self, length: int) -> int:
        """How many rows matrices have that hold a vector of this length."""
        return length + abs(self.offset)


class Extract(AsVector):
    """out (…, K) = the chosen elements of A (…, N, N)."""

    def infer_shape(self, A):
        n = square(A)
        if abs(self.offset) >= n:
            raise ValueError(f"matrices of {n} rows have no diagonal {self.offset}")
        return {"out": (*A[:-2], len(self.places(n)[0]))}

    def forward(self, xp, A, *, out):
        rows, columns = map(xp.asarray, self.places(A.shape[-1]))
        xp.copyto(out, A[..., rows, columns])

    def backward(self, xp, g, *, d_A=None):
        rows, columns = map(xp.asarray, self.places(d_A.shape[-1]))
        d_A.fill(0)
        d_A[..., rows, columns] = g


class Make(AsVector):
    """out (…, N, N) = zeros but for the chosen elements, which are A (…, K)."""

    def infer_shape(self, A):
        n = self.rows_for(A[-1])
        return {"out": (*A[:-1], n, n)}

    def forward(self, xp, A, *, out):
        rows, columns = map(xp.asarray, self.places(out.shape[-1]))
        out.fill(0)
        out[..., rows, columns] = A

    def backward(self, xp, g, *, d_A=None):
        rows, columns = map(xp.asarray, self.places(g.shape[-1]))
        xp.copyto(d_A, g[..., rows, columns])


class Triangle(AsVector):
    """The elements are a triangle: `offset` and what lies beyond it; for the main diagonal `lower` tells on which side.

    A vector holds a lower triangle row by row and an upper one column by column.
    """

    lower: bool = param(True, doc="for offset 0: the triangle below the diagonal, else the one above")

    def places(self, n):
        if self.offset < 0 or (self.offset == 0 and self.lower):
            return np.tril_indices(n, self.offset)
        columns, rows = np.tril_indices(n, -self.offset)
        return rows, columns

    def rows_for(self, length):
        side = int((2 * length) ** 0.5)
        if side * (side + 1) != 2 * length:
            raise ValueError(f"{length} elements are no triangle")
        return side + abs(self.offset)


@operator("_linalg_extractdiag", "linalg_extractdiag")
class ExtractDiag(Extract):
    """out (…, K) = the diagonals `offset` of A (…, N, N)."""


@operator("_linalg_makediag", "linalg_makediag")
class MakeDiag(Make):
    """out (…, N, N) = matrices with A (…, K) on their diagonals `offset`, zeros elsewhere."""


@operator("_linalg_extracttrian", "linalg_extracttrian")
class ExtractTrian(Triangle, Extract):
    """out (…, K) = the triangles of A (…, N, N) from the diagonal `offset` on, away from the main one."""


@operator("_linalg_maketrian", "linalg_maketrian")
class MakeTrian(Triangle, Make):
    """out (…, N, N) = triangular matrices with the elements A (…, K), zeros elsewhere."""
