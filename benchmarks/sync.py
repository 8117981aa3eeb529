"""Change an array and read it back as NumPy, a copy in every system: the price of waiting for a result."""

from __future__ import annotations

import statistics
import sys

from harness import Bar, Benchmark, main, seconds

SMALL, LARGE = "x += 1; read (2, 3)", "x += 1; read (1000, 1000)"


def change_and_read(x, read):
    x += 1
    return read(x)


def tasks(ones, read, options):
    """Median µs of one change and one read, by size."""

    def task(shape, count):
        x = ones(shape)
        return lambda: statistics.median(seconds(change_and_read, x, read) for _ in range(count)) * 1e6

    return {SMALL: task((2, 3), options.small_reads), LARGE: task((1000, 1000), options.large_reads)}


def raymx(options):
    import raymx as mx

    return tasks(mx.nd.ones, mx.nd.NDArray.asnumpy, options)


def raymx_actor(options):
    import raymx as mx

    return tasks(lambda shape: mx.nd.ones(shape, mx.cpu(1)), mx.nd.NDArray.asnumpy, options)


def mxnet(options):
    import mxnet as mx

    return tasks(mx.nd.ones, mx.nd.NDArray.asnumpy, options)


def torch(options):
    import torch

    return tasks(torch.ones, lambda x: x.numpy().copy(), options)


BENCH = Benchmark(
    name="sync",
    title="one change, one synchronous read, float32",
    unit="µs",
    workers={"raymx": raymx, "raymx-actor": raymx_actor, "mxnet": mxnet, "torch": torch},
    options={"small_reads": 500, "large_reads": 50},
    bars=[Bar(size, system, None, [(size, "mxnet")]) for size in (SMALL, LARGE) for system in ("raymx", "raymx-actor")],
)

if __name__ == "__main__":
    sys.exit(main(BENCH))
