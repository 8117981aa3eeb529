"""Environments of the systems that raymx is compared with, made on first use and kept outside the source tree.

They live in $RAYMX_BENCH_ENVS, by default ~/.cache/raymx-bench, one virtual environment per peer. To make all of them
beforehand: `python benchmarks/peers.py`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Peer(NamedTuple):
    package: str
    version: str
    requirements: tuple[str, ...]
    python: str | None = None
    """The version of Python it needs; None: the one that runs us."""


PEERS = {
    "mxnet": Peer("mxnet", "1.9.1", ("mxnet==1.9.1", "numpy<1.24"), python="3.11"),
    "torch": Peer("torch", "2.13.0", ("torch==2.13.0", "numpy")),
}


class NotRun(Exception):
    """A peer's environment cannot be made here; the text says why."""


def folder() -> Path:
    """Where the environments lie."""
    return Path(os.environ.get("RAYMX_BENCH_ENVS") or "~/.cache/raymx-bench").expanduser()


def interpreter(name: str) -> Path:
    """The Python of a peer's environment, which is made if it is not there; raises NotRun."""
    home = folder() / name
    python = home / "bin" / "python"
    if not _ready(python, PEERS[name]):
        _make(home, python, PEERS[name])
    return python


def _ready(python: Path, peer: Peer) -> bool:
    if not python.exists():
        return False
    question = f"import importlib.metadata as m; print(m.version({peer.package!r}))"
    answer = subprocess.run([python, "-c", question], capture_output=True, text=True)
    return answer.stdout.strip().split("+")[0] == peer.version


def _make(home: Path, python: Path, peer: Peer) -> None:
    base = _base_python(peer.python)
    print(f"making {home} for {' '.join(peer.requirements)} ...", file=sys.stderr, flush=True)
    _run(base, "-m", "venv", str(home))
    _run(str(python), "-m", "pip", "install", "--quiet", *peer.requirements)


def _base_python(version: str | None) -> str:
    """A Python of this version that can make environments."""
    if version is None or sys.version.startswith(f"{version}."):
        return sys.executable
    places = os.environ.get("PATH", "").split(os.pathsep)
    for found in filter(None, (shutil.which(f"python{version}", path=place) for place in places)):
        if subprocess.run([found, "-c", "import ensurepip, venv"], capture_output=True).returncode == 0:
            return found
    raise NotRun(f"it needs Python {version} with venv, and no working python{version} is on PATH")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise NotRun(f"`{' '.join(command)}` failed: {words[-1]}")


if __name__ == "__main__":
    for peer_name in PEERS:
        print(peer_name, interpreter(peer_name))
