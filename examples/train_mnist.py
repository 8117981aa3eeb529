"""Train a network on handwritten digits, save it, and use it from another process.

    python examples/train_mnist.py                              # the 8x8 digits of scikit-learn, on this process's CPU
    python examples/train_mnist.py --data DIR-or-URL            # MNIST's idx files, plain or .gz
    python examples/train_mnist.py --ctx gpu --num-devices 2    # two GPUs of the cluster, or virtual ones
    python examples/train_mnist.py --prefix s3://bucket/mnist --plot curve.png
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np
from digits import History, devices, load, options

import raymx as mx

HIDDEN = (128, 64)


def main(argv: list[str] | None = None) -> float:
    """Train as the command line says; returns the accuracy on the test data."""
    args = arguments().parse_args(argv)
    (x_train, y_train), (x_test, y_test) = load(args.data)
    if args.predict:
        np.save(args.predict, predict(*mx.model.load_checkpoint(args.prefix, args.num_epochs), x_test))
        return float("nan")

    contexts = devices(args.ctx, args.num_devices)
    print(f"{len(x_train)} samples to train on, {len(x_test)} to test on; devices: {', '.join(map(str, contexts))}")
    prefix = args.prefix or os.path.join(tempfile.mkdtemp(prefix="raymx-"), "mnist")
    mx.random.seed(args.seed)
    np.random.seed(args.seed)
    history = History(len(x_train))
    model = mx.model.FeedForward(
        network(), ctx=contexts, num_epoch=args.num_epochs, learning_rate=args.lr, momentum=0.9,
        initializer=mx.init.Xavier(), numpy_batch_size=args.batch_size,
    )  # fmt: skip
    model.fit(
        x_train, y_train, eval_data=(x_test, y_test), eval_metric=history.metric,
        batch_end_callback=mx.callback.ProgressBar(len(x_train) // args.batch_size),
        epoch_end_callback=[history.trained, mx.callback.do_checkpoint(prefix)], eval_end_callback=history.tested,
    )  # fmt: skip
    if args.plot:
        history.plot(args.plot)
        print(f"learning curve: {args.plot}")
    print(f"saved {prefix}-symbol.json and {prefix}-{args.num_epochs:04d}.params")
    check_in_a_fresh_process(args, prefix, predict(model.symbol, model.arg_params, model.aux_params, x_test))
    print(f"test accuracy {history.test[-1]:.4f}")
    return history.test[-1]


def arguments() -> argparse.ArgumentParser:
    parser = options(__doc__, num_epochs=10, lr=0.1)
    parser.add_argument("--plot", metavar="FILE.png", help="draw the learning curve")
    parser.add_argument("--predict", metavar="FILE.npy", help="only load PREFIX at --num-epochs and save what it "
                                                              "predicts for the test data")  # fmt: skip
    return parser


def network():
    """Two hidden layers and ten classes."""
    net = mx.sym.Variable("data")
    for i, width in enumerate(HIDDEN, start=1):
        net = mx.sym.FullyConnected(net, num_hidden=width, name=f"fc{i}")
        net = mx.sym.Activation(net, act_type="relu", name=f"relu{i}")
    net = mx.sym.FullyConnected(net, num_hidden=10, name=f"fc{len(HIDDEN) + 1}")
    return mx.sym.SoftmaxOutput(net, name="softmax")


def predict(symbol, arg_params, aux_params, x: np.ndarray) -> np.ndarray:
    """Probabilities of the classes, computed in this process."""
    return mx.model.FeedForward(symbol, ctx=mx.cpu(), arg_params=arg_params, aux_params=aux_params).predict(x)


def check_in_a_fresh_process(args, prefix: str, expected: np.ndarray) -> None:
    """Load the saved network in another process and compare what it predicts, bit for bit."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "predicted.npy")
        options = ["--predict", path, "--prefix", prefix, "--num-epochs", str(args.num_epochs)]
        options += ["--data", args.data] if args.data else []
        subprocess.run([sys.executable, __file__, *options], check=True)
        found = np.load(path)
    if not np.array_equal(found, expected):
        sys.exit("a fresh process predicts something else with the saved network")
    print("a fresh process predicts the same with the saved network, bit for bit")


if __name__ == "__main__":
    main()
