"""Plain tests first, then those marked `ray` on one shared cluster; `gpu` and `slow` only when asked for."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

os.environ.setdefault("RAYMX_CHECK", "1")  # the engine checks its invariants in every test
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest

import raymx as mx

SHM = Path("/dev/shm")
MARK = "RAYMX_TEST_SESSION"  # in the environment of everything that the session's cluster starts
LEFTOVER_TIMEOUT_S = 20.0


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("ray") is not None)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not Path("/dev/nvidiactl").exists():
        pytest.skip("no GPU on this machine")


@pytest.fixture(autouse=True)
def _shared_cluster(request):
    if request.node.get_closest_marker("ray"):
        request.getfixturevalue("ray_cluster")


@pytest.fixture(scope="session")
def ray_cluster():
    """The session's cluster on this machine, with four virtual GPUs; nothing of it may be left at the end."""
    segments = _segments()
    os.environ[MARK] = uuid.uuid4().hex
    mx.runtime.init(
        address="local", virtual_gpus=4, num_cpus=8, include_dashboard=False, log_to_driver=False,
        object_store_memory=512 << 20,
    )  # fmt: skip
    yield
    mx.runtime.shutdown()
    deadline = time.monotonic() + LEFTOVER_TIMEOUT_S
    while (left := _processes(os.environ[MARK]) + sorted(_segments() - segments)) and time.monotonic() < deadline:
        time.sleep(0.1)
    del os.environ[MARK]
    assert not left, f"left behind {LEFTOVER_TIMEOUT_S:.0f} s after shutdown: {left}"


def _processes(session: str) -> list[str]:
    """`pid command` of every living process of this session, itself left out."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={session}".encode() not in (folder / "environ").read_bytes():
                continue
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # ended meanwhile, or somebody else's
            continue
        found.append(f"{folder.name} {command[:120]}")
    return found


def _segments() -> set[str]:
    """Names of raymx's own pieces of shared memory."""
    return {path.name for path in SHM.glob("raymx*")} if SHM.exists() else set()
