"""Every switch of raymx: one row each, read from the environment as RAYMX_<NAME>, settable for a while or for good.

    from raymx import config
    config.get("debug"); config.set(debug=2)
    with config.using(engine="naive"): ...
"""

# ruff: noqa: E501 (a row of the table is a line)

from __future__ import annotations

import contextlib
import os
from typing import Any, NamedTuple

from raymx.errors import ParameterError, did_you_mean


class Switch(NamedTuple):
    name: str
    default: Any
    help: str
    choices: tuple[str, ...] = ()  # the only values that it takes, if there are any here
    mxnet: tuple[str, dict[str, str]] = ("", {})  # MXNet's variable, and what its values mean: used if ours is not set


SWITCHES = {
    s.name: s
    for s in (
        Switch("engine", "async", "`async`, or `naive`: run every task at once in the caller, for ordinary tracebacks and pdb"),
        Switch("debug", 0, "1: a line per batch on stderr, 2: a line per task"),
        Switch("trace", "", "write a Chrome trace of every task to this file when the process ends; that of a launched job, with all its processes, is written by the launcher"),
        Switch("check", False, "check the engine's invariants after every transition"),
        Switch("batch_limit", 256, "tasks in one device's open batch before it is sent"),
        Switch("inflight_limit", 8, "batches under way per device before the caller waits"),
        Switch("flush_ms", 1.0, "milliseconds that recorded work may lie while its device is idle"),
        Switch("timeout_s", 600.0, "seconds a wait for one result may take before DeviceTimeoutError; 0 = no limit"),
        Switch("heartbeat_s", 2.0, "seconds between questions to a silent device during a wait; two unanswered ones mean it is lost"),
        Switch("start_timeout_s", 60.0, "seconds a device actor may take to start"),
        Switch("virtual_gpus", 0, "how many GPUs to emulate with CPU actors; 0 = use the real ones"),
        Switch("device_threads", 0, "threads of a CPU device actor; 0 = the node's cores, divided by the virtual GPUs"),
        Switch("address", "", "Ray cluster to join; empty = the running one inside a job, else RAY_ADDRESS, else start one here"),
        Switch("onednn", True, "use oneDNN's kernels where its library is found"),
        Switch("fuse", True, "compute a bound graph's values in fewer steps: pairs of operators in one, constants folded"),
        Switch("layouts", True, "keep chains of convolutions in the layout that oneDNN's kernels like best, where a device has them"),
        Switch("recompute", "none", "`mirror`: backward repeats cheap operators (`MXNET_BACKWARD_DO_MIRROR=1`); `sqrt`: all, a segment at a time, so that about the square root of the activations is kept; read when a symbol is bound", ("none", "mirror", "sqrt"), ("MXNET_BACKWARD_DO_MIRROR", {"1": "mirror"})),
        Switch("stretches", 0, "in how many pieces a large model's gradients leave during backward, where devices in other processes share a batch; 0 = 4 on real GPUs and 1 on CPU devices, whose cores would have to do both"),
        Switch("kvstore_servers", 1, "shards of a distributed store in a script that was not launched"),
        Switch("kvstore_bigarray_bound", 1_000_000, "elements from which on an array is cut over all shards of a distributed store"),
        Switch("pickled_optimizers", False, "let a distributed store take optimizers as pickles, which run whatever code they hold"),
        Switch("fault", "", "for tests: `ROLE at POINT N` ends a process of a job when it comes to a point; see raymx/faults.py"),
        Switch("pool_mb", 512, "megabytes of freed arrays a device keeps for reuse"),
    )
}

_values: dict[str, Any] = {}


def _parse(switch: Switch, value):
    kind = type(switch.default)
    try:
        if kind is bool and isinstance(value, str):
            return {"1": True, "true": True, "0": False, "false": False, "": False}[value.lower()]
        parsed = kind(value)
    except (ValueError, TypeError, KeyError):
        raise ParameterError(
            f"config {switch.name} (RAYMX_{switch.name.upper()}) must be of type {kind.__name__}, got {value!r}."
        ) from None
    if switch.choices and parsed not in switch.choices:
        raise ParameterError(
            f"config {switch.name} (RAYMX_{switch.name.upper()}) must be one of {', '.join(switch.choices)}, got "
            f"{value!r}{did_you_mean(parsed, switch.choices)}."
        )
    return parsed


def _switch(name: str) -> Switch:
    if name not in SWITCHES:
        raise ParameterError(f"config: unknown switch {name!r}{did_you_mean(name, SWITCHES)}.")
    return SWITCHES[name]


def get(name: str):
    """The value of a switch: what `set` gave it, else the environment's, else the default."""
    if name not in _values:
        switch = _switch(name)
        text = _from_environment(switch)
        _values[name] = switch.default if text is None else _parse(switch, text)
    return _values[name]


def _from_environment(switch: Switch) -> str | None:
    variable, meanings = switch.mxnet
    return os.environ.get(f"RAYMX_{switch.name.upper()}", meanings.get(os.environ.get(variable, "")))


def set(**values) -> None:
    """Set switches for this process, and for device actors that start later."""
    parsed = {name: _parse(_switch(name), value) for name, value in values.items()}
    _values.update(parsed)


@contextlib.contextmanager
def using(**values):
    """`set` for the length of a with block."""
    before = {name: get(name) for name in values}
    set(**values)
    try:
        yield
    finally:
        set(**before)


def snapshot() -> dict[str, Any]:
    """Every switch's value, as a device actor gets them."""
    return {name: get(name) for name in SWITCHES}


def table() -> str:
    """The documentation table of all switches, in Markdown."""
    rows = [f"| `{s.name}` | `RAYMX_{s.name.upper()}` | `{s.default!r}` | {s.help} |" for s in SWITCHES.values()]
    return "\n".join(["| switch | environment | default | meaning |", "|---|---|---|---|", *rows])
