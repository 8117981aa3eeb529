"""Batches of sequences of unequal length. data (T, N, …) has time along axis 0, or along axis 1 if `axis` is 1."""

from __future__ import annotations

import math

from raymx.ops.op import Op, operator
from raymx.ops.params import Shape, param
from raymx.ops.rows import take_rows
from raymx.ops.shapes import agreed


class Sequence(Op):
    """An operator on data (T, N, …) that may be told the lengths (N,) of the N sequences, numbers from 1 to T."""

    kinds = "fiub"
    use_sequence_length: bool = param(False, doc="take the lengths as the input sequence_length")
    axis: int = param(0, doc="axis of time; the batch is along the other of the first two", choices=(0, 1))

    def inputs(self):
        return ("data", "sequence_length") if self.use_sequence_length else ("data",)

    def infer_type(self, known):
        dtype = known["data"] or known["out"]
        types = {"data": dtype, "out": dtype}
        if self.use_sequence_length and known["sequence_length"] is None:
            types["sequence_length"] = dtype
        return types

    def lengths(self, data: Shape) -> dict[str, Shape]:
        """The shape of the lengths, if they are an input."""
        if len(data) < 2:
            raise ValueError("data must have at least 2 axes, time and batch")
        return {"sequence_length": (data[1 - self.axis],)} if self.use_sequence_length else {}

    def timed(self, array):
        """`array`, shaped like data, with time along axis 0 and the batch along axis 1."""
        return array.swapaxes(0, self.axis)

    def places(self, data: Shape, time, xp):
        """Where the steps `time` (…, N) of the N sequences lie among data's rows, the first two axes joined."""
        n = data[1 - self.axis]
        batch = xp.arange(n)
        return time * n + batch if self.axis == 0 else batch * data[1] + time


def _rows(array):
    """(T, N, …) as (T N, …)."""
    return array.reshape(-1, *array.shape[2:])


@operator("SequenceLast")
class SequenceLast(Sequence):
    """out (N, …) = data (T, N, …) at the last step, or at step sequence_length (N,) - 1."""

    def infer_shape(self, data):
        return {**self.lengths(data), "out": (data[1 - self.axis], *data[2:])}

    def forward(self, xp, data, sequence_length=None, *, out):
        if sequence_length is None:
            xp.copyto(out, self.timed(data)[-1])
        else:
            take_rows(xp, _rows(data), self._last(data.shape, sequence_length, xp), out)

    def backward_needs(self):
        return self.inputs()[1:]

    def backward(self, xp, g, sequence_length=None, *, d_data=None):
        d_data.fill(0)
        if sequence_length is None:
            self.timed(d_data)[-1] = g
        else:
            _rows(d_data)[self._last(d_data.shape, sequence_length, xp)] = g

    def _last(self, data: Shape, sequence_length, xp):
        return self.places(data, sequence_length.astype("int64") - 1, xp)


@operator("SequenceMask")
class SequenceMask(Sequence):
    """out = data (T, N, …), with `value` at and after step sequence_length (N,) of each sequence."""

    leading = ("use_sequence_length", "value", "axis")

    inplace = (("data", "out"),)
    inplace_backward = (("g", "d_data"),)

    value: float = param(0.0, doc="what stands behind the ends")

    def infer_shape(self, data=None, out=None):
        shape = agreed(data, out)
        return {**self.lengths(shape), "data": shape, "out": shape} if shape else {}

    def forward(self, xp, data, sequence_length=None, *, out):
        self._mask(xp, data, sequence_length, out, self.value)

    def backward_needs(self):
        return self.inputs()[1:]

    def backward(self, xp, g, sequence_length=None, *, d_data=None):
        self._mask(xp, g, sequence_length, d_data, 0)

    def _mask(self, xp, data, sequence_length, out, value) -> None:
        xp.copyto(out, data)
        if sequence_length is not None:
            steps = self.timed(out)
            behind = xp.arange(len(steps))[:, None] >= sequence_length
            xp.copyto(steps, value, where=behind.reshape(behind.shape + (1,) * (out.ndim - 2)), casting="unsafe")


@operator("SequenceReverse")
class SequenceReverse(Sequence):
    """out = data (T, N, …) with time running backwards, in the first sequence_length (N,) steps of each sequence if
    that is an input. Time must be along axis 0."""

    axis: int = param(0, doc="axis of time", choices=(0,))

    def infer_shape(self, data=None, out=None):
        shape = agreed(data, out)
        return {**self.lengths(shape), "data": shape, "out": shape} if shape else {}

    def forward(self, xp, data, sequence_length=None, *, out):
        self._reverse(xp, data, sequence_length, out)

    def backward_needs(self):
        return self.inputs()[1:]

    def backward(self, xp, g, sequence_length=None, *, d_data=None):
        self._reverse(xp, g, sequence_length, d_data)

    def _reverse(self, xp, data, sequence_length, out) -> None:
        if sequence_length is None:
            xp.copyto(out, data[::-1])
            return
        time, lengths = xp.arange(len(data))[:, None], sequence_length.astype("int64")
        source = xp.where(time < lengths, lengths - 1 - time, time)
        joined = (math.prod(out.shape[:2]), *out.shape[2:])
        take_rows(xp, _rows(data), self.places(data.shape, source, xp).reshape(-1), out.reshape(joined))
