"""Judging, telling and the worker protocol, on invented systems."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

from tests.benchmarks.conftest import BENCHMARKS

TOY = f"""
import sys
sys.path.insert(0, {str(BENCHMARKS)!r})
from harness import Bar, Benchmark, main

def worker(name):
    def build(options):
        calls = []
        def work():
            print("noise on stdout")
            calls.append(name)
            open("LOG", "a").write(name)
            if name == "c" and len(calls) == 2:
                raise ValueError("c gave up")
            return options.base * len(name) + len(calls)
        return {{"work": work}} if name != "b" else {{"work": lambda: {{"work": work(), "more": 1.5}}}}
    return build

BENCH = Benchmark(
    name="toy", title="a toy", unit="s", workers={{name: worker(name) for name in ("aa", "b", "c")}}, rounds=3,
    options={{"base": 10}}, bars=[Bar("work", "aa", 0.5, [("work", "b"), ("work", "c")]), Bar("more", "b", 2)],
)

if __name__ == "__main__":
    sys.exit(main(BENCH))
"""


@pytest.fixture
def harness(script):
    return script("harness")


@pytest.fixture
def toy(harness, script, tmp_path, monkeypatch):
    """A benchmark of three systems in tmp_path: b reports a second measure, c fails in its second run."""
    (tmp_path / "toy.py").write_text(TOY.replace("LOG", str(tmp_path / "log")))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(harness, "HERE", tmp_path)
    yield script("toy").BENCH
    del sys.modules["toy"]


def arguments(**given):
    return argparse.Namespace(**{"systems": None, "rounds": None, "json": None, **given})


def test_systems_take_turns_and_a_failing_one_is_dropped(harness, toy, tmp_path, capsys):
    status = harness.run([toy], arguments(json=str(tmp_path / "report.json")))
    table = capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())["benchmarks"][0]

    assert (tmp_path / "log").read_text() == "aabc" * 2 + "aab" * 2  # the warm-up round, c's end, two more rounds
    assert status == 1
    assert report["systems"]["c"] == {"failed": "work: exit code 1: ValueError: c gave up"}
    assert "- c: **FAILED**: work: exit code 1: ValueError: c gave up" in table
    samples = {(row["measure"], row["system"]): row["samples"] for row in report["figures"]}
    assert samples == {("work", "aa"): [22, 23, 24], ("work", "b"): [12, 13, 14], ("more", "b"): [1.5] * 3}
    assert [list(row) for row in samples][-1] == ["more", "b"]
    assert [(bar["against"], bar["value"], bar["met"]) for bar in report["bars"]] == [
        (["work", "b"], 23 / 13, False),
        (None, 1.5, True),
    ]


def test_options_and_systems_reach_the_workers(harness, toy, tmp_path, capsys):
    assert harness.run([toy], arguments(systems="aa", rounds=1, base=100)) == 0
    assert "nothing to compare with" in capsys.readouterr().out
    assert (tmp_path / "log").read_text() == "aa" * 2


def test_an_absent_peer_is_marked_and_fails_nothing(harness, toy, monkeypatch, capsys):
    def interpreter(system):
        if system == "b":
            raise harness.peers.NotRun("no Python for it")
        return sys.executable

    monkeypatch.setattr(harness, "interpreter", interpreter)
    assert harness.run([toy], arguments(systems="aa,b", rounds=1)) == 0
    assert "- b: **not run**: no Python for it" in capsys.readouterr().out


def test_a_silent_worker_is_ended(harness, tmp_path, monkeypatch):
    (tmp_path / "toy.py").write_text("import sys; print('stuck here', file=sys.stderr, flush=True); sys.stdin.read()")
    monkeypatch.setattr(harness, "HERE", tmp_path)
    bench = harness.Benchmark("toy", "a toy", "s", workers={})
    with pytest.raises(harness.WorkerFailed, match="exit code -9"):
        harness.Process(bench, "aa", sys.executable, {}, timeout_s=0.5)


@pytest.mark.parametrize(
    ("limit", "more_is_better", "met"), [(0.4, False, False), (0.6, False, True), (0.4, True, True), (0.6, True, False)]
)
def test_judge_compares_with_the_better_peer(harness, limit, more_is_better, met):
    medians = {("t", "us"): 1.0, ("t", "p"): 2.0, ("t", "q"): 2.0, ("t", "r"): 1.0 if more_is_better else 9.0}
    bar = harness.Bar("t", "us", limit, [("t", "r"), ("t", "p"), ("t", "absent")])
    outcome = harness.judge(bar, medians, more_is_better)
    assert (outcome["against"], outcome["value"], outcome["met"]) == (("t", "p"), 0.5, met)


def test_judge_without_a_limit_only_tells_the_ratio(harness):
    outcome = harness.judge(harness.Bar("t", "us", None, [("t", "p")]), {("t", "us"): 3.0, ("t", "p"): 2.0}, False)
    assert (outcome["value"], outcome["met"]) == (1.5, None)


def test_text_of_a_report(harness):
    report = {
        "name": "toy", "title": "a toy", "unit": "s", "more_is_better": False, "rounds": 3, "options": {"n": 5},
        "systems": {"us": {"python": "3.11", "raymx": "1.0", "os_threads": 4}},
        "figures": [{"measure": "t", "system": "us", "median": 1234.5, "samples": [1000, 1234.5, 2000]},
                    {"measure": "t", "system": "p", "median": 2469, "samples": [2469]}],
        "bars": [{"measure": "t", "system": "us", "against": ("t", "p"), "value": 0.5, "limit": 0.4, "met": False}],
    }  # fmt: skip
    machine = {"cpu": "a CPU", "cores": 2, "system": "Linux", "load": "0.1", "threads": "OMP_NUM_THREADS=1"}
    assert harness.text(report, machine).splitlines() == [
        "## toy: a toy",
        "",
        "2 cores, a CPU, Linux, load 0.1; threads: OMP_NUM_THREADS=1; rounds: 3; options: n=5",
        "",
        "- us: python 3.11, raymx 1.0, threads 4",
        "",
        "| measure | system | median, s | lowest - highest | ratio    | bar      |        |",
        "|---------|--------|-----------|------------------|----------|----------|--------|",
        "| t       | us     | 1,234     | 1,000 - 2,000    | 0.50 x p | <= 0.4 x | MISSED |",
        "| t       | p      | 2,469     | 2,469 - 2,469    |          |          |        |",
    ]


def test_rss_of_this_process(harness):
    import os

    held = bytearray(b"x" * 30_000_000)
    assert harness.rss_mb(os.getpid()) > len(held) / 1e6


def test_machine_tells_cores_and_thread_variables(harness, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    machine = harness.machine()
    assert machine["cores"] >= 1 and machine["cpu"]
    assert "OMP_NUM_THREADS=3" in machine["threads"]


def test_raymx_workers_find_the_source_tree(harness):
    assert harness._environment("raymx-actor")["PYTHONPATH"].split(":")[0] == str(Path(BENCHMARKS).parent)
    assert harness.interpreter("raymx-actor") == sys.executable
