"""Rows: layouts."""

from tests.ops.cases.table import case

case("_reorder", (2, 3, 4), ref=lambda x: x)
case("_reorder", (2, 3, 1), rename=True, ref=lambda x: x)
