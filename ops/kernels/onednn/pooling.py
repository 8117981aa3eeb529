"""Pooling of maxima and means."""

from __future__ import annotations

from raymx.ops.kernels import Run
from raymx.ops.kernels.onednn import binding as dnn
from raymx.ops.layout import logical

_MAX, _MEAN_WITH_PAD, _MEAN = 511, 767, 1023


def _algorithm(op, places) -> int:
    """oneDNN's number for what the operator takes of a window; raises Unsupported if there is none."""
    if op.pool_type == "max":
        return _MAX
    if op.pool_type != "avg":
        raise dnn.Unsupported(op.pool_type)
    if op.whole_kernel:
        return _MEAN_WITH_PAD
    _, _, _, before, behind = places
    if op.count_include_pad is False or not any(before):
        return _MEAN  # where there is no pad, what lies outside counts for nothing
    if any(b > p for p, b in zip(before, behind, strict=True)):
        raise dnn.Unsupported("a mean over a window that lies outside of pad")
    return _MEAN_WITH_PAD


def _places(op, data, out):
    """Strides, kernel, dilation, and pads before and behind."""
    large, small = logical(data)[2:], logical(out)[2:]
    windows = op.windows(large)
    rows = zip(small, windows.stride, windows.kernel, windows.pad, large, strict=True)
    behind = tuple((y - 1) * s + k - x - p for y, s, k, p, x in rows)
    return windows.stride, windows.kernel, (0,) * len(large), windows.pad, behind


def _layouts(data, out) -> tuple[dnn.Layout, dnn.Layout]:
    return dnn.describe(data, like=out), dnn.describe(out, like=data)


def _forward(op, data, out) -> dnn.Primitive:
    places = _places(op, data, out)
    train = dnn.TRAIN if op.pool_type == "max" else dnn.INFER
    layouts = _layouts(data, out)
    return dnn.primitive("pooling_forward", train, _algorithm(op, places), *layouts, *places)


def _positions(where, computation: dnn.Primitive) -> dnn.Memory:
    """The hidden output `where`; raises Unsupported if it is not oneDNN's workspace."""
    if not where.flags.c_contiguous:
        raise dnn.Unsupported("positions with gaps")
    layout = computation.layout(dnn.WORKSPACE)
    if layout.nbytes != where.nbytes:
        raise dnn.Unsupported(f"a workspace of {layout.nbytes} bytes, not {where.nbytes}")
    return dnn.Memory(layout, where)


@dnn.kernel("Pooling", "forward")
@dnn.kernel("Pooling_v1", "forward")
def pooling(op, ins, outs, extras) -> Run:
    data, out = op.first(ins["data"]), op.first(outs["out"])
    computation = _forward(op, data, out)
    inner, outer = _layouts(data, out)
    arguments = {dnn.SRC: dnn.Memory(inner, data), dnn.DST: dnn.Memory(outer, out)}
    if op.pool_type == "max":
        arguments[dnn.WORKSPACE] = _positions(outs["where"], computation)
    return dnn.call(computation, arguments)


@dnn.kernel("Pooling", "backward")
@dnn.kernel("Pooling_v1", "backward")
def pooling_backward(op, ins, outs, extras) -> Run:
    g, d_data = op.first(ins["g"]), op.first(outs["d_data"])
    hint = _forward(op, d_data, g)
    places = _places(op, d_data, g)
    inner, outer = _layouts(d_data, g)
    computation = dnn.primitive("pooling_backward", _algorithm(op, places), inner, outer, *places, hint=hint)
    arguments = {dnn.DIFF_DST: dnn.Memory(outer, g), dnn.DIFF_SRC: dnn.Memory(inner, d_data)}
    if op.pool_type == "max":
        arguments[dnn.WORKSPACE] = _positions(ins["where"], computation)
    return dnn.call(computation, arguments)
