"""The digits example: it learns, saves, and predicts the same from a fresh process."""

import gzip
import importlib
import re
import struct

import numpy as np
import pytest

import raymx as mx

SAME = "a fresh process predicts the same with the saved network, bit for bit"


@pytest.fixture(scope="module")
def example():
    return importlib.import_module("train_mnist")


@pytest.fixture
def alone(example, monkeypatch):
    """No fresh process, which takes its time to start."""
    monkeypatch.setattr(example, "check_in_a_fresh_process", lambda *args: None)


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_digits(example, tmp_path, capsys):
    prefix, curve = str(tmp_path / "digits"), tmp_path / "curve.png"
    accuracy = example.main(["--prefix", prefix, "--plot", str(curve), "--num-epochs", "8"])
    printed = lines(capsys)
    assert accuracy >= 0.95
    assert printed[0] == "1437 samples to train on, 360 to test on; devices: cpu(0)"
    epoch = re.compile(r"epoch \d: train accuracy 0\.\d{4}, test accuracy 0\.\d{4}, \d+ samples/s")
    assert sum(epoch.fullmatch(line) is not None for line in printed) == 8
    assert SAME in printed
    assert printed[-1] == f"test accuracy {accuracy:.4f}"
    assert curve.read_bytes().startswith(b"\x89PNG")
    names = {path.name for path in tmp_path.iterdir()}
    assert {"digits-symbol.json", "digits-0001.params", "digits-0008.params"} <= names


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype("u1").tobytes()


@pytest.mark.parametrize("whole", [False, True])
def test_mnist_files(example, tmp_path, alone, whole):
    digits = importlib.import_module("digits")
    (x, y), (x_test, y_test) = digits.load_digits()
    pictures = (x.reshape(-1, 8, 8) * 255, y), (x_test.reshape(-1, 8, 8) * 255, y_test)
    for name, (images, labels) in zip(("t10k", "train") if whole else ("t10k",), pictures, strict=False):
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels))
    (train, _), (test, _) = digits.load_mnist(str(tmp_path))
    assert (len(train), len(test)) == ((360, 1437) if whole else (1149, 288))
    assert (train.dtype, train.shape[1:]) == (np.float32, (64,))
    if not whole:
        assert example.main(["--data", str(tmp_path), "--prefix", str(tmp_path / "net"), "--num-epochs", "6"]) >= 0.9


def test_mnist(example, mnist, tmp_path):
    assert example.main(["--data", mnist, "--prefix", str(tmp_path / "mnist")]) >= 0.94


def test_equal_seeds_save_equal_bits(example, tmp_path, alone):
    for prefix in ("a", "b"):
        example.main(["--prefix", str(tmp_path / prefix), "--num-epochs", "1", "--seed", "3"])
    assert (tmp_path / "a-0001.params").read_bytes() == (tmp_path / "b-0001.params").read_bytes()


def test_another_prediction_is_noticed(example, tmp_path):
    prefix, net = str(tmp_path / "net"), example.network()
    shapes = dict(zip(net.list_arguments(), net.infer_shape(data=(1, 64))[0], strict=True))
    params = {name: mx.nd.ones(shape) for name, shape in shapes.items() if name.startswith("fc")}
    mx.model.save_checkpoint(prefix, 1, net, params, {})
    args = example.arguments().parse_args(["--num-epochs", "1"])
    with pytest.raises(SystemExit, match="a fresh process predicts something else"):
        example.check_in_a_fresh_process(args, prefix, np.zeros((360, 10), "float32"))


@pytest.mark.ray
def test_two_devices(example, tmp_path, capsys, alone):
    accuracy = example.main(["--ctx", "gpu", "--num-devices", "2", "--prefix", str(tmp_path / "net")])
    assert lines(capsys)[0].endswith("devices: gpu(0), gpu(1)")
    assert accuracy >= 0.95


@pytest.mark.ray
def test_the_same_bits_on_a_device_actor(example, tmp_path, alone):
    for ctx in ("cpu", "gpu"):
        example.main(["--ctx", ctx, "--prefix", str(tmp_path / ctx), "--num-epochs", "2"])
    assert (tmp_path / "cpu-0002.params").read_bytes() == (tmp_path / "gpu-0002.params").read_bytes()


def test_only_missing_gpus_are_emulated(example, monkeypatch):
    started = []
    monkeypatch.setattr(mx, "num_gpus", lambda: 0)
    monkeypatch.setattr(mx, "init", lambda **options: started.append(options))
    assert example.devices("cpu", 2) == [mx.cpu(0), mx.cpu(1)]
    assert started == []
    assert example.devices("gpu", 2) == [mx.gpu(0), mx.gpu(1)]
    assert started == [{"virtual_gpus": 2}]
    monkeypatch.setattr(mx, "num_gpus", lambda: 2)
    example.devices("gpu", 2)
    assert len(started) == 1
