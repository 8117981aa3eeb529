"""Every row of an operator whose special kernels take any layout, in each layout: the same results."""

from __future__ import annotations

import numpy as np
import pytest

from raymx.errors import MXNetError
from raymx.ops.gradient import gradient_of
from raymx.ops.kernels import onednn
from raymx.ops.layout import BLOCKED, NHWC, PLAIN, Blocked, fits, laid_out, layout_of, logical, unblocked
from raymx.ops.op import make
from tests.ops.cases import CASES
from tests.ops.test_operators import Run, _close

pytestmark = pytest.mark.skipif(not onednn.load(), reason="oneDNN's library is not installed")

OPERATORS = (
    "Convolution", "Deconvolution", "Pooling", "Pooling_v1", "BatchNorm", "LRN", "_conv_act", "_batchnorm_relu",
)  # fmt: skip
ROWS = [c for c in CASES if c.op in OPERATORS and make(c.op, **c.params).channelled]


def _into(array, layout: str):
    """The same values in another layout."""
    target = laid_out(np.full(array.size, 77, array.dtype), array.shape, layout)
    _copy(array, target)
    return target


def _copy(source, target) -> None:
    if isinstance(source, Blocked) or isinstance(target, Blocked):
        source, target = _split(source), _split(target)
    np.copyto(target, source)


def _split(array):
    if isinstance(array, Blocked):
        return unblocked(array)
    return array.reshape(array.shape[0], array.shape[1] // 16, 16, *array.shape[2:])


def _back(array):
    target = np.empty(logical(array), array.dtype)
    _copy(array, target)
    return target


def _execute(op, layout, ins: dict, outs: dict, train: bool) -> dict:
    """Run `op` with its channelled arrays in this layout; the results in C order, and the states."""
    moved = {n: _into(a, layout) if n in op.channelled else a.copy() for n, a in ins.items()}
    made = {n: _into(a, layout) if n in op.channelled else a.copy() for n, a in outs.items()}
    shapes = {n: a.shape for n, a in (*ins.items(), *outs.items())}
    scratch = {n: np.empty(s, t) for n, (s, t) in op.scratch(shapes, np.dtype("float32")).items()}
    op.prepare(np, list(moved.values()), list(made.values()), is_train=train, **scratch)()
    states = {n: moved[n] for n in op.aux()}
    return {**{n: _back(a) if n in op.channelled else a for n, a in made.items()}, **states}


def _pass(run: Run, layout: str) -> dict:
    """Forward and backward in a layout: everything that comes out."""
    op = run.op
    ins = dict(zip(run.names, run.ins, strict=True))
    outs = dict(zip(op.outputs(), run.empty_outs(), strict=True))
    found = _execute(op, layout, ins, outs, run.train)
    rng = np.random.default_rng(1)
    values = {**ins, **found, "g": rng.uniform(-1, 1, outs["out"].shape).astype("float32")}
    gradient = gradient_of(op, run.wanted())
    given = {n: values[n] for n in gradient.inputs() + gradient.aux()}
    wanted = {f"d_{n}": np.full_like(ins[n], 77) for n in gradient.wants}
    return {**found, **_execute(gradient, layout, given, wanted, run.train)}


@pytest.mark.parametrize("layout", [NHWC, BLOCKED])
@pytest.mark.parametrize("case", ROWS, ids=str)
def test_every_layout_gives_the_same(case, layout):
    run = Run(case, "float32")
    if not all(fits(layout, s) for s in (run.ins[0].shape, run.shapes()["out"])):
        pytest.skip("its channels do not fill blocks")
    expected, got = _pass(run, PLAIN), _pass(run, layout)
    for name in expected.keys() - {"where", "mask"}:  # these are in memory's order
        _close(got[name], expected[name], np.dtype("float32"), name)


def test_layouts_are_told_apart():
    array = np.zeros((2, 32, 3, 4), "float32")
    assert [layout_of(_into(array, layout)) for layout in (PLAIN, NHWC, BLOCKED)] == [PLAIN, NHWC, BLOCKED]


def test_a_case_without_kernel_for_blocks_is_told():
    op = make("Pooling", pool_type="sum", kernel=(2, 2))
    data = _into(np.zeros((2, 16, 4, 4), "float32"), BLOCKED)
    out = _into(np.zeros((2, 16, 3, 3), "float32"), BLOCKED)
    with pytest.raises(MXNetError, match=r"^Pooling\(.*\): no kernel here takes channels in blocks; set layouts=0"):
        op.prepare(np, [data], [out])
