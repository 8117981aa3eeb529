"""Examples import what they share by its bare name, as they do when run as scripts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session", autouse=True)
def _importable():
    """Examples find each other; their fresh processes find the same raymx as this one, installed or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]))
        yield


@pytest.fixture
def mnist():
    """The folder with MNIST's files."""
    if "RAYMX_TEST_MNIST" not in os.environ:
        pytest.skip("RAYMX_TEST_MNIST names no folder with MNIST's files")
    return os.environ["RAYMX_TEST_MNIST"]
