"""Rows: connectionist temporal classification, by all ways one by one."""

import itertools

import numpy as np

from tests.ops.cases.reference import softmax
from tests.ops.cases.table import case


# fmt: off
def _spelled(way, blank):
    """What a way says: repetitions are one, blanks are none."""
    return [k for k, _ in itertools.groupby(way) if k != blank]


def _loss(data, label, steps, blank):
    p = softmax(data[:steps])
    ways = (w for w in itertools.product(range(data.shape[1]), repeat=steps) if _spelled(w, blank) == list(label))
    return -np.log(sum(np.prod(p[range(steps), w]) for w in ways))


def _losses(data, labels, steps=None, counts=None, blank="first"):
    end, blank = (0, 0) if blank == "first" else (-1, data.shape[2] - 1)
    steps = np.full(data.shape[1], len(data)) if steps is None else steps.astype(int)
    if counts is None:
        counts = [list(line).index(end) if end in line else len(line) for line in labels]
    return np.array([_loss(data[:, n], labels[n][: int(k)].astype(int), steps[n], blank) for n, k in enumerate(counts)])


_first = np.array([[1.0, 2, 0], [2, 2, 0], [3, 0, 0], [1, 2, 1]])
_last = np.array([[0.0, 1, -1], [1, 1, -1], [2, -1, -1], [0, 1, 0]])
_steps, _counts = np.array([5.0, 4, 2, 5]), np.array([2.0, 1, 1, 3])
_free = {"dtypes": ("float32", "float64"), "constant": ("label", "data_lengths", "label_lengths")}
case("CTCLoss", (5, 4, 4), _first, **_free, ref=_losses)
case("CTCLoss", (5, 4, 4), _last, blank_label="last", **_free, ref=lambda x, y: _losses(x, y, blank="last"))
case("CTCLoss", (5, 4, 4), _first, _steps, use_data_lengths=True, **_free, ref=_losses)
case("CTCLoss", (5, 4, 4), _first, _counts, use_label_lengths=True, **_free,
     ref=lambda x, y, k: _losses(x, y, counts=k))
case("CTCLoss", (5, 4, 4), _last, _steps, _counts, use_data_lengths=True, use_label_lengths=True, blank_label="last",
     **_free, ref=lambda x, y, s, k: _losses(x, y, s, k, "last"))
case("CTCLoss", (2, 1, 3), np.array([[1.0, 1]]), dtypes=("float32", "float64"), ref=lambda x, y: np.zeros(1),
     gradient={"data": lambda x, y, g: 0 * x}, mxnet="the gradient of a label that does not fit stays unset")
case("CTCLoss", (4, 2, 3), np.array([[0.0, 0], [1, 0]]), **_free, ref=_losses)
