"""Train LeNet, a network with two convolutions, on handwritten digits, with Module.fit.

    python examples/train_lenet.py                              # the 8x8 digits of scikit-learn, on this process's CPU
    python examples/train_lenet.py --data DIR-or-URL            # MNIST's idx files, plain or .gz
    python examples/train_lenet.py --ctx gpu --num-devices 2    # two GPUs of the cluster, or virtual ones
    python examples/train_lenet.py --prefix lenet --load-epoch 5 --num-epochs 10    # go on after the fifth epoch
"""

from __future__ import annotations

import math
import os
import tempfile

import numpy as np
from digits import History, devices, load, options

import raymx as mx


def main(argv: list[str] | None = None) -> float:
    """Train as the command line says; returns the accuracy on the test data."""
    parser = options(__doc__, num_epochs=10, lr=0.05)
    parser.add_argument("--load-epoch", type=int, metavar="N", help="go on from PREFIX-NNNN.params and its optimizer")
    args = parser.parse_args(argv)
    train, test = load(args.data)
    size = math.isqrt(train[0].shape[1])
    contexts = devices(args.ctx, args.num_devices)
    print(f"{len(train[0])} samples to train on, {len(test[0])} to test on; devices: {', '.join(map(str, contexts))}")
    prefix = args.prefix or os.path.join(tempfile.mkdtemp(prefix="raymx-"), "lenet")
    mx.random.seed(args.seed)
    np.random.seed(args.seed)

    if args.load_epoch:
        module = mx.mod.Module.load(prefix, args.load_epoch, load_optimizer_states=True, context=contexts)
    else:
        module = mx.mod.Module(network(size), context=contexts)
    history = History(len(train[0]))
    module.fit(
        batches(*train, args.batch_size, shuffle=True), eval_data=batches(*test, args.batch_size),
        eval_metric=history.metric, initializer=mx.init.Xavier(), begin_epoch=args.load_epoch or 0,
        num_epoch=args.num_epochs, optimizer_params={"learning_rate": args.lr, "momentum": 0.9, "wd": 1e-4},
        batch_end_callback=mx.callback.ProgressBar(len(train[0]) // args.batch_size),
        epoch_end_callback=[history.trained, mx.callback.module_checkpoint(module, prefix, 1, True)],
        eval_end_callback=history.tested,
    )  # fmt: skip
    print(f"saved {prefix}-symbol.json and {prefix}-{args.num_epochs:04d}.params")
    print(f"test accuracy {history.test[-1]:.4f}")
    return history.test[-1]


def network(size: int):
    """LeNet for pictures of `size` x `size` pixels; small ones keep their size in convolutions."""
    pad = (0, 0) if size >= 28 else (2, 2)
    net = mx.sym.Variable("data")
    for i, filters in enumerate((20, 50), start=1):
        net = mx.sym.Convolution(net, kernel=(5, 5), pad=pad, num_filter=filters, name=f"conv{i}")
        net = mx.sym.Activation(net, act_type="tanh", name=f"tanh{i}")
        net = mx.sym.Pooling(net, pool_type="max", kernel=(2, 2), stride=(2, 2), name=f"pool{i}")
    net = mx.sym.FullyConnected(mx.sym.Flatten(net), num_hidden=500, name="fc1")
    net = mx.sym.Activation(net, act_type="tanh", name="tanh3")
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, num_hidden=10, name="fc2"), name="softmax")


def batches(x: np.ndarray, y: np.ndarray, batch_size: int, shuffle: bool = False):
    """Batches of pictures (batch_size, 1, size, size)."""
    size = math.isqrt(x.shape[1])
    return mx.io.NDArrayIter(x.reshape(-1, 1, size, size), y, batch_size, shuffle)


if __name__ == "__main__":
    main()
