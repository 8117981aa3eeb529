"""Operators written in Python, here one that is written against `xp` at once."""

from __future__ import annotations

from raymx.ops import custom
from tests.ops.cases.table import case


class Product(custom.Definition):
    """first = a * b, second = a + state."""

    face = custom.Face(("a", "b"), ("first", "second"), ("state",), reads_in=(0, 1), reads_out=())

    def infer_shape(self, shapes):
        return [shapes[0]] * 2, [shapes[0]] * 2, [shapes[0]]

    def infer_type(self, types):
        return [types[0]] * 2, [types[0]] * 2, [types[0]]

    def session(self):
        return Multiplying()


class Multiplying(custom.Session):
    def forward(self, xp, is_train, ins, outs, states):
        xp.multiply(ins[0], ins[1], out=outs[0])
        xp.add(ins[0], states[0], out=outs[1])

    def backward(self, xp, heads, ins, outs, d_ins, states):
        if d_ins[0] is not None:
            xp.add(heads[0] * ins[1], heads[1], out=d_ins[0])
        if d_ins[1] is not None:
            xp.multiply(heads[0], ins[0], out=d_ins[1])


custom.registered["a product for tests"] = Product

case("Custom", (2, 3), (2, 3), (2, 3), op_type="a product for tests", ref=lambda a, b, state: (a * b, a + state))
