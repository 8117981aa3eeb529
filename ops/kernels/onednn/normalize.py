"""BatchNorm, alone and with relu, and LRN."""

from __future__ import annotations

import functools

import numpy as np

from raymx.ops.kernels import Run
from raymx.ops.kernels.onednn import binding as dnn
from raymx.ops.layout import NHWC, laid_out, layout_of, logical

_GIVEN, _SCALE, _SHIFT, _RELU = 1, 2, 4, 8  # flags: statistics are given; gamma; beta; relu follows
_ACROSS = 2815


class _BatchNorm:
    """One operator over data of a known layout, in one mode."""

    def __init__(self, op, data, is_train: bool, relu: bool):
        if not op.channelled:
            raise dnn.Unsupported("channels in another place than axis 1")
        self.layout, self.eps = dnn.describe(data), op.eps
        self.measures = op.batch_counts(is_train)
        self.scaled = not op.fix_gamma
        self.flags = _SHIFT + _SCALE * self.scaled + _GIVEN * (not self.measures) + _RELU * relu

    def forward(self) -> dnn.Primitive:
        layouts = self.layout, self.layout
        train = dnn.TRAIN if self.measures or self.flags & _RELU else dnn.INFER
        return dnn.primitive("batch_normalization_forward", train, *layouts, self.eps, self.flags)

    def backward(self) -> dnn.Primitive:
        arguments = *(self.layout,) * 3, self.eps, self.flags
        return dnn.primitive("batch_normalization_backward", dnn.BACKWARD, *arguments, hint=self._hint())

    def _hint(self) -> dnn.Primitive:
        layouts = self.layout, self.layout
        return dnn.primitive("batch_normalization_forward", dnn.TRAIN, *layouts, self.eps, self.flags)


def _mask(mask, computation: dnn.Primitive) -> dnn.Memory | None:
    """The hidden output `mask`, if it is what this primitive keeps for backward."""
    layout = computation.layout(dnn.WORKSPACE)
    return dnn.Memory(layout, mask) if layout.nbytes == mask.nbytes and mask.flags.c_contiguous else None


def _forward(op, ins, outs, extras, relu: bool) -> Run:
    data, out, mean, var = ins["data"], outs["out"], outs["mean"], outs["var"]
    norm = _BatchNorm(op, data, extras["is_train"], relu)
    mask = _mask(outs["mask"], norm.forward()) if relu else None
    if mask is None:
        norm = _BatchNorm(op, data, extras["is_train"], False)
    if not dnn.describe(out).same(norm.layout):
        raise dnn.Unsupported("data and out in different layouts")
    arguments = {
        dnn.SRC: dnn.memory(data), dnn.DST: dnn.memory(out), dnn.SHIFT: dnn.vector(ins["beta"]),
        dnn.MEAN: dnn.vector(mean), dnn.VARIANCE: dnn.vector(var),
    }  # fmt: skip
    if norm.scaled:
        arguments[dnn.SCALE] = dnn.vector(ins["gamma"])
    if mask is not None:
        arguments[dnn.WORKSPACE] = mask
    steps: list[Run] = []
    if not norm.measures:
        steps += [functools.partial(np.copyto, to, ins[f"moving_{n}"]) for n, to in (("mean", mean), ("var", var))]
    steps.append(dnn.call(norm.forward(), arguments))
    if relu and mask is None:
        steps.append(functools.partial(op.rectify, np, out, outs["mask"]))
    return dnn.chain(steps)


def _backward(op, ins, outs, extras, relu: bool) -> Run:
    g, data = ins["g"], ins["data"]
    steps: list[Run] = []
    norm = _BatchNorm(op, data, extras["is_train"], relu)
    mask = _mask(ins["mask"], norm.backward()) if relu else None
    if mask is None:
        norm = _BatchNorm(op, data, extras["is_train"], False)
    if relu and mask is None:
        gated = laid_out(extras["gated"].reshape(-1), logical(g), layout_of(g))
        steps.append(functools.partial(op.gate, np, g, ins["mask"], gated))
        g = gated
    incoming, target = dnn.memory(g), dnn.memory(outs["d_data"]) if "d_data" in outs else dnn.room(norm.layout)
    if not (incoming.layout.same(norm.layout) and target.layout.same(norm.layout)):
        raise dnn.Unsupported("data and gradients in different layouts")
    arguments = {
        dnn.SRC: dnn.memory(data), dnn.DIFF_DST: incoming, dnn.DIFF_SRC: target, dnn.MEAN: dnn.vector(ins["mean"]),
        dnn.VARIANCE: dnn.vector(ins["var"]), dnn.DIFF_SHIFT: _wanted(outs, "d_beta", ins["mean"]),
    }  # fmt: skip
    if norm.scaled:
        arguments[dnn.SCALE] = dnn.vector(ins["gamma"])
        arguments[dnn.DIFF_SCALE] = _wanted(outs, "d_gamma", ins["mean"])
    if mask is not None:
        arguments[dnn.WORKSPACE] = mask
    steps.append(dnn.call(norm.backward(), arguments))
    return dnn.chain([*steps, *_after_backward(op, norm, ins, outs)])


def _after_backward(op, norm: _BatchNorm, ins, outs) -> list[Run]:
    steps: list[Run] = []
    if "d_gamma" in outs and not norm.scaled:
        steps.append(functools.partial(outs["d_gamma"].fill, 0))
    if norm.measures:
        steps.append(functools.partial(op.move, np, ins["mean"], ins["var"], ins["moving_mean"], ins["moving_var"]))
    return steps


def _wanted(outs, name: str, like) -> dnn.Memory:
    """The destination of this name, or memory for what nobody asked for."""
    return dnn.vector(outs[name] if name in outs else np.empty_like(like))


# ---- kernels ----


@dnn.kernel("BatchNorm", "forward")
def batch_norm(op, ins, outs, extras) -> Run:
    return _forward(op, ins, outs, extras, relu=False)


@dnn.kernel("BatchNorm", "backward")
def batch_norm_backward(op, ins, outs, extras) -> Run:
    return _backward(op, ins, outs, extras, relu=False)


@dnn.kernel("_batchnorm_relu", "forward")
def batch_norm_relu(op, ins, outs, extras) -> Run:
    return _forward(op, ins, outs, extras, relu=True)


@dnn.kernel("_batchnorm_relu", "backward")
def batch_norm_relu_backward(op, ins, outs, extras) -> Run:
    return _backward(op, ins, outs, extras, relu=True)


@dnn.kernel("LRN", "forward")
def lrn(op, ins, outs, extras) -> Run:
    data, out = _four_axes(ins["data"]), _four_axes(outs["out"])
    return dnn.call(_lrn(op, data, dnn.INFER), {dnn.SRC: dnn.memory(data), dnn.DST: dnn.memory(out)})


@dnn.kernel("LRN", "backward")
def lrn_backward(op, ins, outs, extras) -> Run:
    """Forward runs again for what backward wants of it, which may be as large as data and is not kept."""
    g, data, d_data = (_four_axes(a) for a in (ins["g"], ins["data"], outs["d_data"]))
    layout, hint = dnn.describe(data), _lrn(op, data, dnn.TRAIN)
    if not (dnn.describe(g).same(layout) and dnn.describe(d_data).same(layout)):
        raise dnn.Unsupported("data and gradients in different layouts")
    numbers = op.nsize, op.alpha, op.beta, op.knorm
    computation = dnn.primitive("lrn_backward", _ACROSS, layout, layout, layout, *numbers, hint=hint)
    arguments = {dnn.SRC: dnn.memory(data), dnn.DIFF_DST: dnn.memory(g), dnn.DIFF_SRC: dnn.memory(d_data)}
    kept, steps = hint.layout(dnn.WORKSPACE), []
    if kept.nbytes:
        arguments[dnn.WORKSPACE] = dnn.room(kept)
        made = {dnn.SRC: arguments[dnn.SRC], dnn.DST: dnn.room(layout), dnn.WORKSPACE: arguments[dnn.WORKSPACE]}
        steps.append(dnn.call(hint, made))
    return dnn.chain([*steps, dnn.call(computation, arguments)])


def _lrn(op, data, train: int) -> dnn.Primitive:
    if op.nsize % 2 == 0:
        raise dnn.Unsupported("a window of an even size")
    layout = dnn.describe(data)
    return dnn.primitive("lrn_forward", train, _ACROSS, layout, layout, op.nsize, op.alpha, op.beta, op.knorm)


def _four_axes(array):
    """The array with as many axes as oneDNN's LRN wants, in its layout."""
    shape = logical(array)
    if len(shape) >= 4:
        return array
    layout = layout_of(array)
    memory = array.transpose(dnn.channels_last(array.ndim)) if layout == NHWC else array.view(np.ndarray)
    if not memory.flags.c_contiguous:
        raise dnn.Unsupported("gaps")
    return laid_out(memory.reshape(-1), (*shape, *(1,) * (4 - len(shape))), layout)
