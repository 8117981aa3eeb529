"""Eager small operators on (2, 3) float32: what one operator costs from Python, work done at the end included."""

from __future__ import annotations

import sys

from harness import Bar, Benchmark, main, seconds

IN_PLACE, CHAINED = "s += 1", "c = a * b + a - b"


def in_place(s, ops, sync):
    for _ in range(ops):
        s += 1
    sync()


def chained(a, b, ops, sync):
    for _ in range(ops // 3):
        c = a * b + a - b
    sync()
    return c


def tasks(ones, sync, ops):
    """Both loops over arrays that `ones()` makes; figures in µs per operator."""
    s, a, b = ones(), ones(), ones()
    return {
        IN_PLACE: lambda: seconds(in_place, s, ops, sync) / ops * 1e6,
        CHAINED: lambda: seconds(chained, a, b, ops, sync) / (ops // 3 * 3) * 1e6,
    }


def raymx(options):
    import raymx as mx

    return tasks(lambda: mx.nd.ones((2, 3)), mx.nd.waitall, options.ops)


def raymx_actor(options):
    import raymx as mx

    return tasks(lambda: mx.nd.ones((2, 3), mx.cpu(1)), mx.nd.waitall, options.ops)


def mxnet(options):
    import mxnet as mx

    return tasks(lambda: mx.nd.ones((2, 3)), mx.nd.waitall, options.ops)


def torch(options):
    import torch

    return tasks(lambda: torch.ones(2, 3), lambda: None, options.ops)


BENCH = Benchmark(
    name="eager",
    title="small operators one by one, (2, 3) float32",
    unit="µs per operator",
    workers={"raymx": raymx, "raymx-actor": raymx_actor, "mxnet": mxnet, "torch": torch},
    options={"ops": 20_000},
    bars=[
        Bar(IN_PLACE, "raymx", 0.4, [(IN_PLACE, "mxnet")]),
        Bar(IN_PLACE, "raymx-actor", 0.6, [(IN_PLACE, "mxnet")]),
        Bar(CHAINED, "raymx", None, [(CHAINED, "mxnet")]),
        Bar(CHAINED, "raymx-actor", None, [(CHAINED, "mxnet")]),
    ],
)

if __name__ == "__main__":
    sys.exit(main(BENCH))
