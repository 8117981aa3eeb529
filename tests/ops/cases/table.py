"""The table of operator cases: one row an operator (or one of its modes), with a plain NumPy reference.

    case("exp", (2, 3), ref=np.exp)
    case("FullyConnected", (4, 6), (5, 6), (5,), num_hidden=5, ref=lambda x, w, b: x @ w.T + b)

Positional arguments after the name are the inputs and aux states: a tuple is a shape, drawn uniformly from `between`;
an array stands for itself, in the element type of the run; `fixed(values, dtype)` keeps its own; `classes(shape, n)`
draws whole numbers below n. All further keywords are the operator's parameters, except:

- `ref(*inputs)`: the expected output, a tuple of them, or a dict by name, which may hold aux states, too. It gets the
  inputs in float64 (whole numbers as they are) and, if it wants it, `rng`, seeded as the kernel's.
- `between`: bounds of the drawn numbers; `dtypes`: element types to run in; `train`: run as in training.
- `gradient`: input → function of (*inputs, g) giving its gradient, for losses, which state theirs, and for ties. Other
  gradients are compared with central differences in one random direction.
- `constant`: inputs through which no gradient passes although the output depends on them.
- `symmetric`: the inputs are symmetric matrices, and only such directions are tried for gradients.
- `mxnet`: why the results that MXNet 1.9.1 gives for this row are not ours (see tests/ops/stored/).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

FLOATS = ("float32", "float64", "float16")
INTS = ("int32", "uint8", "int8", "int64")


@dataclass
class Case:
    op: str
    inputs: tuple
    ref: Callable
    params: dict
    between: tuple[float, float] = (-1.0, 1.0)
    dtypes: tuple[str, ...] = FLOATS
    train: bool = False
    gradient: dict[str, Callable] = field(default_factory=dict)
    constant: tuple[str, ...] = ()
    symmetric: bool = False
    mxnet: str = ""
    family: str = ""  # the file that holds the row

    def __str__(self):
        words = [self.op, *(f"{k}={v}" for k, v in self.params.items())]
        if self.dtypes != FLOATS:
            words.append("/".join(self.dtypes))
        return " ".join(words)


@dataclass
class Classes:
    """An input of whole numbers from 0 to below `n`."""

    shape: tuple[int, ...]
    n: int


def classes(shape, n: int) -> Classes:
    return Classes((shape,) if isinstance(shape, int) else shape, n)


@dataclass
class Fixed:
    """An input with an element type of its own, whatever the run's."""

    values: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape


def fixed(values, dtype: str) -> Fixed:
    return Fixed(np.array(values, dtype))


CASES: list[Case] = []
_OPTIONS = ("between", "dtypes", "train", "gradient", "constant", "symmetric", "mxnet")


def case(op: str, *inputs, ref, **keywords) -> None:
    options = {k: keywords.pop(k) for k in _OPTIONS if k in keywords}
    family = sys._getframe(1).f_globals["__name__"].rpartition(".")[2]
    CASES.append(Case(op, inputs, ref, keywords, **options, family=family))
