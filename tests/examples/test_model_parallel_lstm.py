"""The model-parallel example: it learns, with each layer on a device of its own."""

import importlib

import numpy as np
import pytest

import raymx as mx
from raymx import config
from tests import devices

SMALL = ["--num-hidden=32", "--num-steps=8", "--num-symbols=5", "--batch-size=16", "--num-updates=40"]


@pytest.fixture(scope="module")
def example():
    return importlib.import_module("model_parallel_lstm")


def test_layers_on_devices_of_their_own_learn(example, capsys):
    with devices.in_this_process():
        perplexity = example.main(SMALL)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "2 layers on cpu(1), cpu(2)"
    assert printed[-1] == f"update 40: perplexity {perplexity:.2f}"
    assert perplexity < 2


@pytest.mark.parametrize("hidden", [8, 160])  # few segments; one for each time step
def test_two_groups_have_the_bits_of_one_device(example, hidden):
    args = example.arguments().parse_args([*SMALL, f"--num-hidden={hidden}", "--num-steps=5"])
    with devices.in_this_process(), config.using(fuse=False):
        alone = bits(example, args, None)
        spread = bits(example, args, {"layer0": mx.cpu(1), "layer1": mx.cpu(2)})
    for name, expected in alone.items():
        np.testing.assert_array_equal(spread[name], expected, err_msg=name)


def bits(example, args, groups) -> dict[str, np.ndarray]:
    """Outputs and gradients after two passes."""
    net = example.network(args, ["layer0", "layer1"])
    shapes = example.shapes(args, ["layer0", "layer1"])
    exe = net.simple_bind(mx.cpu(1), group2ctx=groups, grad_req=example.grad_req(net), **shapes)
    rng = np.random.default_rng(1)
    for name, array in exe.arg_dict.items():
        symbols = name.startswith(("data", "label"))
        array[:] = rng.integers(0, args.num_symbols, array.shape) if symbols else rng.uniform(-0.5, 0.5, array.shape)
    for _ in range(2):
        exe.forward(is_train=True)
        exe.backward()
    gradients = {name: exe.grad_dict[name].asnumpy() for name in example.parameters(net)}
    return gradients | {f"output {i}": output.asnumpy() for i, output in enumerate(exe.outputs)}


@pytest.mark.ray
def test_virtual_gpus_learn_the_same(example):
    with devices.in_this_process():
        expected = example.main([*SMALL, "--num-layers=3", "--num-updates=3"])
    found = example.main([*SMALL, "--num-layers=3", "--num-updates=3", "--ctx=gpu"])
    assert found == pytest.approx(expected, rel=1e-5)  # kernels of other libraries round differently: 2e-7
