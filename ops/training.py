"""An operator that runs as in training, wherever it stands: for calls outside of programs, which have no mode."""

from __future__ import annotations

from raymx.ops.op import Op


class Training(Op):
    """Runs `op` with `is_train`. To a device it looks like `op`; shapes and types are asked of `op` itself."""

    def __init__(self, op: Op):
        self.op, self.name, self.attrs = op, op.name, op.attrs
        self.heavy, self.stateful, self.extras = op.heavy, op.stateful, op.extras

    def inputs(self):
        return self.op.inputs()

    def aux(self):
        return self.op.aux()

    def outputs(self):
        return self.op.outputs()

    def scratch(self, shapes, dtype):
        return self.op.scratch(shapes, dtype)

    def prepare(self, xp, ins, outs, **extras):
        return self.op.prepare(xp, ins, outs, **{**extras, "is_train": True})

    def __repr__(self):
        return f"in_training({self.op!r})"

    def __reduce__(self):
        return in_training, (self.op,)


def in_training(op: Op) -> Op:
    """`op` as it runs in training: itself, if that is no different. Equal ones are one object."""
    if not op.forward_names.takes("is_train"):
        return op
    if op.stateful:
        return Training(op)
    known = op.__dict__
    return known.get("_training") or known.setdefault("_training", Training(op))
