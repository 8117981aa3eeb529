"""Runs one benchmark: a worker process per system, measured in turn (A B C A B C ...), medians in one table.

A script declares a `Benchmark` and ends with `sys.exit(main(BENCH))`. The same file is its own worker: the harness
starts `script.py --worker SYSTEM` with that system's interpreter and asks it for one task at a time, so systems never
compute at the same moment and slow drifts of the machine reach all of them alike.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import peers

HERE = Path(__file__).resolve().parent
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MXNET_CPU_WORKER_NTHREADS")

Task = Callable[[], "float | dict[str, float]"]
"""Runs once and returns its figure, or several figures by measure."""
Worker = Callable[[argparse.Namespace], Mapping[str, Task]]
"""Builds one system's arrays and returns its tasks by measure."""


class Bar(NamedTuple):
    """What (`measure`, `system`) is compared with: the best of `against`, or the bare `limit` where that is empty.

    `limit` is in multiples of the other figure (in the benchmark's unit where `against` is empty); None states no bar
    and only shows the ratio.
    """

    measure: str
    system: str
    limit: float | None
    against: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Benchmark:
    """One script: `name` is its file's, `workers` go by system; a system named `raymx...` runs in this interpreter."""

    name: str
    title: str
    unit: str
    workers: Mapping[str, Worker]
    bars: Sequence[Bar] = ()
    options: Mapping[str, int] = field(default_factory=dict)
    more_is_better: bool = False
    rounds: int = 7
    warmup: int = 1


class WorkerFailed(Exception):
    """A worker process ended, or did not answer in time; the text tells its last words."""


def seconds(work: Callable[..., object], *args) -> float:
    """How long `work(*args)` takes."""
    start = time.perf_counter()
    work(*args)
    return time.perf_counter() - start


def rss_mb(pid: int) -> float:
    """Resident memory of a process in MB (10^6 bytes)."""
    try:
        import psutil
    except ImportError:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return psutil.Process(pid).memory_info().rss / 1e6


# The worker's side


def serve(bench: Benchmark, system: str, options: argparse.Namespace) -> None:
    """Answer task names on stdin with JSON lines; what the system itself prints goes to stderr."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message) -> None:
        print(json.dumps(message), file=replies, flush=True)

    tasks = bench.workers[system](options)
    say(list(tasks))
    for line in sys.stdin:
        name = line.rstrip("\n")
        say(run_task(name, tasks[name]) if name else about(system))


def run_task(name: str, task: Task) -> dict[str, float]:
    """The task's figures by measure; a bare number is the figure of the measure of the task's own name."""
    figures = task()
    return figures if isinstance(figures, dict) else {name: figures}


def about(system: str) -> dict[str, str | int]:
    """Versions and the threads that this worker's process has by now."""
    package = system.split("-")[0]
    versions = {"python": platform.python_version()}
    for name in (package, "numpy"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "source tree" if name == "raymx" else "none"
    return {**versions, "os_threads": _os_threads()}


def _os_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except FileNotFoundError:
        return threading.active_count()


# The harness's side


class Process:
    """One worker process. `ask` raises WorkerFailed when it ended or stayed silent for `timeout_s`."""

    def __init__(self, bench: Benchmark, system: str, python: str, options: Mapping[str, int], timeout_s: float = 600):
        self.timeout_s = timeout_s
        self._stderr = tempfile.TemporaryFile("w+")
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        self._process = subprocess.Popen(
            [python, str(HERE / f"{bench.name}.py"), f"--worker={system}", *flags],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, text=True, env=_environment(system),
        )  # fmt: skip
        try:
            self.tasks: list[str] = self._answer()
        except WorkerFailed:
            self.close()
            raise

    def ask(self, task: str = ""):
        """Figures of one run of `task` by measure; without a name, `about`."""
        try:
            print(task, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            pass  # it is gone: reading its answer says so
        return self._answer()

    def close(self) -> None:
        """Let the worker end by itself, kill it if it does not, and free what belongs to it."""
        try:
            self._process.communicate(timeout=60)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.wait()
        self._stderr.close()

    def _answer(self):
        silence = threading.Timer(self.timeout_s, self._process.kill)
        silence.start()
        line = self._process.stdout.readline()
        silence.cancel()
        if not line:
            raise WorkerFailed(self._last_words())
        return json.loads(line)

    def _last_words(self) -> str:
        code = self._process.wait()
        self._stderr.seek(0)
        lines = [line.strip() for line in self._stderr if line.strip()]
        return f"exit code {code}: {lines[-1] if lines else 'no message'}"


def _environment(system: str) -> dict[str, str]:
    """Ours; raymx is found next to this folder even where it is not installed."""
    if not system.startswith("raymx"):
        return dict(os.environ)
    path = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def interpreter(system: str) -> str:
    """The Python that runs a system; raises peers.NotRun where a peer's cannot be had."""
    return str(peers.interpreter(system)) if system in peers.PEERS else sys.executable


def measure(bench: Benchmark, systems: Iterable[str], rounds: int, options: Mapping[str, int]) -> dict:
    """Run the benchmark and return its report, ready for JSON (keys: see README)."""
    report: dict = {key: getattr(bench, key) for key in ("name", "title", "unit", "more_is_better")}
    report |= {"rounds": rounds, "options": dict(options), "systems": {}}
    processes = _start(bench, systems, options, report["systems"])
    samples: dict[tuple[str, str], list[float]] = {}
    try:
        for number in range(-bench.warmup, rounds):
            for (name, system), value in _one_round(processes, report["systems"]):
                if number >= 0:
                    samples.setdefault((name, system), []).append(value)
        for system, process in processes.items():
            report["systems"][system].update(process.ask())
    finally:
        for process in processes.values():
            process.close()
    medians = {row: statistics.median(values) for row, values in samples.items()}
    report["figures"] = [_figure(row, samples[row]) for row in _by_measure(samples)]
    report["bars"] = [judge(bar, medians, bench.more_is_better) for bar in bench.bars if bar[:2] in medians]
    return report


def _start(bench: Benchmark, systems: Iterable[str], options: Mapping[str, int], notes: dict) -> dict[str, Process]:
    """Processes by system; one that cannot be started is noted and left out."""
    processes = {}
    for system in systems:
        notes[system] = {}
        try:
            processes[system] = Process(bench, system, interpreter(system), options)
        except peers.NotRun as reason:
            notes[system] = {"not_run": str(reason)}
        except WorkerFailed as reason:
            notes[system] = {"failed": str(reason)}
    return processes


def _one_round(processes: dict[str, Process], notes: dict) -> Iterable[tuple[tuple[str, str], float]]:
    """Every task once on every system that has it, systems taking turns; a system that fails is noted and dropped."""
    tasks = dict.fromkeys(task for process in processes.values() for task in process.tasks)
    for task in tasks:
        for system, process in list(processes.items()):
            if task not in process.tasks:
                continue
            try:
                figures = process.ask(task)
            except WorkerFailed as reason:
                notes[system] = {"failed": f"{task}: {reason}"}
                processes.pop(system).close()
                continue
            for name, value in figures.items():
                yield (name, system), value


def _by_measure(samples: Mapping[tuple[str, str], object]) -> list[tuple[str, str]]:
    names = list(dict.fromkeys(name for name, _ in samples))
    return sorted(samples, key=lambda row: names.index(row[0]))


def _figure(row: tuple[str, str], values: Sequence[float]) -> dict:
    return {"measure": row[0], "system": row[1], "median": statistics.median(values), "samples": list(values)}


def judge(bar: Bar, medians: Mapping[tuple[str, str], float], more_is_better: bool) -> dict:
    """The bar's outcome: `value` (a ratio, or the figure itself) and `met`; both None where nothing can be said."""
    present = [row for row in bar.against if row in medians]
    best = (max if more_is_better else min)(present, key=medians.__getitem__, default=None)
    value: float | None = medians[bar.measure, bar.system]
    if bar.against:
        value = value / medians[best] if best else None
    met = None
    if value is not None and bar.limit is not None:
        met = value >= bar.limit if more_is_better else value <= bar.limit
    return {**bar._asdict(), "against": best, "value": value, "met": met}


# Telling it


def machine() -> dict[str, str | int]:
    """The machine and what sets thread counts on it."""
    given = [f"{name}={os.environ[name]}" for name in THREAD_VARIABLES if name in os.environ]
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "system": platform.platform(),
        "load": f"{os.getloadavg()[0]:.1f}",
        "threads": " ".join(given) or "each system's default",
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        lines = []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())


def text(report: Mapping, machine: Mapping) -> str:
    """The report as Markdown: machine, systems, one table."""
    bars = {(bar["measure"], bar["system"]): bar for bar in report["bars"]}
    rows = [("measure", "system", f"median, {report['unit']}", "lowest - highest", "ratio", "bar", "")]
    for figure in report["figures"]:
        cells = _bar_cells(report, bars.get((figure["measure"], figure["system"])))
        low, high = min(figure["samples"]), max(figure["samples"])
        rows.append((figure["measure"], figure["system"], number(figure["median"]),
                     f"{number(low)} - {number(high)}", *cells))  # fmt: skip
    options = ", ".join(f"{name}={value}" for name, value in report["options"].items())
    return "\n".join([
        f"## {report['name']}: {report['title']}",
        "",
        f"{machine['cores']} cores, {machine['cpu']}, {machine['system']}, load {machine['load']};"
        f" threads: {machine['threads']}; rounds: {report['rounds']}; options: {options or 'none'}",
        "",
        *(f"- {_system_line(name, note)}" for name, note in report["systems"].items()),
        "",
        _markdown(rows),
    ])  # fmt: skip


def _system_line(name: str, note: Mapping) -> str:
    if "not_run" in note:
        return f"{name}: **not run**: {note['not_run']}"
    if "failed" in note:
        return f"{name}: **FAILED**: {note['failed']}"
    versions = ", ".join(f"{key} {value}" for key, value in note.items() if key != "os_threads")
    return f"{name}: {versions}, threads {note['os_threads']}"


def _bar_cells(report: Mapping, bar: Mapping | None) -> tuple[str, str, str]:
    """Columns ratio, bar and verdict of one row."""
    if bar is None:
        return "", "", ""
    limit = "" if bar["limit"] is None else f"{'>=' if report['more_is_better'] else '<='} {number(bar['limit'])}"
    if bar["value"] is None:
        return "nothing to compare with", limit and f"{limit} x", ""
    verdict = {True: "met", False: "MISSED", None: ""}[bar["met"]]
    if bar["against"] is None:
        return "", f"{limit} {report['unit']}", verdict
    measure, system = bar["against"]
    return f"{bar['value']:.2f} x {system if measure == bar['measure'] else measure}", limit and f"{limit} x", verdict


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


# The command line


def parser(bench: Benchmark) -> argparse.ArgumentParser:
    """The script's command line: the common flags and one flag per option."""
    result = argparse.ArgumentParser(prog=f"benchmarks/{bench.name}.py", description=bench.title)
    add_common_flags(result)
    result.add_argument("--worker", choices=list(bench.workers), help=argparse.SUPPRESS)
    for name, default in bench.options.items():
        result.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help="default %(default)s")
    return result


def add_common_flags(to: argparse.ArgumentParser) -> None:
    to.add_argument("--systems", help="only these, commas between (default: all)")
    to.add_argument("--rounds", type=int, help="measured rounds (default: the benchmark's own)")
    to.add_argument("--json", metavar="FILE", help="also write the report to this file")


def chosen(bench: Benchmark, systems: str | None) -> list[str]:
    """The benchmark's systems, in its order, that the user's list names; None chooses all."""
    wanted = bench.workers if systems is None else systems.split(",")
    return [system for system in bench.workers if system in wanted]


def run(benches: Iterable[Benchmark], args: argparse.Namespace) -> int:
    """Measure, print and save; 1 if a system failed (a missed bar is only shown), else 0."""
    here, reports = machine(), []
    for bench in benches:
        options = {name: getattr(args, name, default) for name, default in bench.options.items()}
        report = measure(bench, chosen(bench, args.systems), args.rounds or bench.rounds, options)
        print(text(report, here), end="\n\n", flush=True)
        reports.append(report)
    if args.json:
        Path(args.json).write_text(json.dumps({"machine": here, "benchmarks": reports}, indent=1) + "\n")
    return int(any("failed" in note for report in reports for note in report["systems"].values()))


def main(bench: Benchmark, argv: Sequence[str] | None = None) -> int:
    """What every script ends with."""
    args = parser(bench).parse_args(argv)
    if args.worker:
        serve(bench, args.worker, args)
        return 0
    return run([bench], args)
