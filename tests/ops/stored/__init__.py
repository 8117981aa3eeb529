"""What MXNet 1.9.1 computes for the rows of the case table: one `.npz` a family, and `absent.json` with the reason for
each row that has none. `python -m tests.ops.stored.make` asks MXNet again; `Store` reads.

Keys in a file are `<row>|<what>`, where what is `in:<input>`, `out:<output>`, `head:<number>`, `grad:<input>`, or
`aux:<state>` for a state after the pass.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from functools import cached_property
from pathlib import Path

import numpy as np

from tests.ops.cases import CASES, Case

HERE = Path(__file__).parent
ABSENT = HERE / "absent.json"


def keys() -> dict[str, Case]:
    """A key for each row: its words, the shapes of its inputs, and a number where that is still ambiguous."""
    seen: Counter[str] = Counter()
    found = {}
    for case in CASES:
        text = f"{case} {' '.join(map(_shape, case.inputs))}".strip()
        seen[text] += 1
        found[text if seen[text] == 1 else f"{text} #{seen[text]}"] = case
    return found


def _shape(spec) -> str:
    shape = spec if isinstance(spec, tuple) else spec.shape
    return f"({','.join(map(str, shape))})"


def dtype_of(case: Case) -> str:
    """The element type in which a row is asked: float32 where it can be."""
    return "float32" if "float32" in case.dtypes else case.dtypes[0]


class Store:
    """The stored results, loaded family by family."""

    def __init__(self):
        self._rows: dict[str, dict[str, dict[str, np.ndarray]]] = {}

    @cached_property
    def absent(self) -> dict[str, str]:
        return json.loads(ABSENT.read_text()) if ABSENT.exists() else {}

    def row(self, key: str, family: str) -> dict[str, np.ndarray] | None:
        """Arrays by what they are; None if there is nothing for this row."""
        return self.rows(family).get(key)

    def rows(self, family: str) -> dict[str, dict[str, np.ndarray]]:
        """Everything stored of a family, by row."""
        if family not in self._rows:
            self._rows[family] = _load(HERE / f"{family}.npz")
        return self._rows[family]


def _load(path: Path) -> dict[str, dict[str, np.ndarray]]:
    rows: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    if path.exists():
        with np.load(path) as arrays:
            for name in arrays.files:
                key, _, what = name.rpartition("|")
                rows[key][what] = arrays[name]
    return dict(rows)
