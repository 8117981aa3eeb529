"""Rows: elements chosen by numbers."""

import numpy as np

from tests.ops.cases.table import FLOATS, INTS, case, classes, fixed


# fmt: off
def _scattered(into, indices, values):
    into[tuple(indices)] = values
    return into


case("element_mask", (3, 2, 2), (3,), constant=("rhs",), ref=lambda x, m: x * m[:, None, None])
case("choose_element_0index", (4, 3), classes(4, 3), ref=lambda x, i: x[range(4), i])
case("fill_element_0index", (4, 3), (4,), classes(4, 3), constant=("lhs", "mhs"),
     ref=lambda x, v, i: np.where(np.arange(3) == i[:, None], v[:, None], x))
case("_onehot_encode", classes(4, 3), (4, 3), ref=lambda i, rows: np.eye(3)[i])


# ---- take, pick, where ----

_few = np.array([[1, 0, 3], [2, 2, 0]])
_wild = np.array([-5, -1, 0, 3, 4, 9])
for _mode, _rows in (("clip", [0, 0, 0, 3, 3, 3]), ("wrap", [3, 3, 0, 3, 0, 1])):
    case("take", (4, 3), _wild, mode=_mode, constant=("indices",), ref=lambda a, i, r=_rows: a[r])
for _dtype in ("int32", "int64", "uint8", "float32"):
    case("take", (4, 3), fixed(_few, _dtype), ref=lambda a, i: a[i.astype(int)])
case("take", (2, 4, 3), classes((2, 2), 4), axis=1, ref=lambda a, i: a[:, i])
case("take", (2, 3, 4), classes(5, 4), axis=-1, ref=lambda a, i: a[:, :, i])
case("take", (4, 3), classes(5, 4), axis=0, mode="raise", ref=lambda a, i: a[i])
case("take", classes((4, 3), 9), classes(5, 4), dtypes=INTS, ref=lambda a, i: a[i])
case("batch_take", (4, 3), fixed([0, 2, -1, 7], "int32"), ref=lambda a, i: a[range(4), [0, 2, 0, 2]])
case("pick", (4, 3), classes(4, 3), ref=lambda x, i: x[range(4), i])
case("pick", (4, 3), classes((4, 1), 3), keepdims=True, ref=lambda x, i: np.take_along_axis(x, i, 1))
case("pick", (4, 3), fixed([0, 3, 2], "int32"), axis=0, ref=lambda x, i: x[i, range(3)])
case("pick", (2, 4, 3), classes((2, 3), 4), axis=1, ref=lambda x, i: np.take_along_axis(x, i[:, None], 1)[:, 0])
case("pick", (2, 3), np.array([-1, 7]), axis=1, constant=("index",), ref=lambda x, i: x[[0, 1], [0, 2]])
case("pick", (2, 3), np.array([-1, 7]), mode="wrap", constant=("index",), ref=lambda x, i: x[[0, 1], [2, 1]])
case("pick", (2, 3), np.array([4]), axis="None", constant=("index",), ref=lambda x, i: x.reshape(-1)[[4]])
case("where", classes((3, 4), 2), (3, 4), (3, 4), ref=np.where)
case("where", classes(3, 2), (3, 4), (3, 4), ref=lambda c, x, y: np.where(c[:, None], x, y))
case("where", fixed([[0, 2, -1]], "int32"), (1, 3), (1, 3), ref=np.where)
case("one_hot", classes((2, 3), 4), depth=4, ref=lambda i: np.eye(4)[i])
case("one_hot", np.array([0, 5, -1, 1]), depth=3, on_value=8, off_value=2, dtype="int32", dtypes=FLOATS + ("int32",),
     ref=lambda i: np.array([[8, 2, 2], [2, 2, 2], [2, 2, 2], [2, 8, 2]]))

# ---- several numbers for an element ----

_pairs = np.array([[0, 1, 0, 1], [2, 0, 2, 1]])
case("gather_nd", (2, 3), fixed(_pairs, "int32"), ref=lambda x, i: x[tuple(i)])
case("gather_nd", (2, 3, 2, 2), fixed(_pairs.reshape(2, 2, 2), "int64"), ref=lambda x, i: x[tuple(i)])
case("gather_nd", (2, 3), np.array([[0, -1], [-3, 0]]), mxnet="its gradient leaves out negative indices",
     ref=lambda x, i: x[[0, 1], [0, 0]], constant=("indices",))
case("scatter_nd", (4, 2), fixed([[0, 1, 1, 0], [2, 0, 1, 0]], "int32"), shape=(2, 3, 2),
     ref=lambda x, i: _scattered(np.zeros((2, 3, 2)), i, x))
case("scatter_nd", (3,), classes((1, 3), 1), shape=(4,), dtypes=("float32",), mxnet="any of equal indices may win",
     ref=lambda x, i: np.array([x[2], 0, 0, 0]), gradient={"data": lambda x, i, g: g[[0, 0, 0]]})
case("_scatter_set_nd", (2, 3), (2,), fixed([[0, 1], [2, 0]], "int32"), shape=(2, 3), constant=("lhs", "rhs"),
     ref=lambda x, v, i: _scattered(x.copy(), i, v))
case("_ravel_multi_index", np.array([[0, 1, 1], [1, 2, 0]]), shape=(2, 3), dtypes=FLOATS + INTS,
     ref=lambda x: np.array([1, 5, 3]))
case("_ravel_multi_index", np.array([[9, 1], [1, 2]]), shape=(-1, 3), ref=lambda x: np.array([28, 5]))
case("_unravel_index", np.array([1, 5, 3]), shape=(2, 3), dtypes=FLOATS + INTS,
     ref=lambda x: np.array([[0, 1, 1], [1, 2, 0]]))
case("_unravel_index", np.array([28, 5]), shape=(-1, 3), ref=lambda x: np.array([[9, 1], [1, 2]]))
case("_contrib_index_copy", (4, 3), fixed([2, 0], "int32"), (2, 3),
     ref=lambda x, i, rows: np.stack([rows[1], x[1], rows[0], x[3]]))
case("_contrib_index_array", (2, 3), ref=lambda x: np.moveaxis(np.indices((2, 3)), 0, -1), constant=("data",))
case("_contrib_index_array", (2, 3, 2), axes=(2, 0), constant=("data",),
     ref=lambda x: np.moveaxis(np.indices((2, 3, 2))[[2, 0]], 0, -1))
