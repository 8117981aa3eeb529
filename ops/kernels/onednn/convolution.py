"""Convolution and Deconvolution.

Data and output are taken as they lie, in any layout. The weight is the user's, in C order: each run reorders it to what
the primitive chose, and its gradient back.
"""

from __future__ import annotations

import functools

import numpy as np

from raymx.ops.kernels import Run
from raymx.ops.kernels.onednn import binding as dnn
from raymx.ops.kernels.onednn.elementwise import activation, slope
from raymx.ops.layout import laid_out, layout_of, logical

_DIRECT = {"convolution": 1, "deconvolution": 10}


class _Geometry:
    """One operator over data and output of known layouts: what all its primitives have in common."""

    def __init__(self, op, data, weight, out, bias: bool, kind: str):
        self.kind = kind
        self.data, self.out = dnn.describe(data, like=out), dnn.describe(out, like=data)
        self.weight, self.bias = dnn.free(weight.shape), dnn.free((op.num_filter,)) if bias else dnn.NONE
        self.shapes = logical(data), logical(out)
        sizes = self.shapes[0][2:], self.shapes[1][2:]
        windows = op.windows if kind == "convolution" else op.placed(sizes[0])
        large, small = sizes if kind == "convolution" else sizes[::-1]
        behind = zip(small, windows.stride, windows.extent, windows.pad, large, strict=True)
        self.places = (
            windows.stride,
            tuple(d - 1 for d in windows.dilate),
            windows.pad,
            tuple((y - 1) * s + e - x - p for y, s, e, p, x in behind),
        )

    def forward(self, after=()) -> dnn.Primitive:
        return self._best(lambda data, out: self._forward(data, out, after))

    def backward_data(self) -> dnn.Primitive:
        return self._best(lambda data, out: self._backward("data", data, self.weight, out))

    def backward_weights(self) -> dnn.Primitive:
        return self._best(lambda data, out: self._backward("weights", data, self.weight, self.bias, out))

    def _forward(self, data, out, after=()) -> dnn.Primitive:
        arguments = dnn.TRAIN, _DIRECT[self.kind], data, self.weight, self.bias, out, *self.places
        return dnn.primitive(f"{self.kind}_forward", *arguments, after=after)

    def _backward(self, what: str, data, *others) -> dnn.Primitive:
        name, hint = f"{self.kind}_backward_{what}", self._forward(data, others[-1])
        return dnn.primitive(name, _DIRECT[self.kind], data, *others, *self.places, hint=hint)

    def _best(self, make) -> dnn.Primitive:
        """The primitive for the arrays as they lie, or for copies if there is only a slow one."""
        found = make(self.data, self.out)
        slow = "ref" in found.implementation or "gemm" in found.implementation
        return make(*map(dnn.free, self.shapes)) if slow else found


def weight_view(op, weight, kind: str):
    """The weight as oneDNN wants it: (F, C, *kernel), or (groups, F / groups, C / groups, *kernel)."""
    if weight is None:
        return None
    weight = op.first(weight)
    if op.num_group > 1:
        weight = weight.reshape(op.num_group, weight.shape[0] // op.num_group, *weight.shape[1:])
    channels = 1 if op.num_group > 1 else 0
    return weight if kind == "convolution" else weight.swapaxes(channels, channels + 1)


def forward(op, ins, outs, kind: str, *after: dnn.Function) -> Run:
    data, out, weight = op.first(ins["data"]), op.first(outs["out"]), weight_view(op, ins["weight"], kind)
    shape = _Geometry(op, data, weight, out, "bias" in ins, kind)
    computation = shape.forward(after)
    steps: list[Run] = []
    later: list[Run] = []
    arguments = {
        dnn.SRC: dnn.brought(dnn.Memory(shape.data, data), computation.layout(dnn.SRC), steps),
        dnn.WEIGHTS: dnn.brought(dnn.strided(weight), computation.layout(dnn.WEIGHTS), steps),
        dnn.DST: dnn.delivered(dnn.Memory(shape.out, out), computation.layout(dnn.DST), later),
    }
    if "bias" in ins:
        arguments[dnn.BIAS] = dnn.vector(ins["bias"])
    return dnn.chain([*steps, dnn.call(computation, arguments), *later])


def backward(op, ins, outs, kind: str, g, steps: list[Run]) -> Run:
    """`steps` make `g`, if it is not the gradient that came in."""
    data, g, weight = op.first(ins["data"]), op.first(g), weight_view(op, ins["weight"], kind)
    shape = _Geometry(op, data, weight, g, "d_bias" in outs, kind)
    incoming = dnn.Memory(shape.out, g)
    if "d_data" in outs:
        target = dnn.Memory(shape.data, op.first(outs["d_data"]))
        _backward_data(shape, incoming, dnn.strided(weight), target, steps)
    if "d_weight" in outs or "d_bias" in outs:
        d_weight = dnn.strided(weight_view(op, outs["d_weight"], kind)) if "d_weight" in outs else None
        d_bias = dnn.vector(outs["d_bias"]) if "d_bias" in outs else None
        _backward_weights(shape, dnn.Memory(shape.data, data), incoming, d_weight, d_bias, steps)
    return dnn.chain(steps)


def _backward_data(shape: _Geometry, incoming, weight, d_data, steps: list[Run]) -> None:
    computation = shape.backward_data()
    later: list[Run] = []
    arguments = {
        dnn.DIFF_DST: dnn.brought(incoming, computation.layout(dnn.DIFF_DST), steps),
        dnn.WEIGHTS: dnn.brought(weight, computation.layout(dnn.WEIGHTS), steps),
        dnn.DIFF_SRC: dnn.delivered(d_data, computation.layout(dnn.DIFF_SRC), later),
    }
    steps += [dnn.call(computation, arguments), *later]


def _backward_weights(shape: _Geometry, data, incoming, d_weight, d_bias, steps: list[Run]) -> None:
    computation = shape.backward_weights()
    layout = computation.layout(dnn.DIFF_WEIGHTS)
    later: list[Run] = []
    arguments = {
        dnn.SRC: dnn.brought(data, computation.layout(dnn.SRC), steps),
        dnn.DIFF_DST: dnn.brought(incoming, computation.layout(dnn.DIFF_DST), steps),
        dnn.DIFF_WEIGHTS: dnn.delivered(d_weight, layout, later) if d_weight else dnn.room(layout),
    }
    if d_bias is not None:
        arguments[dnn.DIFF_BIAS] = d_bias
    steps += [dnn.call(computation, arguments), *later]


# ---- kernels ----


@dnn.kernel("Convolution", "forward")
def convolution(op, ins, outs, extras) -> Run:
    return forward(op, ins, outs, "convolution")


@dnn.kernel("Convolution", "backward")
def convolution_backward(op, ins, outs, extras) -> Run:
    return backward(op, ins, outs, "convolution", ins["g"], [])


@dnn.kernel("Deconvolution", "forward")
def deconvolution(op, ins, outs, extras) -> Run:
    return forward(op, ins, outs, "deconvolution")


@dnn.kernel("Deconvolution", "backward")
def deconvolution_backward(op, ins, outs, extras) -> Run:
    return backward(op, ins, outs, "deconvolution", ins["g"], [])


@dnn.kernel("_conv_act", "forward")
def convolution_activation(op, ins, outs, extras) -> Run:
    after = activation(op.act_type)
    if after is not None:
        return forward(op, ins, outs, "convolution", after)
    run = forward(op, ins, outs, "convolution")
    return dnn.chain([run, functools.partial(op.activation.forward, np, outs["out"], out=outs["out"])])


@dnn.kernel("_conv_act", "backward")
def convolution_activation_backward(op, ins, outs, extras) -> Run:
    g, out = ins["g"], ins["out"]
    inner = laid_out(extras["inner"].reshape(-1), logical(g), layout_of(g))
    try:
        through = slope(op.act_type, g, out, inner)
    except dnn.Unsupported:
        through = functools.partial(op.activation.backward, np, g, out, d_data=inner, alive=extras["alive"])
    return backward(op, ins, outs, "convolution", inner, [through])
