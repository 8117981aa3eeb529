"""Training step of the MLP 784-128-64-10 on synthetic batches, plain SGD: the script form, and FeedForward.fit.

The MXNet form and raymx's are one function: the module is its argument.
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise

import models
from harness import Bar, Benchmark, main, seconds

STEP, FIT = "step by hand", "FeedForward.fit"
SIZES = (784, 128, 64, models.CLASSES)


def fit_rate(mx, ctx, options):
    """Samples per second of the second of two epochs, from callback to callback."""
    x, y = models.samples(options.steps * options.batch, SIZES[:1])
    stamps = []
    model = mx.model.FeedForward(models.mlp(mx, SIZES), ctx=ctx, num_epoch=2, learning_rate=models.RATE, wd=0.0)
    model.fit(
        X=mx.io.NDArrayIter(x, y, batch_size=options.batch),
        epoch_end_callback=lambda *_: stamps.append(time.perf_counter()),
    )
    return len(x) / (stamps[1] - stamps[0])


def tasks(mx, ctx, options):
    steps = models.script(mx, ctx, models.mlp(mx, SIZES), SIZES[:1], options)
    return {
        STEP: lambda: options.steps * options.batch / seconds(steps),
        FIT: lambda: fit_rate(mx, ctx, options),
    }


def raymx(options):
    import raymx as mx

    return tasks(mx, mx.cpu(), options)


def raymx_actor(options):
    import raymx as mx

    return tasks(mx, mx.cpu(1), options)


def mxnet(options):
    import mxnet as mx

    return tasks(mx, mx.cpu(), options)


def torch(options):
    from torch import nn

    layers = [layer for n, m in pairwise(SIZES) for layer in (nn.Linear(n, m), nn.ReLU())]
    steps = models.torch_script(nn.Sequential(*layers[:-1]), SIZES[:1], options)
    return {STEP: lambda: options.steps * options.batch / seconds(steps)}


BENCH = Benchmark(
    name="mlp",
    title="training the MLP 784-128-64-10, SGD",
    unit="samples/s",
    more_is_better=True,
    workers={"raymx": raymx, "raymx-actor": raymx_actor, "mxnet": mxnet, "torch": torch},
    options={"batch": 64, "steps": 300},
    bars=[
        Bar(STEP, "raymx", 1.7, [(STEP, "mxnet"), (STEP, "torch")]),
        Bar(STEP, "raymx-actor", 0.9, [(STEP, "raymx")]),
        Bar(FIT, "raymx", None, [(FIT, "mxnet")]),
        Bar(FIT, "raymx-actor", None, [(FIT, "raymx")]),
    ],
)

if __name__ == "__main__":
    sys.exit(main(BENCH))
