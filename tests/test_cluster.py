"""The launcher files in cluster/ say what Ray's launcher understands."""

from __future__ import annotations

import importlib.util
import json
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
