"""Connectionist temporal classification (Graves et al. 2006): sequences against labels whose places are not known."""

from __future__ import annotations

from raymx.ops.op import Op, operator
from raymx.ops.params import param
from raymx.ops.shapes import agreed

_NEVER = float("-inf")  # the logarithm of probability 0


@operator("CTCLoss", "ctc_loss", "_contrib_CTCLoss", "_contrib_ctc_loss")
class CTCLoss(Op):
    """out (N,) = -log of the probability that sequence n of data (T, N, C), under softmax along C, spells label (N, L):
    the sum over all ways to say one label after the other, each for one step or several, with blanks between them.

    The blank is class 0 (`first`) or C - 1 (`last`). Lines of label end at the first 0 (`first`) or -1 (`last`), or
    have the length that label_lengths (N,) says; sequences last T steps or as many as data_lengths (N,) says. A label
    for which a sequence is too short counts 0 and has no gradient.
    The hidden output `grad` (T, N, C) is the gradient of data for a head gradient of 1.
    """

    kinds = "fiu"
    use_data_lengths: bool = param(False, doc="take the sequences' lengths as the input data_lengths")
    use_label_lengths: bool = param(False, doc="take the labels' lengths as the input label_lengths")
    blank_label: str = param("first", doc="which class is the blank", choices=("first", "last"))

    def inputs(self):
        optional = (("data_lengths", self.use_data_lengths), ("label_lengths", self.use_label_lengths))
        return ("data", "label", *(name for name, used in optional if used))

    def outputs(self):
        return ("out", "grad")

    def visible_outputs(self):
        return 1

    def infer_shape(self, data=None, label=None, out=None):
        n = (agreed(data and data[1:2], label and label[:1], out) or (0,))[0]
        if data is not None and len(data) != 3:
            raise ValueError("data must have 3 axes, (steps, sequences, classes)")
        if data and label and len(label) == 2 and 0 < data[0] < label[1]:
            raise ValueError(f"a label of {label[1]} classes does not fit into {data[0]} steps")
        return {**dict.fromkeys(self.inputs()[2:], (n,)), "label": (n, 0), "out": (n,), "grad": data}

    def infer_type(self, known):
        dtype = known["data"] or known["out"]
        others = {name: known[name] or dtype for name in self.inputs()[1:]}
        return {"data": dtype, **others, "out": dtype, "grad": dtype}

    def forward(self, xp, data, label, data_lengths=None, label_lengths=None, *, out, grad=None):
        if not self.use_data_lengths:  # then the first of the optional inputs is label_lengths
            data_lengths, label_lengths = None, data_lengths
        steps, n, classes = data.shape
        ends = xp.full(n, steps) if data_lengths is None else data_lengths.astype("int64")
        label = label.astype("int64")
        spelling = Spelling(xp, label, self._counts(xp, label, label_lengths), self._blank(classes))
        logs = _log_softmax(xp, data)
        said = logs[xp.arange(steps)[:, None, None], xp.arange(n)[:, None], spelling.states]
        forward = spelling.forward(said, ends)
        total = spelling.total(forward, ends)
        xp.copyto(out, xp.where(total > _NEVER, -total, 0), casting="same_kind")
        if grad is not None:
            occupied = xp.exp(forward + spelling.backward(said, ends) - total[:, None])
            self._gradient(xp, logs, occupied, spelling.states, ends, total, grad)

    def _blank(self, classes: int) -> int:
        return 0 if self.blank_label == "first" else classes - 1

    def _counts(self, xp, label, label_lengths):
        """How many classes each line of label holds."""
        if label_lengths is not None:
            return label_lengths.astype("int64")
        padding = label == (0 if self.blank_label == "first" else -1)
        return xp.where(padding.any(axis=1), padding.argmax(axis=1), label.shape[1])

    def _gradient(self, xp, logs, occupied, states, ends, total, grad) -> None:
        """grad = probabilities - how often each class is said at each step, 0 after the end and for what cannot be."""
        slope = xp.exp(logs)
        sequences = xp.arange(states.shape[0])
        for s in range(states.shape[1]):  # each state stands for one class of each sequence
            slope[:, sequences, states[:, s]] -= occupied[:, :, s]
        counts = (xp.arange(len(logs))[:, None] < ends) & (total > _NEVER)
        xp.copyto(grad, xp.where(counts[:, :, None], slope, 0), casting="same_kind")

    def backward(self, xp, g, grad, *, d_data=None):
        xp.multiply(grad, g[:, None], out=d_data)


def _log_softmax(xp, data):
    data = data.astype("float32") if data.dtype == "float16" else data
    shifted = data - data.max(axis=2, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=2, keepdims=True))


class Spelling:
    """The states through which each of N sequences goes, S = 2 L + 1 of them: blank, first class, blank, … blank.

    `states` (N, S) holds their classes. From a state behind a shorter label's last blank no way leads back, so that
    none of them counts.
    """

    def __init__(self, xp, label, counts, blank: int):
        n, length = label.shape
        self.xp, self.counts = xp, counts
        self.states = xp.full((n, 2 * length + 1), blank)
        self.states[:, 1::2] = xp.where(xp.arange(length) < counts[:, None], label, blank)
        self.skips = xp.zeros(self.states.shape, bool)  # where a way may come from the state two before
        self.skips[:, 2:] = (self.states[:, 2:] != blank) & (self.states[:, 2:] != self.states[:, :-2])

    def forward(self, said, ends):
        """Logarithms of the ways that are in a state at a step; after a sequence's end they stay."""
        xp, ways = self.xp, self.xp.full_like(said, _NEVER)
        ways[0, :, :2] = said[0, :, :2]
        for t in range(1, len(said)):
            before = ways[t - 1]
            came = xp.logaddexp(before, _shifted(xp, before, 1))
            came = xp.logaddexp(came, xp.where(self.skips, _shifted(xp, before, 2), _NEVER))
            ways[t] = xp.where((t < ends)[:, None], came + said[t], before)
        return ways

    def backward(self, said, ends):
        """Logarithms of the ways that lead from a state at a step to the end, what is said at the step left out."""
        xp, ways = self.xp, self.xp.full_like(said, _NEVER)
        last = 2 * self.counts[:, None]
        state = xp.arange(said.shape[2])
        final = xp.where((state == last) | (state == last - 1), said.dtype.type(0), said.dtype.type(_NEVER))
        skips = _shifted(xp, self.skips, -2, False)
        for t in reversed(range(len(said))):
            if t + 1 < len(said):
                after = ways[t + 1] + said[t + 1]
                goes = xp.logaddexp(after, _shifted(xp, after, -1))
                goes = xp.logaddexp(goes, xp.where(skips, _shifted(xp, after, -2), _NEVER))
                ways[t] = goes
            ways[t] = xp.where((t >= ends - 1)[:, None], final, ways[t])
        return ways

    def total(self, forward, ends):
        """The logarithm of all ways to the end, for each sequence."""
        xp, sequences = self.xp, self.xp.arange(len(ends))
        final, last = forward[ends - 1, sequences], 2 * self.counts
        spoken = xp.where(self.counts > 0, final[sequences, xp.maximum(last - 1, 0)], _NEVER)
        return xp.logaddexp(final[sequences, last], spoken)


def _shifted(xp, array, by: int, fill=_NEVER):
    """(N, S) moved along S: element s is what s - by was."""
    moved = xp.full_like(array, fill)
    if by > 0:
        moved[:, by:] = array[:, :-by]
    else:
        moved[:, :by] = array[:, -by:]
    return moved
