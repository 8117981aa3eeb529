"""Train on handwritten digits with many workers: an ordinary script that says `kvstore="dist_sync"`.

    python -m raymx launch -n 2 -s 2 examples/dist_mnist.py --num-epochs 5
    python examples/dist_mnist.py                                # the only worker of a job of its own
"""

from __future__ import annotations

import logging

import numpy as np
from digits import devices, load, options
from train_mnist import network

import raymx as mx


def main(argv: list[str] | None = None) -> float:
    """Train as the command line says; this worker's accuracy on the test data."""
    args = arguments().parse_args(argv)
    kv = mx.kv.create(args.kv_store)
    logging.basicConfig(level=logging.INFO, format=f"worker {kv.rank}: %(message)s")
    mx.random.seed(args.seed)
    np.random.seed(args.seed)
    (x_train, y_train), (x_test, y_test) = load(args.data)
    data = mx.io.NDArrayIter(*part(x_train, y_train, kv.rank, kv.num_workers), args.batch_size, shuffle=True)
    test = mx.io.NDArrayIter(x_test, y_test, args.batch_size)
    module = mx.mod.Module(network(), context=devices(args.ctx, args.num_devices))
    module.fit(
        data, eval_data=test, kvstore=kv, num_epoch=args.num_epochs, initializer=mx.init.Xavier(),
        optimizer_params={"learning_rate": args.lr, "momentum": 0.9},
        batch_end_callback=mx.callback.Speedometer(args.batch_size, 50),
    )  # fmt: skip
    if args.prefix and kv.rank == 0:
        module.save_checkpoint(args.prefix, args.num_epochs)
    ((_, accuracy),) = module.score(test, "acc")
    print(f"worker {kv.rank} of {kv.num_workers}: test accuracy {accuracy:.4f}")
    return accuracy


def arguments():
    parser = options(__doc__, num_epochs=5, lr=0.1)
    parser.add_argument("--kv-store", default="dist_sync", help="dist_sync, dist_async, dist_device_sync, … or local")
    return parser


def part(x, y, rank: int, workers: int):
    """One worker's samples: as many for each, so that all have equally many batches."""
    count = len(x) // workers
    mine = slice(rank * count, (rank + 1) * count)
    return x[mine], y[mine]


if __name__ == "__main__":
    main()
