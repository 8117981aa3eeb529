"""A node that holds a shard, a replica and a worker is taken away without warning: the training ends, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid

import pytest

from tests import conftest
from tests.faults import ROOT, SCRIPT_TIMEOUT_S


@pytest.mark.slow
def test_a_node_may_be_lost():
    """In a cluster of its own, whose nodes notice soon that one is gone."""
    mark = uuid.uuid4().hex
    done = subprocess.run(
        [sys.executable, "-m", "tests.kvstore.lose_node"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), conftest.MARK: mark}, timeout=2 * SCRIPT_TIMEOUT_S,
    )  # fmt: skip
    said = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert done.returncode == 0 and said["same"] and said["restarted"][0]
    for primary, replica in said["nodes"]:
        assert primary != replica and said["lost"] in (primary, replica)
    assert not conftest._processes(mark)
