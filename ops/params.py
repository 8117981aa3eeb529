"""Operator parameters: declared once, checked and parsed everywhere (also from the strings of JSON files)."""

from __future__ import annotations

import ast
from typing import Any

import numpy as np

from raymx.errors import ParameterError, did_you_mean

REQUIRED: Any = object()
Shape = tuple[int, ...]
Bounds = tuple[int | None, ...]  # of slices, axis by axis
Floats = tuple[float, ...]

_TRUE, _FALSE = {"True", "true", "1"}, {"False", "false", "0"}


class Param:
    """One declared parameter. `kind` is one of int, float, number, bool, str, shape, bounds, floats, dtype; it is read
    from the class's annotation (`kernel: Shape`, `p: float`, `dtype: np.dtype`, `axis: int | None`)."""

    def __init__(self, default=REQUIRED, *, doc="", low=None, high=None, choices=None):
        self.default, self.doc, self.low, self.high, self.choices = default, doc, low, high, choices
        self.name, self.kind, self.optional = "", "str", False

    def declare(self, name: str, annotation: str) -> None:
        words = [w.strip() for w in str(annotation).split("|")]
        self.optional = "None" in words or self.default is None
        words = [w for w in words if w != "None"]
        known = {"int": "int", "float": "float", "bool": "bool", "str": "str", "Shape": "shape", "Bounds": "bounds",
                 "Floats": "floats", "np.dtype": "dtype"}  # fmt: skip
        self.name = name
        self.kind = "number" if set(words) == {"int", "float"} else known[words[0]]

    def parse(self, value, who: str):
        """`value` as this parameter's type; raises ParameterError that names `who`, the value and what fits."""
        if value is None or (self.optional and value in ("None", "")):
            if self.optional:
                return None
            raise ParameterError(f"{who}: {self.name} must be {self.describe()}, got None.")
        try:
            parsed = _PARSERS[self.kind](value)
        except (ValueError, TypeError, SyntaxError):
            raise ParameterError(f"{who}: {self.name} must be {self.describe()}, got {value!r}.") from None
        self._check(parsed, who)
        return parsed

    def _check(self, value, who):
        bad = self.choices is not None and value not in self.choices
        if self.kind in ("int", "float", "number"):
            bad = bad or (self.low is not None and value < self.low) or (self.high is not None and value > self.high)
        if bad:
            raise ParameterError(f"{who}: {self.name} must be {self.describe()}, got {value!r}.")

    def describe(self) -> str:
        if self.choices is not None:
            return "one of " + ", ".join(repr(c) for c in self.choices)
        words = {
            "int": "an integer",
            "float": "a number",
            "number": "a number",
            "bool": "True or False",
            "str": "a string",
            "shape": "a tuple of integers",
            "bounds": "a tuple of integers and None",
            "floats": "a tuple of numbers",
            "dtype": "an element type",
        }[self.kind]
        if self.low is not None and self.high is not None:
            words += f" from {self.low} to {self.high}"
        elif self.low is not None:
            words += f" of at least {self.low}"
        elif self.high is not None:
            words += f" of at most {self.high}"
        return words


def param(default=REQUIRED, *, doc="", low=None, high=None, choices=None) -> Any:
    """Declare an operator parameter in a class body; without a default it must be given."""
    return Param(default, doc=doc, low=low, high=high, choices=choices)


def _int(value) -> int:
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    if isinstance(value, str):
        return int(value, 0)
    if isinstance(value, (float, np.floating)) and float(value) != int(value):
        raise ValueError
    return int(value)


def _float(value) -> float:
    return float(value)


def _number(value) -> int | float:
    if isinstance(value, str):
        value = ast.literal_eval(value) if value.lower() not in ("inf", "-inf", "nan") else float(value)
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        return int(value)
    return float(value)


def _bool(value) -> bool:
    text = str(value)
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError


def _str(value) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _shape(value) -> Shape:
    return tuple(_int(v) for v in _sequence(value))


def _bounds(value) -> Bounds:
    return tuple(None if v is None else _int(v) for v in _sequence(value))


def _floats(value) -> Floats:
    return tuple(map(float, _sequence(value)))


def _sequence(value):
    if isinstance(value, str):
        value = ast.literal_eval(value.replace("L", "").replace("[", "(").replace("]", ",)").replace(",,", ","))
    return (value,) if value is None or isinstance(value, (int, float, np.number)) else value


# MXNet's ids for element types, as they stand in `.params` files
DTYPE_IDS = {0: "float32", 1: "float64", 2: "float16", 3: "uint8", 4: "int32", 5: "int8", 6: "int64", 7: "bool"}
DTYPES = {name: np.dtype(name) for name in DTYPE_IDS.values()}


def as_dtype(value) -> np.dtype:
    """The NumPy dtype of `value`; raises TypeError for one that arrays cannot have."""
    dtype = np.dtype(value)
    if dtype.name not in DTYPES:
        raise TypeError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype}.")
    return DTYPES[dtype.name]


_PARSERS = {
    "int": _int,
    "float": _float,
    "number": _number,
    "bool": _bool,
    "str": _str,
    "shape": _shape,
    "bounds": _bounds,
    "floats": _floats,
    "dtype": as_dtype,
}


def text(value) -> str:
    """A parameter value as MXNet's JSON writes it."""
    if isinstance(value, tuple):
        words = ", ".join(str(v if v is None or isinstance(v, float) else int(v)) for v in value)
        return f"({words},)" if len(value) == 1 else f"({words})"
    if isinstance(value, np.dtype):
        return value.name
    return str(value)


def parse_all(declared: dict[str, Param], given: dict[str, Any], who: str) -> dict[str, Any]:
    """Every declared parameter with its value, parsed; unknown and missing ones are errors."""
    for name in given:
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise ParameterError(f"{who}: unknown parameter {name!r}{did_you_mean(name, declared)} (known: {known}).")
    values = {}
    for name, p in declared.items():
        if name in given:
            values[name] = p.parse(given[name], who)
        elif p.default is REQUIRED:
            raise ParameterError(f"{who}: parameter {name!r} ({p.describe()}) is missing.")
        else:
            values[name] = p.default
    return values
