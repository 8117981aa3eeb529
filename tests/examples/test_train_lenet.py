"""The LeNet example: it learns, on one device and on several, and goes on from what it saved."""

import importlib

import numpy as np
import pytest

import raymx as mx


@pytest.fixture(scope="module")
def example():
    return importlib.import_module("train_lenet")


def test_digits_and_going_on(example, tmp_path, capsys):
    prefix = str(tmp_path / "lenet")
    first = example.main(["--prefix", prefix, "--num-epochs", "2", "--lr", "0.1"])
    second = example.main(["--prefix", prefix, "--num-epochs", "3", "--load-epoch", "2", "--lr", "0.1"])
    printed = capsys.readouterr().out.splitlines()
    assert first >= 0.85
    assert second >= 0.9
    assert printed[0] == "1437 samples to train on, 360 to test on; devices: cpu(0)"
    assert printed[-3].startswith("epoch 3: train accuracy ")
    assert printed[-1] == f"test accuracy {second:.4f}"
    names = {path.name for path in tmp_path.iterdir()}
    assert {"lenet-symbol.json", "lenet-0002.params", "lenet-0002.states", "lenet-0003.params"} <= names


@pytest.mark.parametrize(("size", "features"), [(28, 50 * 4 * 4), (8, 50 * 2 * 2)])
def test_the_network_takes_both_sizes(example, size, features):
    shapes, outputs, _ = example.network(size).infer_shape(data=(3, 1, size, size))
    assert (500, features) in shapes
    assert outputs == [(3, 10)]


def test_batches_are_pictures(example):
    data = example.batches(np.zeros((10, 64), "float32"), np.zeros(10), 4)
    assert data.provide_data == [("data", (4, 1, 8, 8))]


@pytest.mark.ray
def test_virtual_gpus(example, tmp_path):
    options = ["--ctx", "gpu", "--num-devices", "2", "--num-epochs", "2", "--prefix", str(tmp_path / "net")]
    assert example.main([*options, "--lr", "0.1"]) >= 0.8
    assert mx.num_gpus() >= 2


@pytest.mark.slow
def test_mnist(example, mnist, tmp_path):
    assert example.main(["--data", mnist, "--prefix", str(tmp_path / "lenet"), "--num-epochs", "6"]) >= 0.97
