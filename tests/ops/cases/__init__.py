"""The one table of operator cases, a file for each family of `ops/`. `table.py` says how a row is written."""

from tests.ops.cases import (  # noqa: F401
    activation,
    arithmetic,
    convert,
    creation,
    custom,
    elementwise,
    embedding,
    indexing,
    layers,
    losses,
    matrix,
    reduce,
    reorder,
    reshape,
    rnn,
    sequence,
    slicing,
    spatial,
    special,
    trigonometry,
    update,
)
from tests.ops.cases.table import CASES, FLOATS, INTS, Case, Classes, Fixed, case, classes, fixed

__all__ = ["CASES", "FLOATS", "INTS", "Case", "Classes", "Fixed", "case", "classes", "fixed"]
