"""Rows: products of matrices."""

import functools

import numpy as np

from tests.ops.cases.table import case, classes

# fmt: off
case("dot", (4, 3), (3, 5), ref=np.dot)
case("dot", (3,), (3,), ref=lambda a, b: np.array([a @ b]))
case("dot", (2, 3), (3,), ref=np.dot)
case("dot", (3, 4), (3, 5), transpose_a=True, ref=lambda a, b: a.T @ b)
case("dot", (4, 3), (5, 3), transpose_b=True, ref=lambda a, b: a @ b.T)
case("dot", (3, 4), (5, 3), transpose_a=True, transpose_b=True, ref=lambda a, b: a.T @ b.T)
case("dot", (2, 3, 4), (4, 5, 6), ref=lambda a, b: np.einsum("abk,kcd->abcd", a, b))
case("dot", (4, 2, 3), (5, 6, 4), transpose_a=True, transpose_b=True,
     ref=lambda a, b: np.einsum("kab,cdk->abcd", a, b))
case("dot", classes((2, 3), 5), classes((3, 4), 5), dtypes=("int32",), ref=np.dot)
case("batch_dot", (2, 3, 4), (2, 4, 5), ref=np.matmul)
case("batch_dot", (2, 2, 4, 3), (2, 2, 4, 5), transpose_a=True, ref=lambda a, b: np.einsum("xykm,xykn->xymn", a, b))
case("batch_dot", (2, 3, 4), (2, 5, 4), transpose_b=True, ref=lambda a, b: np.einsum("xmk,xnk->xmn", a, b))
case("batch_dot", (2, 4, 3), (2, 5, 4), transpose_a=True, transpose_b=True,
     ref=lambda a, b: np.einsum("xkm,xnk->xmn", a, b))


def _khatri_rao(*matrices):
    columns = zip(*(m.T for m in matrices), strict=True)
    return np.stack([functools.reduce(np.kron, column) for column in columns], axis=1)


case("khatri_rao", (2, 3), (4, 3), num_args=2, constant=("arg0", "arg1"), ref=_khatri_rao)
case("khatri_rao", (2, 2), (3, 2), (2, 2), num_args=3, constant=("arg0", "arg1", "arg2"), ref=_khatri_rao)
case("khatri_rao", (2, 3), num_args=1, constant=("arg0",), ref=_khatri_rao)

# ---- attention: 2 heads, arrays (length, batch, heads, kinds, size) ----


def _parts(x, kinds):
    return x.reshape(*x.shape[:2], 2, kinds, -1)


def _scores(queries, keys):
    scores = np.einsum("lbhs,kbhs->bhlk", queries, keys) / np.sqrt(queries.shape[-1])
    return scores.reshape(-1, *scores.shape[2:])


def _seen(attention, values):
    attention = attention.reshape(values.shape[1], 2, *attention.shape[1:])
    seen = np.einsum("bhlk,kbhs->lbhs", attention, values)
    return seen.reshape(*seen.shape[:2], -1)


case("_contrib_interleaved_matmul_selfatt_qk", (4, 3, 30), heads=2,
     ref=lambda x: _scores(_parts(x, 3)[..., 0, :], _parts(x, 3)[..., 1, :]))
case("_contrib_interleaved_matmul_selfatt_valatt", (4, 3, 30), (6, 4, 4), heads=2,
     ref=lambda x, a: _seen(a, _parts(x, 3)[..., 2, :]))
case("_contrib_interleaved_matmul_encdec_qk", (4, 3, 10), (5, 3, 20), heads=2,
     ref=lambda q, x: _scores(_parts(q, 1)[..., 0, :], _parts(x, 2)[..., 0, :]))
case("_contrib_interleaved_matmul_encdec_valatt", (5, 3, 20), (6, 4, 5), heads=2,
     ref=lambda x, a: _seen(a, _parts(x, 2)[..., 1, :]))
