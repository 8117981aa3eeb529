"""The one table of operator cases, a file for each family of `ops/`. `table.py` says how a row is written."""

from tests.ops.cases import (  # noqa: F401
    activation,
    arithmetic,
    columns,
    convert,
    convolution,
    correlation,
    creation,
    ctc,
    custom,
    elementwise,
    embedding,
    fused,
    indexing,
    layers,
    linalg,
    losses,
    matrix,
    normalize,
    ordering,
    pooling,
    reduce,
    regions,
    reorder,
    reshape,
    rnn,
    sampling,
    sequence,
    slicing,
    spatial,
    special,
    trigonometry,
    update,
)
from tests.ops.cases.table import CASES, FLOATS, INTS, Case, Classes, Fixed, case, classes, fixed

__all__ = ["CASES", "FLOATS", "INTS", "Case", "Classes", "Fixed", "case", "classes", "fixed"]
