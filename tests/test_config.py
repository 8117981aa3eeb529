"""Switches: their three sources, their types, their errors, and the page made from them."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from raymx import config
from raymx.errors import MXNetError, ParameterError

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No value set, and none in the environment, for the length of a test."""
    monkeypatch.setattr(config, "_values", {})
    for name in config.SWITCHES:
        monkeypatch.delenv(f"RAYMX_{name.upper()}", raising=False)
    for switch in config.SWITCHES.values():
        monkeypatch.delenv(switch.mxnet[0] or "RAYMX_", raising=False)


def test_defaults():
    assert config.get("engine") == "async"
    assert config.snapshot() == {name: switch.default for name, switch in config.SWITCHES.items()}


def test_the_environment_beats_the_default_and_set_beats_both(monkeypatch):
    monkeypatch.setenv("RAYMX_DEBUG", "2")
    assert config.get("debug") == 2
    config.set(debug=1)
    assert config.get("debug") == 1


def test_mxnets_variable_counts_where_ours_is_not_set(monkeypatch):
    monkeypatch.setenv("MXNET_BACKWARD_DO_MIRROR", "1")
    assert config.get("recompute") == "mirror"
    config._values.clear()
    monkeypatch.setenv("MXNET_BACKWARD_DO_MIRROR", "0")
    assert config.get("recompute") == "none"
    config._values.clear()
    monkeypatch.setenv("MXNET_BACKWARD_DO_MIRROR", "1")
    monkeypatch.setenv("RAYMX_RECOMPUTE", "sqrt")
    assert config.get("recompute") == "sqrt"


def test_a_switch_with_choices_takes_nothing_else():
    with pytest.raises(ParameterError, match=r"recompute .* must be one of none, mirror, sqrt, got 'mirrors'; did you"):
        config.set(recompute="mirrors")


def test_using_restores_even_after_an_error():
    with pytest.raises(ZeroDivisionError), config.using(engine="naive", debug=1):
        assert (config.get("engine"), config.get("debug")) == ("naive", 1)
        1 / 0  # noqa: B018
    assert (config.get("engine"), config.get("debug")) == ("async", 0)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("check", "1", True),
        ("check", "False", False),
        ("check", "", False),
        ("flush_ms", "0.5", 0.5),
        ("trace", "t.json", "t.json"),
    ],
)
def test_the_environment_is_parsed(monkeypatch, name, text, value):
    monkeypatch.setenv(f"RAYMX_{name.upper()}", text)
    assert config.get(name) == value


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("debug", "loud", r"config debug \(RAYMX_DEBUG\) must be of type int, got 'loud'\."),
        ("check", "maybe", r"config check \(RAYMX_CHECK\) must be of type bool, got 'maybe'\."),
        ("timeout_s", None, r"config timeout_s \(RAYMX_TIMEOUT_S\) must be of type float, got None\."),
        ("debugg", 1, r"config: unknown switch 'debugg'; did you mean 'debug'\?"),
    ],
)
def test_bad_values_are_told_and_change_nothing(name, value, text):
    before = config.snapshot()
    with pytest.raises(ParameterError, match=text) as caught:
        config.set(engine="naive", **{name: value})
    assert isinstance(caught.value, MXNetError)
    assert config.snapshot() == before


def test_unknown_switches_cannot_be_read():
    with pytest.raises(ParameterError, match=r"config: unknown switch 'heartbeat'; did you mean 'heartbeat_s'\?"):
        config.get("heartbeat")


def test_generated_pages_are_up_to_date():
    for name, text in runpy.run_path(str(DOCS / "generate.py"))["pages"]().items():
        assert (DOCS / name).read_text() == text, f"docs/{name} is old: run python docs/generate.py"
