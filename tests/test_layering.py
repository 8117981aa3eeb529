"""Who may import whom. Read from the source, so an import inside a function counts like one at the top."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
LEAVES = ("raymx.errors", "raymx.config", "raymx.trace", "raymx.faults")
ACCELERATORS = ("cupy", "cupyx", "cupy_backends", "cudnn")


class Layer(NamedTuple):
    """Files, and all that they may import beside the standard library. `*` = anything but `never`."""

    files: str
    allowed: tuple[str, ...]
    never: tuple[str, ...] = ()
    except_for: tuple[str, ...] = ()  # files that a layer of their own describes


LAYERS = [
    Layer("raymx/errors.py", ()),
    Layer("raymx/config.py", LEAVES),
    Layer("raymx/trace.py", LEAVES),
    Layer("raymx/faults.py", LEAVES),
    Layer(
        "ops/**/*.py",
        ("numpy", "raymx.ops", "raymx.errors", "raymx.config"),
        except_for=("ops/backend*.py", "ops/kernels/*.py"),
    ),
    Layer("ops/backend*.py", ("numpy", "raymx.ops", *LEAVES, *ACCELERATORS, "scipy", "threadpoolctl")),
    Layer("ops/kernels/*.py", ("numpy", "raymx.ops", *LEAVES, *ACCELERATORS)),
    Layer("raymx/engine/**/*.py", ("raymx.engine", *LEAVES)),
    Layer("raymx/graph/**/*.py", ("numpy", "raymx.graph", "raymx.ops", *LEAVES)),
    Layer(
        "actors/**/*.py",
        ("numpy", "raymx.actors", "raymx.engine", "raymx.ops", *LEAVES),
        except_for=("actors/remote.py", "actors/metrics.py"),
    ),
    Layer("actors/metrics.py", ("ray",)),
    Layer("actors/remote.py", ("ray", "numpy", "raymx.actors", "raymx.engine", "raymx.ops", *LEAVES)),
    Layer(
        "raymx/runtime/**/*.py",
        ("ray", "numpy", "raymx.runtime", "raymx.actors", "raymx.engine", "raymx.ops", *LEAVES),
    ),
    Layer(
        "raymx/**/*.py",
        ("*",),
        never=("ray", "raymx.actors.remote", "ops", "actors", *ACCELERATORS),
        except_for=("raymx/engine/**/*.py", "raymx/graph/**/*.py", "raymx/runtime/**/*.py"),
    ),
    Layer("examples/**/*.py", ("*",), never=("ray", "raymx.actors", "raymx.ops", "raymx.engine", "raymx.graph")),
]


def imports(source: str, package: str) -> list[tuple[int, str]]:
    """(line, full dotted name) of everything that `source`, a module of `package`, imports."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) + 1 - node.level]
                base = ".".join([*above, *([base] if base else [])])
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def within(name: str, packages) -> bool:
    return any(name == p or name.startswith(f"{p}.") for p in packages)


def allowed(name: str, layer: Layer) -> bool:
    if within(name, layer.never):
        return False
    return "*" in layer.allowed or name.split(".")[0] in sys.stdlib_module_names or within(name, layer.allowed)


def matching(pattern: str) -> set[Path]:
    return {path for path in ROOT.glob(pattern) if "__pycache__" not in path.parts}


def files_of(layer: Layer) -> list[Path]:
    linked = matching("raymx/ops/**/*.py") | matching("raymx/actors/**/*.py")  # where glob follows links
    return sorted(matching(layer.files).difference(linked, *map(matching, layer.except_for)))


def package_of(path: Path) -> str:
    """The package that relative imports in `path` start from."""
    parts = path.relative_to(ROOT).parent.parts
    return ".".join(parts if parts[:1] == ("raymx",) else ("raymx", *parts))


def violations(layer: Layer) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}, which is not for {layer.files}"
        for path in files_of(layer)
        for line, name in imports(path.read_text(), package_of(path))
        if not allowed(name, layer)
    ]


def test_every_file_keeps_to_its_layer():
    found = [violation for layer in LAYERS for violation in violations(layer)]
    assert not found, "\n" + "\n".join(found)


def test_every_source_file_is_in_exactly_one_layer():
    linked = matching("raymx/ops/**/*.py") | matching("raymx/actors/**/*.py")
    sources = (matching("raymx/**/*.py") | matching("ops/**/*.py") | matching("actors/**/*.py")) - linked
    leaves = {ROOT / f"{leaf.replace('.', '/')}.py" for leaf in LEAVES}
    for path in sources:
        layers = [layer.files for layer in LAYERS if path in files_of(layer)]
        assert len(layers) == 1 + (path in leaves), f"{path} is in the layers {layers}"


def test_ops_and_actors_are_links_to_the_root():
    for name in ("ops", "actors"):
        link = ROOT / "raymx" / name
        assert link.is_symlink() and str(link.readlink()) == f"../{name}"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import ray.util", "ray.util"),
        ("from ray import get", "ray.get"),
        ("def f():\n    import ray", "ray"),
        ("from .. import symbol", "raymx.symbol"),
        ("from ..runtime import cluster", "raymx.runtime.cluster"),
    ],
)
def test_what_counts_as_an_import(line, name):
    found = imports(line, "raymx.engine")
    assert [n for _, n in found] == [name]
    engine = next(layer for layer in LAYERS if layer.files == "raymx/engine/**/*.py")
    assert not allowed(name, engine)
