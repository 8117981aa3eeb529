"""Rows: elements in order."""

import numpy as np

from tests.ops.cases.table import FLOATS, INTS, case, classes

# fmt: off
_apart = np.random.default_rng(0).permutation(24).reshape(2, 3, 4) * 0.25
_ties = np.array([[1, 3, 3, 2, 3, 1]])


def _largest(x, k, axis=-1):
    return np.flip(np.argsort(x, axis=axis), axis).take(range(k), axis=axis)


case("sort", _apart, ref=np.sort)
case("sort", _apart, axis=1, is_ascend=False, ref=lambda x: -np.sort(-x, axis=1))
case("sort", _apart, axis="None", ref=lambda x: np.sort(x, axis=None))
case("sort", classes((3, 5), 9), axis=0, dtypes=INTS, ref=lambda x: np.sort(x, axis=0))
case("argsort", _apart, ref=np.argsort)
case("argsort", _apart, axis=1, is_ascend=False, dtype="int32", ref=lambda x: np.argsort(-x, axis=1))
case("argsort", _apart, axis="None", ref=lambda x: np.argsort(x, axis=None))
case("argsort", _ties, dtypes=FLOATS + INTS, ref=lambda x: np.array([[0, 5, 3, 1, 2, 4]]))
case("argsort", _ties, is_ascend=False, dtypes=FLOATS + INTS, ref=lambda x: np.array([[1, 2, 4, 3, 0, 5]]))
case("topk", _apart, ref=lambda x: _largest(x, 1))
case("topk", _apart, axis=1, k=2, ret_typ="value", ref=lambda x: np.take_along_axis(x, _largest(x, 2, 1), 1))
case("topk", _apart, k=3, ret_typ="both", dtype="int32",
     ref=lambda x: (np.take_along_axis(x, _largest(x, 3), 2), _largest(x, 3)))
case("topk", _apart, k=2, ret_typ="mask", is_ascend=True, ref=lambda x: np.argsort(np.argsort(x)) < 2)
case("topk", _apart, k=2, ret_typ="mask", axis="None", ref=lambda x: x >= np.sort(x.reshape(-1))[-2])
case("topk", _apart, k=5, axis="None", ret_typ="both",
     ref=lambda x: (np.sort(x.reshape(-1))[:-6:-1], np.argsort(x.reshape(-1))[:-6:-1]))
case("topk", _apart, k=0, ret_typ="value", is_ascend=True, ref=np.sort)
case("topk", _ties, k=4, dtypes=FLOATS + INTS, ref=lambda x: np.array([[1, 2, 4, 3]]))
