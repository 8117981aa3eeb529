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
import time

import numpy as np

import raymx as mx

HIDDEN = (128, 64)


def main(argv: list[str] | None = None) -> float:
    """Train as the command line says; returns the accuracy on the test data."""
    args = arguments().parse_args(argv)
    (x_train, y_train), (x_test, y_test) = load_mnist(args.data) if args.data else load_digits()
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder or URL with MNIST's idx files (default: scikit-learn's digits)")
    parser.add_argument("--ctx", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--num-devices", type=int, default=1, help="each batch is cut over so many devices")
    parser.add_argument("--num-epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prefix", help="where to save PREFIX-symbol.json and PREFIX-NNNN.params; may be a URL "
                                         "(default: a new temporary folder)")  # fmt: skip
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


def devices(kind: str, count: int) -> list[mx.Context]:
    if kind == "cpu":
        return [mx.cpu(i) for i in range(count)]
    if mx.num_gpus() == 0:
        mx.init(virtual_gpus=count)
    return [mx.gpu(i) for i in range(count)]


# ---- data ----


def load_digits():
    """((images, labels) to train on, the same to test on) from scikit-learn."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    return split(digits.data[order] / 16, digits.target[order])


def load_mnist(folder: str):
    """((images, labels) to train on, the same to test on); MNIST's test files serve for both if they are alone."""
    test = read(folder, "t10k-images-idx3-ubyte"), read(folder, "t10k-labels-idx1-ubyte")
    try:
        train = read(folder, "train-images-idx3-ubyte"), read(folder, "train-labels-idx1-ubyte")
    except FileNotFoundError:
        return split(flat(test[0]), test[1])
    return (flat(train[0]), train[1]), (flat(test[0]), test[1])


def read(folder: str, name: str) -> np.ndarray:
    """The array in the idx file `name` or `name`.gz."""
    path = f"{folder.rstrip('/')}/{name}"
    return mx.io.read_idx(path if mx.storage.exists(path) else f"{path}.gz")


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 256


def split(x: np.ndarray, y: np.ndarray):
    """The first four fifths and the rest."""
    cut = len(x) * 4 // 5
    return (x[:cut].astype(np.float32), y[:cut]), (x[cut:].astype(np.float32), y[cut:])


# ---- what happened ----


class History:
    """Callbacks that print a line for each epoch and remember its accuracies."""

    def __init__(self, samples: int):
        self.metric = mx.metric.create("acc")
        self.train: list[float] = []
        self.test: list[float] = []
        self._samples, self._began, self._speed = samples, time.perf_counter(), 0.0

    def trained(self, epoch, symbol, arg_params, aux_params) -> None:
        self._speed = self._samples / (time.perf_counter() - self._began)
        self.train.append(self.metric.get()[1])

    def tested(self, param) -> None:
        self.test.append(self.metric.get()[1])
        print(f"epoch {param.epoch + 1}: train accuracy {self.train[-1]:.4f}, test accuracy {self.test[-1]:.4f}, "
              f"{self._speed:.0f} samples/s")  # fmt: skip
        self._began = time.perf_counter()

    def plot(self, path: str) -> None:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots()
        epochs = range(1, len(self.test) + 1)
        axes.plot(epochs, self.train, label="train")
        axes.plot(epochs, self.test, label="test")
        axes.set(xlabel="epoch", ylabel="accuracy")
        axes.legend()
        figure.savefig(path)
        plt.close(figure)


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
