"""Two independent heavy tasks, pushed from one script to two device actors of one thread each.

Peers have no row: the question is what two devices gain over one after the other, in the same process in the same run.
"""

from __future__ import annotations

import sys

from harness import Bar, Benchmark, main, seconds

IN_TURN, TOGETHER = "one after the other", "both together"


def raymx_actor(options):
    import raymx as mx
    from raymx import config

    config.set(device_threads=1)
    shape = (options.size, options.size)
    devices = [tuple(mx.nd.ones(shape, mx.cpu(i)) for _ in range(3)) for i in (1, 2)]

    def push(a, b, c):
        for _ in range(options.dots):
            mx.nd.dot(a, b, out=c)

    def in_turn():
        for arrays in devices:
            push(*arrays)
            mx.nd.waitall()

    def together():
        for arrays in devices:
            push(*arrays)
        mx.nd.waitall()

    mx.nd.waitall()
    return {IN_TURN: lambda: seconds(in_turn), TOGETHER: lambda: seconds(together)}


BENCH = Benchmark(
    name="overlap",
    title="two heavy tasks on two device actors, one thread each",
    unit="s",
    workers={"raymx-actor": raymx_actor},
    options={"size": 1024, "dots": 20},
    bars=[Bar(TOGETHER, "raymx-actor", 0.65, [(IN_TURN, "raymx-actor")])],
)

if __name__ == "__main__":
    sys.exit(main(BENCH))
