"""Memory for the values between the layers of networks in training, raymx beside MXNet: as planned, and as taken.

Planned: all values of forward and backward, outputs included, neither arguments nor their gradients. MXNet's figure
leaves out what its kernels take beside (columns of convolutions, the whole inside of the operator RNN); raymx's holds
what operators declare. MXNet tells whole MiB, cut off, so the small MLP is measured at 64 times the batch.

Taken: by how much a fresh process has grown after four steps, arguments and gradients subtracted. This holds all that
kernels keep, pools, threads, and code that is loaded.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import lstm
import models
from harness import Bar, Benchmark, main, rss_mb

MIB = 1 << 20
NAMES = ("MLP", "LeNet", "ResNet-20", "LSTM in steps", "LSTM in one operator")
CELLS = argparse.Namespace(layers=2, hidden=256, steps=35, batch=32)


def network(mx, name, batch):
    """The symbol, and the shapes of what is no parameter."""

    def shapes(batch, *shape):
        return {"data": (batch, *shape), "softmax_label": (batch,)}

    if name == "MLP":
        return models.mlp(mx, (784, 128, 64, models.CLASSES)), shapes(batch * 64, 784)
    if name == "LeNet":
        return models.lenet(mx), shapes(batch, 1, 28, 28)
    if name == "ResNet-20":
        return models.resnet(mx), shapes(batch // 2, 3, 32, 32)
    sequences = {"data": (CELLS.steps, CELLS.batch, CELLS.hidden), "label": (CELLS.steps, CELLS.batch)}
    return lstm.network(mx, lstm.UNROLLED if name == "LSTM in steps" else lstm.FUSED, CELLS), sequences


def planned(mx, name, batch):
    executor, _ = models.bound(mx, mx.cpu(), *network(mx, name, batch))
    if hasattr(executor, "memory_report"):
        report = executor.memory_report()
        return (report.planned_nbytes + report.outputs_nbytes) / MIB
    return int(re.search(r"Total (\d+) MB allocated", executor.debug_str()).group(1))


def taken(mx, name, batch):
    """In a fresh process: MiB by which it grows."""
    mx.nd.dot(mx.nd.ones((80, 80)), mx.nd.ones((80, 80))).asnumpy()  # libraries and their threads are there
    before = rss_mb(os.getpid())
    executor, _ = models.bound(mx, mx.cpu(), *network(mx, name, batch))
    for _ in range(4):
        executor.forward(is_train=True)
        executor.backward()
        mx.nd.waitall()
    arrays = [*executor.arg_arrays, *executor.grad_arrays]
    own = sum(4 * array.size for array in arrays if array is not None)
    return (rss_mb(os.getpid()) * 1e6 - before * 1e6 - own) / MIB


def taken_afresh(module, name, batch):
    code = f"import sys, {module} as mx, planned; print(planned.taken(mx, {name!r}, {batch}), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, stderr=subprocess.PIPE, text=True)
    return float(done.stderr.strip().splitlines()[-1])


def tasks(module, mx, options):
    figures = {}
    for name in NAMES:
        figures[f"{name}: planned"] = lambda name=name: planned(mx, name, options.batch)
        figures[f"{name}: taken"] = lambda name=name: taken_afresh(module, name, options.batch)
    return figures


def raymx(options):
    import raymx as mx

    return tasks("raymx", mx, options)


def mxnet(options):
    import mxnet as mx

    return tasks("mxnet", mx, options)


def bar(measure):
    """MXNet plans nothing of what its operator RNN takes."""
    return Bar(measure, "raymx", None if measure == f"{NAMES[-1]}: planned" else 1.0, [(measure, "mxnet")])


BENCH = Benchmark(
    name="planned",
    title="memory of networks in training, arguments and gradients left out",
    unit="MiB",
    workers={"raymx": raymx, "mxnet": mxnet},
    options={"batch": 64},
    bars=[bar(f"{name}: {what}") for name in NAMES for what in ("planned", "taken")],
    rounds=1,
    warmup=0,
)

if __name__ == "__main__":
    sys.exit(main(BENCH))
