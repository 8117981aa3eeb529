"""The step that the graph compiler puts where a chain of layers in a layout of its own begins or ends."""

from __future__ import annotations

from raymx.ops.elementwise import Unary
from raymx.ops.layout import BLOCK, Blocked, unblocked
from raymx.ops.op import operator
from raymx.ops.params import param


@operator("_reorder")
class Reorder(Unary):
    """out = data; they may have different layouts."""

    inplace = ()
    elementwise = False
    heavy = True

    rename: bool = param(False, doc="both layouts are the same bytes")

    def setup(self):
        self.view = self.rename

    def forward(self, xp, data, *, out):
        if isinstance(data, Blocked) or isinstance(out, Blocked):
            data, out = _in_blocks(data), _in_blocks(out)
        xp.copyto(out, data)

    def backward(self, xp, g, *, d_data=None):
        self.forward(xp, g, out=d_data)


def _in_blocks(array):
    """A view of the array as (N, C / 16, 16, …)."""
    if isinstance(array, Blocked):
        return unblocked(array)
    n, c, *rest = array.shape
    return array.reshape(n, c // BLOCK, BLOCK, *rest)
