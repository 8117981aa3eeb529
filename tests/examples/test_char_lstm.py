"""The example of a language model: perplexity falls, a text comes out, and fused layers and cells are one network."""

from __future__ import annotations

import importlib
import re

import pytest

import raymx as mx

SMALL = ["--limit", "4000", "--hidden", "24", "--embed", "8", "--length", "8", "--batch-size", "8", "--sample", "20"]


@pytest.fixture(scope="module")
def example():
    return importlib.import_module("char_lstm")


@pytest.mark.parametrize("extra", [[], ["--cells"], ["--dropout", "0.2", "--temperature", "0"]])
def test_perplexity_falls_and_text_comes_out(example, tmp_path, capsys, extra):
    prefix = str(tmp_path / "model")
    last = example.main([*SMALL, *extra, "--num-epochs", "3", "--lr", "0.01", "--prefix", prefix])
    printed = capsys.readouterr().out
    assert printed.startswith("4000 characters, ")
    found = re.findall(r"epoch \d: train perplexity (\S+), test perplexity (\S+), \d+ characters/s", printed)
    perplexities = [float(each) for each, _ in found]
    assert perplexities == sorted(perplexities, reverse=True) and len(perplexities) == 3
    assert float(found[-1][1]) == pytest.approx(last, abs=1e-3)
    sample = re.search(r"--- a sample ---\n(.*)\n---\ntest perplexity", printed, re.DOTALL)
    assert sample is not None and len(sample[1]) == 20
    assert "arg:lstm_l1_h2h_f_weight" in mx.nd.load(f"{prefix}-0003.params")


def test_too_little_text(example):
    with pytest.raises(SystemExit, match="100 characters are too few"):
        example.main([*SMALL, "--limit", "100"])


def test_a_file(example, tmp_path):
    (tmp_path / "text.txt").write_text("to be or not to be ")
    assert example.read(str(tmp_path / "text.txt")) == "to be or not to be "
    numbers, letters = example.encode("abca")
    assert (numbers.tolist(), letters) == ([0, 1, 2, 0], ["a", "b", "c"])


@pytest.mark.slow
@pytest.mark.parametrize("extra", [[], ["--cells"]])
def test_it_learns_english(example, extra):
    """Letters alone, without what comes before, have a perplexity of about 22 here."""
    assert example.main(["--limit", "300000", "--num-epochs", "2", *extra]) < 8
