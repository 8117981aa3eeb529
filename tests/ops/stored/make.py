"""Ask MXNet 1.9.1 for its results on every row of the case table, and store them.

    python -m tests.ops.stored.make                    # all rows
    python -m tests.ops.stored.make Convolution take   # the rows of these operators; the others keep what they have

MXNet runs in an environment of its own (benchmarks/peers.py makes it), one row after the other, in `ask.py`. A row that
kills or hangs it is noted like one that it refuses.
"""

from __future__ import annotations

import inspect
import json
import os
import pickle
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

import raymx.ops  # noqa: F401
from benchmarks import peers
from raymx.ops.op import REGISTRY
from raymx.ops.params import text
from tests.ops.cases import Case
from tests.ops.stored import ABSENT, HERE, Store, dtype_of, keys
from tests.ops.test_operators import Run

ROW_TIMEOUT_S = 30
QUIET = os.environ | {"MXNET_SUBGRAPH_VERBOSE": "0"}
_DATE = (2000, 1, 1, 0, 0, 0)  # in the archives, so that equal values are equal files


def main(wanted: list[str]) -> None:
    asked, kept, absent = {}, {}, {}
    store = Store()
    for key, case in keys().items():
        if not wanted or case.op in wanted:
            reason = _not_asked(case)
            if reason:
                absent[key] = reason
            else:
                asked[key] = _request(case)
        elif (row := store.row(key, case.family)) is not None:
            kept[key] = row
        elif key in store.absent:
            absent[key] = store.absent[key]
    for key, answer in _ask(asked).items():
        if isinstance(answer, str):
            absent[key] = answer
        else:
            kept[key] = {what: _array(*packed) for what, packed in answer.items()}
    _write(kept, absent)
    print(f"{len(kept)} rows stored, {len(absent)} absent")


def _not_asked(case: Case) -> str:
    if case.mxnet:
        return f"differs on purpose: {case.mxnet}"
    if "rng" in inspect.signature(case.ref).parameters:
        return "draws random numbers"
    return ""


def _request(case: Case) -> dict:
    """What `ask.py` needs: plain data."""
    run = Run(case, dtype_of(case))
    op = REGISTRY[case.op]
    return {
        "names": list(dict.fromkeys((case.op, op.name, *op.aliases))),
        "attrs": {k: v if isinstance(v, str) else text(v) for k, v in case.params.items()},
        "inputs": {n: (a.dtype.str, a.shape, a.tobytes()) for n, a in zip(run.names, run.ins, strict=True)},
        "aux": list(run.op.aux()),
        "outputs": list(run.op.outputs()[: run.op.visible_outputs()]),
        "train": case.train,
        "wants": list(run.wanted()) if run.dtype.kind == "f" and not run.op.random() else [],
    }


def _array(dtype: str, shape: tuple[int, ...], data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype).reshape(shape)


def _ask(requests: dict[str, dict]) -> dict[str, dict | str]:
    answers: dict[str, dict | str] = {}
    with tempfile.TemporaryDirectory() as folder:
        while left := {k: r for k, r in requests.items() if k not in answers}:
            found, last = _session(Path(folder), left)
            answers.update(found)
            if last is not None:
                answers[last] = "MXNet crashes or hangs"
    return answers


def _session(folder: Path, requests: dict[str, dict]) -> tuple[dict, str | None]:
    """The answers of one process, and the row in which it ended before its time."""
    (folder / "requests").write_bytes(pickle.dumps(list(requests.items()), protocol=4))
    (folder / "answers").write_bytes(b"")
    python, script = peers.interpreter("mxnet"), Path(__file__).with_name("ask.py")
    process = subprocess.Popen([python, script, folder / "requests", folder / "answers", str(ROW_TIMEOUT_S)], env=QUIET)
    if process.wait() == 1:  # an error of ours; MXNet ends otherwise
        raise SystemExit("the process that asks MXNet failed")
    answers, keys_left = {}, list(requests)
    with open(folder / "answers", "rb") as stream:
        while True:
            try:
                key, answer = pickle.load(stream)
            except (EOFError, pickle.UnpicklingError):
                break
            answers[key] = answer
    unanswered = [k for k in keys_left if k not in answers]
    return answers, unanswered[0] if unanswered else None


def _write(rows: dict[str, dict[str, np.ndarray]], absent: dict[str, str]) -> None:
    families: dict[str, dict[str, np.ndarray]] = {}
    cases = keys()
    for key in cases:
        if key in rows:
            arrays = families.setdefault(cases[key].family, {})
            arrays.update((f"{key}|{what}", array) for what, array in rows[key].items())
    for old in HERE.glob("*.npz"):
        old.unlink()
    for family, arrays in families.items():
        with zipfile.ZipFile(HERE / f"{family}.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, array in arrays.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy", _DATE), "w") as file:
                    np.lib.format.write_array(file, np.asarray(array), version=(1, 0))
    ABSENT.write_text(json.dumps({k: absent[k] for k in cases if k in absent}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
