"""Memory that a long loop of `s += 1` leaves behind: resident MB after it, less resident MB before it.

A short loop comes first, so that what a process loads once is not counted.
"""

from __future__ import annotations

import os
import sys

from harness import Bar, Benchmark, main, rss_mb

DRIVER, DEVICE = "growth of the script's process", "growth of the device's process"


def tasks(s, sync, options, **pids):
    """One task, the loop; its figures are the growth of this process and of those in `pids` (by measure)."""
    pids = {DRIVER: os.getpid(), **pids}

    def loop(count):
        nonlocal s
        for _ in range(count):
            s += 1
        sync()

    def growth():
        loop(options.warm_ops)
        before = {measure: rss_mb(pid) for measure, pid in pids.items()}
        loop(options.ops)
        return {measure: rss_mb(pid) - before[measure] for measure, pid in pids.items()}

    return {"loop": growth}


def raymx(options):
    import raymx as mx

    return tasks(mx.nd.ones((2, 3)), mx.nd.waitall, options)


def raymx_actor(options):
    import raymx as mx
    from raymx import runtime

    s = mx.nd.ones((2, 3), mx.cpu(1))
    s.wait_to_read()
    return tasks(s, mx.nd.waitall, options, **{DEVICE: runtime.device_pid(mx.cpu(1))})


def mxnet(options):
    import mxnet as mx

    return tasks(mx.nd.ones((2, 3)), mx.nd.waitall, options)


def torch(options):
    import torch

    return tasks(torch.ones(2, 3), lambda: None, options)


BENCH = Benchmark(
    name="memory",
    title="resident memory left by a loop of s += 1 on (2, 3)",
    unit="MB",
    workers={"raymx": raymx, "raymx-actor": raymx_actor, "mxnet": mxnet, "torch": torch},
    options={"ops": 1_000_000, "warm_ops": 10_000},
    rounds=1,
    warmup=0,
    bars=[Bar(DRIVER, "raymx", 50), Bar(DRIVER, "raymx-actor", 50), Bar(DEVICE, "raymx-actor", 50)],
)

if __name__ == "__main__":
    sys.exit(main(BENCH))
