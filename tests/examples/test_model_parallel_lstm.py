"""The model-parallel example: it learns, with each layer on a device of its own."""

import importlib

import pytest

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


@pytest.mark.ray
def test_virtual_gpus_learn_the_same(example):
    with devices.in_this_process():
        expected = example.main([*SMALL, "--num-layers=3", "--num-updates=3"])
    found = example.main([*SMALL, "--num-layers=3", "--num-updates=3", "--ctx=gpu"])
    assert found == pytest.approx(expected, rel=0.02)  # Adam's first steps are the signs of gradients, however small
