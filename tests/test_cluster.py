"""What cluster/ says: launcher files that Ray's launcher understands, and a script that becomes a job."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("path", sorted(ROOT.glob("cluster/*.yaml")), ids=lambda path: path.name)
def test_launcher_file(path):
    config = yaml.safe_load(path.read_text())
    (ray,) = importlib.util.find_spec("ray").submodule_search_locations  # found, not loaded
    schema = json.loads((Path(ray) / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    assert config["head_node_type"] in config["available_node_types"]
    assert config["max_workers"] >= sum(t.get("max_workers", 0) for t in config["available_node_types"].values())


HEAD = """
import socket, subprocess, sys, ray
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
ray.init(address="local", include_dashboard=True, dashboard_port=port, num_cpus=4, log_to_driver=False)
address = ["--address", f"http://127.0.0.1:{port}"]
command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", *address, "--working-dir", sys.argv[1], "--"]
sys.exit(subprocess.run([*command, *sys.argv[2:]], timeout=200).returncode)
"""
JOB = """
import raymx as mx
a = mx.nd.ones((2, 3), mx.gpu(1)) * 2
print("job:", mx.num_gpus(), a.context, a.asnumpy().sum(), "_ray_pkg" in mx.__file__)
"""


@pytest.mark.slow
def test_a_script_becomes_a_job():
    """In a cluster of its own, from a working directory that Ray uploads, links included."""
    command = [sys.executable, "-c", HEAD, str(ROOT), sys.executable, "-c", JOB]
    environment = {**os.environ, "RAYMX_VIRTUAL_GPUS": "2", "RAY_AUTH_MODE": "token"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=300, check=False)
    assert "job: 2 gpu(1) 12.0 True" in done.stdout.splitlines(), done.stdout
    assert done.returncode == 0
