from __future__ import annotations

import numpy as np
import pytest

from raymx.ops.op import make
from raymx.ops.update import BLOCK

SHAPES = {"sgd_update": 2, "sgd_mom_update": 3, "adam_update": 4, "nag_mom_update": 3, "rmsprop_update": 3}


def _step(op, arrays, shape):
    arrays = [a.copy() for a in arrays]
    scratch = {n: np.full(s, 77, t) for n, (s, t) in op.scratch({"weight": shape}, arrays[0].dtype).items()}
    op.prepare(np, arrays, [arrays[0]], **scratch)()
    return arrays


@pytest.mark.parametrize("name", SHAPES)
def test_blocks_change_nothing(name):
    """A long array in one piece, and strided so that it cannot be cut into blocks: the same, bit for bit."""
    op = make(name, lr=0.1, wd=0.01, clip_gradient=0.3, rescale_grad=0.5)
    shape = (2, BLOCK + 7)
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(0.5, 1, shape).astype("float32") for _ in range(SHAPES[name])]
    strided = [np.stack([a, a], axis=2)[:, :, 0] for a in arrays]
    scratch = {n: np.empty(s, t) for n, (s, t) in op.scratch({"weight": shape}, arrays[0].dtype).items()}
    op.prepare(np, strided, [strided[0]], **scratch)()
    for got, expected in zip(_step(op, arrays, shape), strided, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", SHAPES)
def test_the_gradient_is_not_touched(name):
    arrays = [np.ones((3, 4), "float32") for _ in range(SHAPES[name])]
    assert (_step(make(name, lr=0.1), arrays, (3, 4))[1] == 1).all()


def test_only_the_rate_changes_from_step_to_step():
    assert make("sgd_update", lr=0.1, wd=0.5) is make("sgd_update", wd=0.5, lr=0.1)
    assert make("sgd_update", lr=0.1) is not make("sgd_update", lr=0.05)
