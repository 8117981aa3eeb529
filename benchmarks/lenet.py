"""Training step of LeNet on synthetic batches of 28x28 pixels, SGD. The network: see models.py."""

from __future__ import annotations

import sys

import models
from harness import Bar, Benchmark, main, seconds

STEP, SHAPE = "step by hand", (1, 28, 28)


def rate(steps, options):
    return {STEP: lambda: options.steps * options.batch / seconds(steps)}


def raymx(options):
    import raymx as mx

    return rate(models.script(mx, mx.cpu(), models.lenet(mx), SHAPE, options), options)


def raymx_actor(options):
    import raymx as mx

    return rate(models.script(mx, mx.cpu(1), models.lenet(mx), SHAPE, options), options)


def mxnet(options):
    import mxnet as mx

    return rate(models.script(mx, mx.cpu(), models.lenet(mx), SHAPE, options), options)


def torch(options):
    from torch import nn

    model = nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.Tanh(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 500), nn.Tanh(), nn.Linear(500, models.CLASSES),
    )  # fmt: skip
    return rate(models.torch_script(model, SHAPE, options), options)


BENCH = Benchmark(
    name="lenet",
    title="training LeNet, SGD",
    unit="samples/s",
    more_is_better=True,
    workers={"raymx": raymx, "raymx-actor": raymx_actor, "mxnet": mxnet, "torch": torch},
    options={"batch": 64, "steps": 40},
    bars=[
        Bar(STEP, "raymx", 1.7, [(STEP, "mxnet"), (STEP, "torch")]),
        Bar(STEP, "raymx-actor", 0.9, [(STEP, "raymx")]),
    ],
)

if __name__ == "__main__":
    sys.exit(main(BENCH))
