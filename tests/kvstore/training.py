"""A real training for the kill tests: a small convolutional network on MNIST, in two workers, with everything that a
restart could get wrong: moving averages, dropout, shuffled rows that roll over, a schedule, arrays cut over shards.

RAYMX_TEST_MNIST names the folder with MNIST's files; without it, seeded noise of the same shapes stands for them.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

import raymx as mx
from raymx import config

WORKERS = SHARDS = 2
EPOCHS, ROWS, BATCH = 2, 52, 16  # of each worker: three batches in an epoch, or four
LOSSES = ("worker {} was lost", "shard {} lost a process")  # what the supervisor's log says


def samples(rank: int) -> tuple[np.ndarray, np.ndarray]:
    """A worker's images (ROWS, 1, 28, 28) and labels."""
    rows = slice(rank * ROWS, (rank + 1) * ROWS)
    folder = os.environ.get("RAYMX_TEST_MNIST")
    if folder:
        images = mx.io.read_idx(Path(folder) / "t10k-images-idx3-ubyte.gz", 3)[rows]
        labels = mx.io.read_idx(Path(folder) / "t10k-labels-idx1-ubyte.gz", 1)[rows]
    else:
        rng = np.random.default_rng(rank)
        images, labels = rng.integers(0, 256, (ROWS, 28, 28)), rng.integers(0, 10, ROWS)
    return images[:, None].astype("float32") / 256, labels.astype("float32")


def network(hidden: int = 16):
    net = mx.sym.Convolution(mx.sym.Variable("data"), kernel=(5, 5), stride=(2, 2), num_filter=8, name="conv")
    net = mx.sym.Activation(mx.sym.BatchNorm(net, fix_gamma=False, name="bn"), act_type="relu")
    net = mx.sym.FullyConnected(mx.sym.Flatten(net), num_hidden=hidden, name="fc1")
    net = mx.sym.FullyConnected(mx.sym.Dropout(net, p=0.3), num_hidden=10, name="fc2")
    return mx.sym.SoftmaxOutput(net, name="softmax")


def train(device: int, how: str = "module", kind: str = "dist_sync", compression=None, seed: int = 7,
          hidden: int = 16, **options):  # fmt: skip
    """What a worker does: train, and return whether it was started anew, with parameters and states as bytes."""
    config.set(kvstore_bigarray_bound=1000)
    mx.random.seed(5)
    kv = mx.kv.create(kind)
    np.random.seed(seed + kv.rank)
    if compression:
        kv.set_gradient_compression(compression)
    images, labels = samples(kv.rank)
    settings = {"learning_rate": 0.01, "lr_scheduler": mx.lr_scheduler.FactorScheduler(2, 0.7)}
    if how == "module":
        module = mx.mod.Module(network(hidden), context=mx.cpu(device))
        data = mx.io.NDArrayIter(images, labels, BATCH, shuffle=True, last_batch_handle="roll_over")
        module.fit(data, kvstore=kv, num_epoch=EPOCHS, optimizer="adam", optimizer_params=settings,
                   initializer=mx.init.Xavier(), **options)  # fmt: skip
        params = module.get_params()
    else:
        model = mx.model.FeedForward(network(), ctx=mx.cpu(device), num_epoch=EPOCHS, numpy_batch_size=BATCH,
                                     optimizer="adam", initializer=mx.init.Xavier(), **settings)  # fmt: skip
        model.fit(images, labels, kvstore=kv, **options)
        params = model.arg_params, model.aux_params
    return kv.restarted, [{name: value.asnumpy().tobytes() for name, value in each.items()} for each in params]


def launched(*args, replicas: int = 1, fault: str = "", fn=train, **options):
    """(restarted, parameters and states) of each worker of a training, with a fault."""
    with config.using(fault=fault):
        return mx.launch(_with(fn, options), WORKERS, num_servers=SHARDS, args=args, resources={"CPU": 0},
                         replicas=replicas)  # fmt: skip


def _with(fn, options):
    def work(*args):
        return fn(*args, **options)

    return work


def weights(found) -> list:
    """What must be the same whatever happened."""
    return [params for _, params in found]
