"""The example with many workers learns, and every worker ends with the same network."""

from __future__ import annotations

import re

import pytest

from tests import test_launcher

SCRIPT = str(test_launcher.ROOT / "examples" / "dist_mnist.py")


@pytest.mark.ray
def test_it_learns_under_the_launcher():
    done = test_launcher.run("-n", "2", "-s", "2", SCRIPT, "--num-epochs", "3")
    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r"worker (\d) of 2: test accuracy (\d\.\d+)", done.stdout))
    assert set(found) == {"0", "1"} and found["0"] == found["1"] and float(found["0"]) > 0.9
