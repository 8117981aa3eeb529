"""What the examples on handwritten digits share: data, devices, options, and what is printed."""

from __future__ import annotations

import argparse
import time

import numpy as np

import raymx as mx


def options(description: str | None, num_epochs: int, lr: float) -> argparse.ArgumentParser:
    """A parser with the options of every such example."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder or URL with MNIST's idx files (default: scikit-learn's digits)")
    parser.add_argument("--ctx", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--num-devices", type=int, default=1, help="each batch is cut over so many devices")
    parser.add_argument("--num-epochs", type=int, default=num_epochs)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=lr, help="learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--prefix", help="where to save PREFIX-symbol.json and PREFIX-NNNN.params; may be a URL "
                                         "(default: a new temporary folder)")  # fmt: skip
    return parser


def load(folder: str | None):
    """((images (N, rows * columns), labels (N,)) to train on, the same to test on), pixels from 0 to 1."""
    return load_mnist(folder) if folder else load_digits()


def devices(kind: str, count: int) -> list[mx.Context]:
    if kind == "cpu":
        return [mx.cpu(i) for i in range(count)]
    if mx.num_gpus() == 0:
        mx.init(virtual_gpus=count)
    return [mx.gpu(i) for i in range(count)]


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
