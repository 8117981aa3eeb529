"""Products of matrices, and those of attention."""

from __future__ import annotations

import math

from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param
from raymx.ops.shapes import reshaped

STYPES = ("default", "row_sparse", "csr")  # how arrays are stored in MXNet; here they are dense


@operator("dot")
class Dot(Op):
    """out (M…, N…) = lhs (M…, K) · rhs (K, N…): lhs's last axis with rhs's first; of two vectors: shape (1,).

    `transpose_a`: lhs is (K, M…); `transpose_b`: rhs is (N…, K).
    """

    heavy = True
    transpose_a: bool = param(False, doc="contract lhs's first axis")
    transpose_b: bool = param(False, doc="contract rhs's last axis")
    forward_stype: str | None = param(None, doc="accepted and without effect: arrays are dense", choices=STYPES)

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
    forward_stype: str | None = param(None, doc="accepted and without effect: arrays are dense", choices=STYPES)

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


@operator("khatri_rao")
class KhatriRao(Op):
    """out (M1 * M2 * …, N) = for each column the Kronecker product of that column of the inputs (M1, N), (M2, N), ….

    No gradient.
    """

    variadic = "num_args"
    num_args: int = param(doc="number of inputs", low=1)

    def inputs(self):
        return tuple(f"arg{i}" for i in range(self.num_args))

    def infer_shape(self, **known):
        shapes = [known[n] for n in self.inputs()]
        if any(s is None or 0 in s for s in shapes):
            return {}
        if any(len(s) != 2 or s[1] != shapes[0][1] for s in shapes):
            raise ValueError("all must be matrices with the same number of columns")
        return {"out": (math.prod(rows for rows, _ in shapes), shapes[0][1])}

    def forward(self, xp, *args, out):
        product = args[0]
        for factor in args[1:]:
            product = (product[:, None] * factor).reshape(-1, product.shape[1])
        xp.copyto(out, product)


# ---- attention, its queries, keys and values side by side: (length, batch, heads * kinds * size) ----


class Interleaved(Op):
    """Products of queries, keys and values that lie interleaved, head by head, in the last axis of one array."""

    heads: int = param(doc="number of attention heads", low=1)

    def split(self, array, kinds: int):
        """Views (batch, heads, length, size) of the `kinds` arrays that lie in `array`."""
        parts = array.reshape(*array.shape[:2], self.heads, kinds, -1)
        return [parts[:, :, :, i].transpose(1, 2, 0, 3) for i in range(kinds)]

    def checked(self, shape: Shape, kinds: int) -> Shape:
        """`shape` as (length, batch, size of a head)."""
        if len(shape) != 3 or shape[2] % (self.heads * kinds):
            words = f"heads * {kinds} * size" if kinds > 1 else "heads * size"
            raise ValueError(f"each array must have the axes (length, batch, {words})")
        return shape[0], shape[1], shape[2] // (self.heads * kinds)

    def by_head(self, attention):
        """`attention` (batch * heads, …) as (batch, heads, …)."""
        return attention.reshape(-1, self.heads, *attention.shape[1:])

    def scores(self, xp, queries, keys, out) -> None:
        xp.matmul(queries / math.sqrt(queries.shape[-1]), keys.swapaxes(-1, -2), out=self.by_head(out))

    def of_scores(self, xp, g, queries, keys, d_queries, d_keys) -> None:
        g = self.by_head(g) / math.sqrt(queries.shape[-1])
        if d_queries is not None:
            xp.matmul(g, keys, out=d_queries)
        if d_keys is not None:
            xp.matmul(g.swapaxes(-1, -2), queries, out=d_keys)

    def values_seen(self, xp, attention, values, out) -> None:
        (into,) = self.split(out, 1)
        xp.matmul(self.by_head(attention), values, out=into)

    def of_values_seen(self, xp, g, attention, values, d_attention, d_values) -> None:
        (g,), attention = self.split(g, 1), self.by_head(attention)
        if d_attention is not None:
            xp.matmul(g, values.swapaxes(-1, -2), out=self.by_head(d_attention))
        if d_values is not None:
            xp.matmul(attention.swapaxes(-1, -2), g, out=d_values)


@operator("_contrib_interleaved_matmul_selfatt_qk")
class SelfAttentionScores(Interleaved):
    """out (B * heads, L, L) = queries / sqrt(size) · keys, out of queries_keys_values (L, B, heads * 3 * size)."""

    def inputs(self):
        return ("queries_keys_values",)

    def infer_shape(self, queries_keys_values):
        length, batch, _ = self.checked(queries_keys_values, 3)
        return {"out": (batch * self.heads, length, length)}

    def forward(self, xp, queries_keys_values, *, out):
        queries, keys, _ = self.split(queries_keys_values, 3)
        self.scores(xp, queries, keys, out)

    def backward(self, xp, g, queries_keys_values, *, d_queries_keys_values=None):
        queries, keys, _ = self.split(queries_keys_values, 3)
        d_queries, d_keys, d_values = self.split(d_queries_keys_values, 3)
        self.of_scores(xp, g, queries, keys, d_queries, d_keys)
        d_values.fill(0)


@operator("_contrib_interleaved_matmul_selfatt_valatt")
class SelfAttentionValues(Interleaved):
    """out (L, B, heads * size) = attention (B * heads, L, L) · values, out of queries_keys_values."""

    def inputs(self):
        return ("queries_keys_values", "attention")

    def infer_shape(self, queries_keys_values):
        length, batch, width = self.checked(queries_keys_values, 3)
        return {"attention": (batch * self.heads, length, length), "out": (length, batch, self.heads * width)}

    def forward(self, xp, queries_keys_values, attention, *, out):
        self.values_seen(xp, attention, self.split(queries_keys_values, 3)[2], out)

    def backward(self, xp, g, queries_keys_values, attention, *, d_queries_keys_values=None, d_attention=None):
        values = self.split(queries_keys_values, 3)[2]
        d_values = None
        if d_queries_keys_values is not None:
            d_queries_keys_values.fill(0)
            d_values = self.split(d_queries_keys_values, 3)[2]
        self.of_values_seen(xp, g, attention, values, d_attention, d_values)


@operator("_contrib_interleaved_matmul_encdec_qk")
class CrossAttentionScores(Interleaved):
    """out (B * heads, L, K) = queries (L, B, heads * size) / sqrt(size) · keys, out of keys_values, which
    is (K, B, heads * 2 * size).
    """

    def inputs(self):
        return ("queries", "keys_values")

    def infer_shape(self, queries, keys_values):
        (length, batch, width), (keys, *rest) = self.checked(queries, 1), self.checked(keys_values, 2)
        if rest != [batch, width]:
            raise ValueError("queries and keys_values must have the same batch and size")
        return {"out": (batch * self.heads, length, keys)}

    def forward(self, xp, queries, keys_values, *, out):
        self.scores(xp, self.split(queries, 1)[0], self.split(keys_values, 2)[0], out)

    def backward(self, xp, g, queries, keys_values, *, d_queries=None, d_keys_values=None):
        into = None if d_queries is None else self.split(d_queries, 1)[0]
        d_keys = None
        if d_keys_values is not None:
            d_keys, d_values = self.split(d_keys_values, 2)
            d_values.fill(0)
        self.of_scores(xp, g, self.split(queries, 1)[0], self.split(keys_values, 2)[0], into, d_keys)


@operator("_contrib_interleaved_matmul_encdec_valatt")
class CrossAttentionValues(Interleaved):
    """out (L, B, heads * size) = attention (B * heads, L, K) · values, out of keys_values (K, B, heads * 2 * size)."""

    def inputs(self):
        return ("keys_values", "attention")

    def infer_shape(self, keys_values, attention):
        keys, batch, width = self.checked(keys_values, 2)
        if len(attention) != 3 or (attention[0], attention[2]) != (batch * self.heads, keys):
            raise ValueError(f"attention must have the axes ({batch * self.heads}, length, {keys})")
        return {"out": (attention[1], batch, self.heads * width)}

    def forward(self, xp, keys_values, attention, *, out):
        self.values_seen(xp, attention, self.split(keys_values, 2)[1], out)

    def backward(self, xp, g, keys_values, attention, *, d_keys_values=None, d_attention=None):
        values = self.split(keys_values, 2)[1]
        d_values = None
        if d_keys_values is not None:
            d_keys, d_values = self.split(d_keys_values, 2)
            d_keys.fill(0)
        self.of_values_seen(xp, g, attention, values, d_attention, d_values)
