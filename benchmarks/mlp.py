"""Training step of the MLP 784-128-64-10 on synthetic batches, plain SGD: the script form, and FeedForward.fit.

The MXNet form and raymx's are one function: the module is its argument.
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise

from harness import Bar, Benchmark, main, seconds

STEP, FIT = "step by hand", "FeedForward.fit"
SIZES = (784, 128, 64, 10)
RATE = 0.1
DISTINCT_BATCHES = 16


def samples(count):
    """Synthetic pixels (count, 784) float32 and classes (count,) float32."""
    import numpy as np

    random = np.random.RandomState(0)
    return random.rand(count, SIZES[0]).astype("float32"), random.randint(0, SIZES[-1], count).astype("float32")


def batches(size):
    x, y = samples(DISTINCT_BATCHES * size)
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


def network(mx):
    out = mx.sym.Variable("data")
    for number, hidden in enumerate(SIZES[1:-1], 1):
        out = mx.sym.FullyConnected(out, num_hidden=hidden, name=f"fc{number}")
        out = mx.sym.Activation(out, act_type="relu", name=f"relu{number}")
    out = mx.sym.FullyConnected(out, num_hidden=SIZES[-1], name="out")
    return mx.sym.SoftmaxOutput(out, name="softmax")


def script(mx, ctx, options):
    """One round as a function of nothing: `steps` times forward, backward and one update per parameter."""
    import numpy as np

    symbol, random = network(mx), np.random.RandomState(0)
    inputs = ("data", "softmax_label")
    names = [name for name in symbol.list_arguments() if name not in inputs]
    grad_req = dict.fromkeys(names, "write") | dict.fromkeys(inputs, "null")
    shapes = {"data": (options.batch, SIZES[0]), "softmax_label": (options.batch,)}
    executor = symbol.simple_bind(ctx, grad_req=grad_req, **shapes)
    for name in names:
        executor.arg_dict[name][:] = random.uniform(-0.07, 0.07, executor.arg_dict[name].shape).astype("float32")
    update = mx.optimizer.get_updater(mx.optimizer.SGD(learning_rate=RATE, rescale_grad=1 / options.batch, wd=0.0))
    parameters = [(i, executor.grad_dict[name], executor.arg_dict[name]) for i, name in enumerate(names)]
    data = [(mx.nd.array(x, ctx), mx.nd.array(y, ctx)) for x, y in batches(options.batch)]

    def steps():
        for number in range(options.steps):
            x, y = data[number % len(data)]
            executor.forward(is_train=True, data=x, softmax_label=y)
            executor.backward()
            for index, gradient, weight in parameters:
                update(index, gradient, weight)
        mx.nd.waitall()

    return steps


def fit_rate(mx, ctx, options):
    """Samples per second of the second of two epochs, from callback to callback."""
    x, y = samples(options.steps * options.batch)
    stamps = []
    model = mx.model.FeedForward(network(mx), ctx=ctx, num_epoch=2, learning_rate=RATE, wd=0.0)
    model.fit(
        X=mx.io.NDArrayIter(x, y, batch_size=options.batch),
        epoch_end_callback=lambda *_: stamps.append(time.perf_counter()),
    )
    return len(x) / (stamps[1] - stamps[0])


def tasks(mx, ctx, options):
    steps = script(mx, ctx, options)
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
    import torch
    from torch import nn

    layers = [layer for n, m in pairwise(SIZES) for layer in (nn.Linear(n, m), nn.ReLU())]
    model, loss = nn.Sequential(*layers[:-1]), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    data = [(torch.from_numpy(x), torch.from_numpy(y).long()) for x, y in batches(options.batch)]

    def steps():
        for number in range(options.steps):
            x, y = data[number % len(data)]
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()

    return {STEP: lambda: options.steps * options.batch / seconds(steps)}


BENCH = Benchmark(
    name="mlp",
    title="training the MLP 784-128-64-10, SGD",
    unit="samples/s",
    more_is_better=True,
    workers={"raymx": raymx, "raymx-actor": raymx_actor, "mxnet": mxnet, "torch": torch},
    options={"batch": 64, "steps": 300},
    bars=[
        Bar(STEP, "raymx", 1.3, [(STEP, "mxnet"), (STEP, "torch")]),
        Bar(STEP, "raymx-actor", 0.9, [(STEP, "raymx")]),
        Bar(FIT, "raymx", None, [(FIT, "mxnet")]),
        Bar(FIT, "raymx-actor", None, [(FIT, "raymx")]),
    ],
)

if __name__ == "__main__":
    sys.exit(main(BENCH))
