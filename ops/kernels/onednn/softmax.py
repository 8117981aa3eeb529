"""Softmax along one axis. NumPy needs five passes, which for a small classifier are most of what its loss takes."""

from __future__ import annotations

from raymx.ops.kernels import Run
from raymx.ops.kernels.onednn import binding as dnn

_ACCURATE = 0x30000


def softmax(data, out, axis: int) -> Run:
    source, target = dnn.memory(data), dnn.memory(out)
    computation = dnn.primitive("softmax_forward", dnn.INFER, _ACCURATE, source.layout, target.layout, axis)
    if "ref" in computation.implementation:
        raise dnn.Unsupported("only a slow kernel")
    return dnn.call(computation, {dnn.SRC: source, dnn.DST: target})


@dnn.kernel("SoftmaxOutput", "forward")
def softmax_output(op, ins, outs, extras) -> Run:
    data, out = ins["data"], outs["out"]
    if not (data.flags.c_contiguous and out.flags.c_contiguous):
        raise dnn.Unsupported("lines with gaps")
    view = op.lines(data.shape)
    return softmax(data.reshape(view), out.reshape(view), 1)


@dnn.kernel("softmax", "forward")
def softmax_along(op, ins, outs, extras) -> Run | None:
    return softmax(ins["data"], outs["out"], op.axis % ins["data"].ndim) if op.temperature is None else None
