"""Every script parses its command line, and raymx's workers run in it with tiny sizes. No time is asserted."""

from __future__ import annotations

import argparse
import contextlib
import math

import pytest

from raymx import config

TINY = {
    "eager": {"ops": 6},
    "mlp": {"batch": 4, "steps": 3},
    "lenet": {"batch": 2, "steps": 2},
    "resnet": {"batch": 2, "steps": 1},
    "lstm": {"layers": 1, "hidden": 4, "steps": 2, "batch": 2, "updates": 2},
    "sync": {"small_reads": 2, "large_reads": 1},
    "imports": {},
    "overlap": {"size": 8, "dots": 2},
    "memory": {"ops": 20, "warm_ops": 5},
    "planned": {"batch": 2},
    "recompute": {"layers": 4, "filters": 4, "side": 4, "batch": 2},
    "kvstore": {"large": 64, "large_rounds": 1, "model_rounds": 1, "local": 8},
}


def figures(script, name, system):
    """One run of every task of a worker: figures by measure."""
    module, harness = script(name), script("harness")
    with contextlib.ExitStack() as stack:
        stack.enter_context(config.using(device_threads=config.get("device_threads")))
        if hasattr(module, "close"):
            stack.callback(module.close)
        tasks = module.BENCH.workers[system](argparse.Namespace(**TINY[name]))
        return {measure: value for task, run in tasks.items() for measure, value in harness.run_task(task, run).items()}


def test_every_benchmark_is_tried_here(script):
    assert set(TINY) == set(script("run").NAMES)


@pytest.mark.parametrize("name", TINY)
def test_command_line(script, name):
    bench = script(name).BENCH
    flags = [f"--{option.replace('_', '-')}={value}" for option, value in TINY[name].items()]
    args = script("harness").parser(bench).parse_args([*flags, "--rounds=2", "--systems=raymx", "--json=f.json"])
    assert bench.name == name
    assert (args.rounds, args.systems, args.json, args.worker) == (2, "raymx", "f.json", None)
    assert {option: getattr(args, option) for option in bench.options} == TINY[name]


@pytest.mark.parametrize("name", [name for name in TINY if name not in ("overlap", "kvstore")])
def test_in_process(script, name):
    check(script, name, "raymx")


@pytest.mark.ray
@pytest.mark.parametrize("name", [name for name in TINY if name not in ("imports", "planned", "recompute")])
def test_through_actors(script, name):
    check(script, name, "raymx-actor")


@pytest.mark.ray
def test_with_values_of_the_workers_own_processes(script):
    check(script, "kvstore", "raymx")


def check(script, name, system):
    """The worker gives a finite figure for every measure that a bar of its system names."""
    measured = figures(script, name, system)
    bars = script(name).BENCH.bars
    assert set(measured) >= {bar.measure for bar in bars if bar.system == system}
    assert all(math.isfinite(value) for value in measured.values()), measured
    if name not in ("memory", "imports"):  # differences, which may fall below zero
        assert min(measured.values()) > 0, measured


def test_bars_name_systems_of_their_benchmark(script):
    for name in TINY:
        bench = script(name).BENCH
        rows = [row for bar in bench.bars for row in [bar[:2], *bar.against]]
        assert {system for _, system in rows} <= set(bench.workers)


def test_run_refuses_unknown_names(script, capsys):
    with pytest.raises(SystemExit):
        script("run").main(["eager", "eagre"])
    assert "no benchmark eagre; there are eager, mlp," in capsys.readouterr().err
