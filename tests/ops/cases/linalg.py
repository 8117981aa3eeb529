"""Rows: linear algebra."""

import numpy as np

from tests.ops.cases.table import case

# fmt: off
_rng = np.random.default_rng(0)
_any = _rng.uniform(-1, 1, (2, 3, 3)) + 2 * np.eye(3)
_definite = _any @ _any.swapaxes(1, 2) + np.eye(3)
_apart = np.diag([1.0, 2, 4]) + 0.25 * (_any + _any.swapaxes(1, 2))  # symmetric, with eigenvalues that differ
_wide = ("float32", "float64")


def _t(x):
    return x.swapaxes(-1, -2)


for _name, _extra in (("_linalg_gemm2", ()), ("_linalg_gemm", ((2, 3, 5),))):
    def _product(a, b, c=0.0, alpha=1.0, beta=1.0):
        return alpha * (a @ b) + beta * c

    case(_name, (2, 3, 4), (2, 4, 5), *_extra, ref=_product)
    case(_name, (2, 4, 3), (2, 5, 4), *_extra, transpose_a=True, transpose_b=True, alpha=-0.5,
         ref=lambda a, b, *c, f=_product: f(_t(a), _t(b), *c, alpha=-0.5))
case("_linalg_gemm", (3, 4), (4, 5), (3, 5), alpha=2, beta=-0.5, ref=lambda a, b, c: 2 * a @ b - 0.5 * c)
case("_linalg_gemm2", (3, 2, 4), (4, 2, 5), axis=0, ref=lambda a, b: np.einsum("msk,ksn->msn", a, b))
case("_linalg_gemm2", (3, 2, 4), (5, 2, 4), axis=-3, transpose_b=True, ref=lambda a, b: np.einsum("msk,nsk->msn", a, b))
case("_linalg_syrk", (2, 3, 4), ref=lambda a: a @ _t(a))
case("_linalg_syrk", (3, 4), transpose=True, alpha=0.5, ref=lambda a: 0.5 * a.T @ a)
for _lower in (True, False):
    _half = np.tril if _lower else np.triu
    for _turn in (False, True):
        def _acting(a, half=_half, turn=_turn):
            return _t(half(a)) if turn else half(a)

        _settings = {"lower": _lower, "transpose": _turn, "alpha": 1.5}
        case("_linalg_trmm", (2, 3, 3), (2, 3, 4), **_settings, dtypes=_wide,
             ref=lambda a, b, f=_acting: 1.5 * f(a) @ b)
        case("_linalg_trmm", (3, 3), (4, 3), rightside=True, **_settings, dtypes=_wide,
             ref=lambda a, b, f=_acting: 1.5 * b @ f(a))
        case("_linalg_trsm", _any, (2, 3, 4), **_settings, dtypes=_wide,
             ref=lambda a, b, f=_acting: 1.5 * np.linalg.inv(f(a)) @ b)
        case("_linalg_trsm", _any[0], (4, 3), rightside=True, **_settings, dtypes=_wide,
             ref=lambda a, b, f=_acting: 1.5 * b @ np.linalg.inv(f(a)))
case("_linalg_potrf", _definite, dtypes=_wide, symmetric=True, ref=np.linalg.cholesky)
case("_linalg_potrf", _definite[0], dtypes=_wide, symmetric=True, ref=np.linalg.cholesky)
case("_linalg_potri", _any, dtypes=_wide, ref=lambda a: np.linalg.inv(np.tril(a) @ _t(np.tril(a))))
case("_linalg_sumlogdiag", _definite, dtypes=_wide, ref=lambda a: np.log(np.diagonal(a, axis1=1, axis2=2)).sum(axis=1))
case("_linalg_sumlogdiag", _definite[0], dtypes=_wide, ref=lambda a: np.log(np.diag(a)).sum(keepdims=True))


def _lq(a):
    q, r = np.linalg.qr(_t(a))
    return _t(q), _t(r)


case("_linalg_gelqf", (2, 3, 4), dtypes=_wide, ref=_lq)
case("_linalg_gelqf", (3, 3), dtypes=_wide, ref=_lq)


def _eigen(a):
    values, columns = np.linalg.eigh(a)
    rows = _t(columns)
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=-1)[..., None], -1)
    return rows * np.sign(largest), values


case("_linalg_syevd", _apart, dtypes=_wide, symmetric=True, ref=_eigen)
case("_linalg_syevd", np.array([[2.0, -1], [-1, 3]]), dtypes=_wide, symmetric=True, ref=_eigen)
case("_linalg_det", _any, dtypes=_wide, ref=np.linalg.det)
case("_linalg_det", _any[0], dtypes=_wide, ref=lambda a: np.linalg.det(a)[None])
case("_linalg_slogdet", _any * np.array([1, -1])[:, None, None], dtypes=_wide,
     ref=lambda a: tuple(np.linalg.slogdet(a)))
case("_linalg_inverse", _any, dtypes=_wide, ref=np.linalg.inv)
for _offset in (-1, 0, 2):
    case("_linalg_extractdiag", (2, 4, 4), offset=_offset, ref=lambda a, o=_offset: np.diagonal(a, o, 1, 2))
    case("_linalg_makediag", (2, 3), offset=_offset, ref=lambda a, o=_offset: np.stack([np.diag(x, o) for x in a]))


def _lower_part(a, offset):
    return a[(..., *np.tril_indices(a.shape[-1], offset))]


def _with_lower_part(a, offset, n):
    out = np.zeros((*a.shape[:-1], n, n))
    out[(..., *np.tril_indices(n, offset))] = a
    return out


for _offset in (-1, 0):
    case("_linalg_extracttrian", (2, 4, 4), offset=_offset, ref=lambda a, o=_offset: _lower_part(a, o))
    case("_linalg_extracttrian", (2, 4, 4), offset=-_offset, lower=False,
         ref=lambda a, o=_offset: _lower_part(_t(a), o))
    case("_linalg_maketrian", (2, 6), offset=_offset, ref=lambda a, o=_offset: _with_lower_part(a, o, 3 - o))
    case("_linalg_maketrian", (2, 6), offset=-_offset, lower=False,
         ref=lambda a, o=_offset: _t(_with_lower_part(a, o, 3 - o)))
