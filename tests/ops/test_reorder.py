import numpy as np
import pytest

from raymx.ops.layout import BLOCKED, NHWC, PLAIN, fits, laid_out
from raymx.ops.op import make

LAYOUTS = (PLAIN, NHWC, BLOCKED)


@pytest.mark.parametrize("target", LAYOUTS)
@pytest.mark.parametrize("source", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 32, 3, 4), (3, 16, 5), (2, 16, 2, 1, 3)])
def test_every_layout_becomes_every_other_one(shape, source, target):
    value = np.arange(np.prod(shape), dtype="float32").reshape(shape)
    data, out, back = (laid_out(np.zeros(value.size, "float32"), shape, x) for x in (source, target, PLAIN))
    reorder = make("_reorder")
    reorder.forward(np, value, out=data)
    reorder.forward(np, data, out=out)
    reorder.forward(np, out, out=back)
    np.testing.assert_array_equal(back, value)


def test_where_an_element_lies():
    value = np.arange(2 * 32 * 3, dtype="float32").reshape(2, 32, 3)
    blocked, last = np.zeros(value.size, "float32"), np.zeros(value.size, "float32")
    make("_reorder").forward(np, value, out=laid_out(blocked, value.shape, BLOCKED))
    make("_reorder").forward(np, value, out=laid_out(last, value.shape, NHWC))
    assert blocked.reshape(2, 2, 3, 16)[1, 1, 2, 5] == value[1, 16 + 5, 2]
    assert last.reshape(2, 3, 32)[1, 2, 21] == value[1, 21, 2]


def test_blocks_stand_for_a_shape():
    blocked = laid_out(np.zeros(2 * 32 * 3, "float32"), (2, 32, 3), BLOCKED)
    assert blocked.stands_for == (2, 32, 3) and blocked.shape == (2, 2, 3, 16)


@pytest.mark.parametrize(
    ("shape", "layout", "fit"),
    [
        ((2, 32, 3), BLOCKED, True), ((2, 20, 3), BLOCKED, False), ((2, 20, 3), NHWC, True), ((2, 32), NHWC, False),
        ((2, 32), BLOCKED, False), ((5,), PLAIN, True),
    ],
)  # fmt: skip
def test_what_fits(shape, layout, fit):
    assert fits(layout, shape) is fit
