"""Optimizer rules by oneDNN have the bits of NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

import raymx.ops  # noqa: F401
from raymx import config
from raymx.ops import kernels
from raymx.ops.kernels import onednn
from raymx.ops.op import make

pytestmark = pytest.mark.skipif(not onednn.load(), reason="oneDNN's library is not installed")
SIZE = 12345


def after(op, special: bool) -> list[bytes]:
    """The arrays after three updates in place."""
    rng = np.random.default_rng(0)
    ins = [rng.normal(size=SIZE).astype("float32") for _ in op.inputs() + op.aux()]
    with config.using(onednn=special):
        named = dict(zip(op.inputs() + op.aux(), ins, strict=True))
        assert (kernels.prepare(op, "forward", np, named, {"out": ins[0]}, {}) is not None) is special
        run = op.prepare(np, ins, [ins[0]], step=np.empty(SIZE, "float32"))
        for _ in range(3):
            run()
    return [a.tobytes() for a in ins]


@pytest.mark.parametrize("wd", [0.0, 0.01])
@pytest.mark.parametrize("rule", ["sgd_update", "sgd_mom_update"])
def test_bits_are_numpys(rule, wd):
    params = {"momentum": 0.9} if "mom" in rule else {}
    op = make(rule, lr=0.1, wd=wd, rescale_grad=1 / 3, **params)
    assert after(op, True) == after(op, False)
