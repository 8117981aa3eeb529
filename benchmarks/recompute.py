"""What recomputation saves and costs: a training step of a network of many residual layers, bound with each value of
the switch `recompute`, and the bytes planned for its intermediate values.

A layer is Convolution 3x3, BatchNorm, ReLU, added to its input. Peers have no row: the question is what the same step
takes with and without, in the same process in the same run.
"""

from __future__ import annotations

import sys

import models
from harness import Bar, Benchmark, main, seconds

MODES = ("none", "mirror", "sqrt")


def network(mx, layers, filters):
    def convolution(data, name):
        return mx.sym.Convolution(data, num_filter=filters, kernel=(3, 3), pad=(1, 1), no_bias=True, name=name)

    out = convolution(mx.sym.Variable("data"), "first")
    for i in range(layers):
        inner = mx.sym.BatchNorm(convolution(out, f"conv{i}"), fix_gamma=False, name=f"bn{i}")
        out = out + mx.sym.Activation(inner, act_type="relu", name=f"relu{i}")
    out = mx.sym.Pooling(out, pool_type="avg", global_pool=True, kernel=(1, 1), name="pool")
    out = mx.sym.FullyConnected(mx.sym.Flatten(out), num_hidden=models.CLASSES, name="fc")
    return mx.sym.SoftmaxOutput(out, name="softmax")


def raymx(options):
    import raymx as mx
    from raymx import config

    shapes = {"data": (options.batch, 3, options.side, options.side), "softmax_label": (options.batch,)}
    net = network(mx, options.layers, options.filters)

    def bound(mode):
        with config.using(recompute=mode):
            return models.bound(mx, mx.cpu(), net, shapes)[0]

    def step(executor):
        executor.forward(is_train=True)
        executor.backward()
        mx.nd.waitall()

    figures = {}
    for mode in MODES:
        executor = bound(mode)
        figures[f"{mode}: planned, MB"] = lambda executor=executor: executor.memory_report().planned_nbytes / 1e6
        figures[f"{mode}: step, ms"] = lambda executor=executor: seconds(step, executor) * 1e3
    return figures


def bars(mode, bytes_limit, time_limit):
    limits = (("planned, MB", bytes_limit), ("step, ms", time_limit))
    return [Bar(f"{mode}: {what}", "raymx", limit, [(f"none: {what}", "raymx")]) for what, limit in limits]


BENCH = Benchmark(
    name="recompute",
    title="recomputation in a network of residual layers",
    unit="as named",
    workers={"raymx": raymx},
    options={"layers": 100, "filters": 16, "side": 16, "batch": 16},
    bars=[*bars("mirror", 1.0, None), *bars("sqrt", 0.35, 1.4)],
)

if __name__ == "__main__":
    sys.exit(main(BENCH))
