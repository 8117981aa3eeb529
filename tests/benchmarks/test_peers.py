"""Environments of peers are used again when they fit, and a peer that cannot be had says why. Nothing is downloaded."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture
def peers(script, tmp_path, monkeypatch):
    monkeypatch.setenv("RAYMX_BENCH_ENVS", str(tmp_path))
    return script("peers")


@pytest.fixture
def commands(peers, monkeypatch):
    """What would have been run to make an environment."""
    found = []
    monkeypatch.setattr(peers, "_run", lambda *command: found.append(command))
    return found


def pretend(tmp_path, name, version):
    """An environment whose Python answers every question with this version."""
    python = tmp_path / name / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho {version}\n")
    python.chmod(0o755)
    return python


def test_an_environment_that_is_there_is_used(peers, commands, tmp_path):
    python = pretend(tmp_path, "torch", "2.13.0+cpu")
    assert peers.interpreter("torch") == python
    assert commands == []


def test_one_with_another_version_is_made_anew(peers, commands, tmp_path, capsys):
    python = pretend(tmp_path, "torch", "2.1.0")
    assert peers.interpreter("torch") == python
    assert commands == [
        (sys.executable, "-m", "venv", str(tmp_path / "torch")),
        (str(python), "-m", "pip", "install", "--quiet", "torch==2.13.0", "numpy"),
    ]
    assert "torch==2.13.0 numpy" in capsys.readouterr().err


def test_a_missing_python_is_told(peers, commands, tmp_path, monkeypatch):
    monkeypatch.setattr(peers.sys, "version", "3.13.0 (main)")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(peers.NotRun, match=r"needs Python 3\.11 with venv, and no working python3\.11 is on PATH"):
        peers.interpreter("mxnet")
    assert commands == []


def test_a_python_that_does_not_work_is_passed_over(peers, tmp_path, monkeypatch):
    monkeypatch.setattr(peers.sys, "version", "3.13.0 (main)")
    for folder, code in (("broken", 127), ("good", 0)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "python3.11").write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / folder / "python3.11").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'broken'}:{tmp_path / 'good'}")
    assert peers._base_python("3.11") == str(tmp_path / "good" / "python3.11")


def test_a_failing_command_is_told_with_its_last_line(peers):
    with pytest.raises(peers.NotRun, match="failed: no such package$"):
        peers._run(sys.executable, "-c", "import sys; sys.exit('first\\nno such package')")


def test_the_default_folder_is_outside_the_tree(peers, monkeypatch):
    monkeypatch.delenv("RAYMX_BENCH_ENVS")
    assert peers.folder().is_absolute() and peers.folder().parts[-2:] == (".cache", "raymx-bench")
