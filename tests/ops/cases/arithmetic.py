"""Rows: two arrays, of one shape or stretched."""

import numpy as np

from tests.ops.cases.reference import positive
from tests.ops.cases.table import FLOATS, INTS, case, classes


# fmt: off
def _cut(quotient):
    return np.trunc(quotient)


_two = {
    "plus": np.add, "minus": np.subtract, "mul": np.multiply, "div": np.divide, "mod": np.mod, "power": np.power,
    "hypot": np.hypot, "maximum": np.maximum, "minimum": np.minimum, "equal": np.equal, "not_equal": np.not_equal,
    "greater": np.greater, "greater_equal": np.greater_equal, "lesser": np.less, "lesser_equal": np.less_equal,
}
for _name, _ref in _two.items():
    case(f"_{_name}", (2, 3), (2, 3), between=positive, ref=_ref)
    case(f"broadcast_{_name}", (2, 1, 4), (1, 3, 4), between=positive, ref=_ref)
    case(f"broadcast_{_name}", (4,), (2, 3, 1), between=positive, ref=_ref)
    case(f"_{_name}_scalar", (2, 3), scalar=1.25, between=positive, ref=lambda x, f=_ref: f(x, 1.25))
for _name in ("minus", "div", "mod", "power"):
    case(f"_r{_name}_scalar", (2, 3), scalar=1.5, between=positive, ref=lambda x, f=_two[_name]: f(1.5, x))
    case(f"_{_name}", classes((3, 4), 9), 1 + np.arange(12).reshape(3, 4) % 5, dtypes=("int32", "int64"),
         ref=lambda a, b, f=_two[_name]: _cut(f(a, b)))
for _name in ("equal", "greater_equal", "lesser"):
    case(f"_{_name}", classes((20,), 3), classes((20,), 3), dtypes=FLOATS + INTS, ref=_two[_name])
    case(f"_{_name}_scalar", classes((20,), 3), scalar=1, dtypes=FLOATS + INTS, ref=lambda x, f=_two[_name]: f(x, 1))
for _name, _left in (("maximum", np.greater_equal), ("minimum", np.less_equal)):  # with ties
    case(f"_{_name}", classes((20,), 3), classes((20,), 3), ref=_two[_name],
         gradient={"lhs": lambda a, b, g, f=_left: f(a, b) * g,
                   "rhs": lambda a, b, g, f=_left: ~f(a, b) * g})
    case(f"_{_name}_scalar", classes((20,), 3), scalar=1, ref=lambda x, f=_two[_name]: f(x, 1),
         gradient={"data": lambda x, g, f=_left: f(x, 1) * g})
case("max", np.array([[1.0, 3, 3], [2, 2, 1]]), axis=1, ref=lambda x: x.max(axis=1),
     gradient={"data": lambda x, g: (x == x.max(axis=1, keepdims=True)) * g[:, None]})
case("_mod", np.array([7.0, -7, 7, -7, 5.5]), np.array([3.0, 3, -3, -3, 0.75]),
     ref=lambda a, b: np.array([1, 2, -2, -1, 0.25]),
     gradient={"lhs": lambda a, b, g: g, "rhs": lambda a, b, g: -np.floor(a / b) * g})
case("_mod", np.array([3, -3]), np.array([0, 0]), dtypes=FLOATS[2:] + ("int32",), ref=lambda a, b: np.zeros(2))
case("_mod_scalar", np.array([7.0, -7]), scalar=-3, ref=lambda x: np.mod(x, -3), gradient={"data": lambda x, g: g})
case("_div", np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2]), dtypes=("int32", "int8", "int64"),
     ref=lambda a, b: np.array([3, -3, -3, 3]))
case("_div_scalar", np.array([7, -7, 6]), scalar=2, dtypes=("int32", "int8", "int64"),
     ref=lambda a: np.array([3, -3, 3]))
case("_rdiv_scalar", np.array([2, -2, 7]), scalar=7, dtypes=("int32", "int8", "int64"),
     ref=lambda a: np.array([3, -3, 1]))
case("_plus_scalar", np.array([1, 2]), scalar=1.5, dtypes=INTS, ref=lambda x: x + 1)
case("_plus_scalar", np.array([200, 100]), scalar=100, dtypes=("uint8",), ref=lambda x: np.array([44, 200]))
case("_mul_scalar", np.array([200, 100]), scalar=-1, dtypes=("uint8",), ref=lambda x: np.array([56, 156]))
case("_power_scalar", np.array([2, -3]), scalar=-1, dtypes=("int32", "int8", "int64"), ref=lambda x: np.array([0, 0]))
case("_power_scalar", (2, 3), scalar=2, ref=np.square)
case("_rpower_scalar", np.array([3, -1]), scalar=2, dtypes=("int32",), ref=lambda x: np.array([8, 0]))
for _seed, _right, _left in (
    ("_PlusScalar", lambda x: x + 2, lambda x: x + 2),
    ("_MinusScalar", lambda x: x - 2, lambda x: 2 - x),
    ("_MulScalar", lambda x: x * 2, lambda x: x * 2),
    ("_DivScalar", lambda x: x / 2, lambda x: 2 / x),
    ("_PowerScalar", lambda x: x**2, lambda x: 2**x),
    ("_MaximumScalar", lambda x: np.maximum(x, 2), lambda x: np.maximum(x, 2)),
    ("_MinimumScalar", lambda x: np.minimum(x, 2), lambda x: np.minimum(x, 2)),
):
    case(_seed, (2, 3), scalar="2", between=positive, ref=_right)
    case(_seed, (2, 3), scalar="2", scalar_on_left="True", between=positive, ref=_left)
case("ElementWiseSum", (2, 3), num_args=1, ref=lambda a: a)
case("ElementWiseSum", (2, 3), (2, 3), (2, 3), num_args=3, ref=lambda a, b, c: a + b + c)
for _name in ("logical_and", "logical_or", "logical_xor"):
    _ref = getattr(np, _name)
    case(f"_{_name}", classes((20,), 2), classes((20,), 3), dtypes=FLOATS + INTS, ref=_ref)
    case(f"broadcast_{_name}", classes((4, 1), 2), classes((3,), 2), ref=_ref)
    for _scalar in (0, 1):
        case(f"_{_name}_scalar", classes((5,), 2), scalar=_scalar, dtypes=FLOATS + INTS,
             ref=lambda x, f=_ref, s=_scalar: f(x, s))
