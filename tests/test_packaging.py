"""What is installed: raymx with raymx.ops and raymx.actors inside, and nothing else at the top level."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WANTED = {
    f"raymx/{name}" for name in ("__init__.py", "py.typed", "ops/op.py", "ops/kernels/__init__.py", "actors/device.py")
}
NOT_SOURCE = (".git", ".venv*", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")

pytestmark = pytest.mark.slow


def build(source: Path, kind: str, into: Path) -> Path:
    """The sdist or wheel of the tree at `source`."""
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(into)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, stdout=subprocess.DEVNULL)
    return max(into.iterdir(), key=lambda path: path.stat().st_mtime_ns)


def check_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert names >= WANTED
    assert {name.split("/")[0] for name in names} == {"raymx", wheel.name.split("-py3")[0] + ".dist-info"}
    sources = {p.relative_to(ROOT).as_posix() for p in ROOT.glob("ops/**/*.py")}
    assert {f"raymx/{name}" for name in sources} <= names


def test_sdist_and_wheel(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    dist = tmp_path / "dist"
    dist.mkdir()
    sdist = build(tree, "sdist", dist)
    check_wheel(build(tree, "wheel", dist))

    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert names >= {*WANTED, "LICENSE", "README.md"}
    assert not [name for name in names if name.startswith(("ops/", "actors/"))]

    again = tmp_path / "again"
    again.mkdir()
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    wheel = build(unpacked, "wheel", again)
    check_wheel(wheel)

    code = "import sys; sys.path.insert(0, sys.argv[1]); import raymx, raymx.ops.op; print(raymx.ops.op.__file__)"
    printed = subprocess.check_output([sys.executable, "-P", "-c", code, wheel], cwd=tmp_path, text=True)
    assert printed.strip() == f"{wheel}/raymx/ops/op.py"
