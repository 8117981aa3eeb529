"""Training step of ResNet-20 on synthetic batches of 32x32 pixels in 3 colours, SGD. The network: see models.py."""

from __future__ import annotations

import sys

import models
from harness import Bar, Benchmark, main, seconds

STEP, SHAPE = "step by hand", (3, 32, 32)


def rate(steps, options):
    return {STEP: lambda: options.steps * options.batch / seconds(steps)}


def raymx(options):
    import raymx as mx

    return rate(models.script(mx, mx.cpu(), models.resnet(mx), SHAPE, options), options)


def raymx_actor(options):
    import raymx as mx

    return rate(models.script(mx, mx.cpu(1), models.resnet(mx), SHAPE, options), options)


def mxnet(options):
    import mxnet as mx

    return rate(models.script(mx, mx.cpu(), models.resnet(mx), SHAPE, options), options)


def torch(options):
    from torch import nn

    def normalized(inner, outer, kernel, stride):
        convolution = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outer))

    class Unit(nn.Module):
        def __init__(self, inner, outer, stride):
            super().__init__()
            self.inside = nn.Sequential(
                normalized(inner, outer, 3, stride), nn.ReLU(inplace=True), normalized(outer, outer, 3, 1)
            )
            self.shortcut = normalized(inner, outer, 1, stride) if stride > 1 else nn.Identity()
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            return self.relu(self.inside(x) + self.shortcut(x))

    widths = [16] * 4 + [32] * 3 + [64] * 3
    units = [Unit(a, b, 2 if a < b else 1) for a, b in zip(widths, widths[1:])]  # noqa: B905
    model = nn.Sequential(
        normalized(3, 16, 3, 1), nn.ReLU(inplace=True), *units, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(64, models.CLASSES),
    )  # fmt: skip
    return rate(models.torch_script(model, SHAPE, options), options)


BENCH = Benchmark(
    name="resnet",
    title="training ResNet-20, SGD",
    unit="samples/s",
    more_is_better=True,
    workers={"raymx": raymx, "raymx-actor": raymx_actor, "mxnet": mxnet, "torch": torch},
    options={"batch": 32, "steps": 8},
    bars=[
        Bar(STEP, "raymx", 1.7, [(STEP, "mxnet"), (STEP, "torch")]),
        Bar(STEP, "raymx-actor", 0.9, [(STEP, "raymx")]),
    ],
)

if __name__ == "__main__":
    sys.exit(main(BENCH))
