"""`python -m raymx`: what it does, and what it says when it cannot."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from raymx import arrayfile
from raymx.__main__ import main


def test_convert(tmp_path, capsys):
    source, target = str(tmp_path / "m-0001.params"), str(tmp_path / "m.safetensors")
    arrayfile.write(source, {"arg:w": np.ones((2, 2), "float32")})
    assert main(["convert", source, target]) == 0
    assert capsys.readouterr().out == f"1 arrays from {source} to {target}\n"
    assert arrayfile.read(target)["arg:w"].shape == (2, 2)


def test_what_goes_wrong_is_one_line(tmp_path, capsys):
    damaged = tmp_path / "x.params"
    damaged.write_bytes(b"hello, world, hello")
    assert main(["convert", str(damaged), str(tmp_path / "y.safetensors")]) == 1
    assert "raymx convert: " in (told := capsys.readouterr().err) and "not a .params file" in told
    assert not (tmp_path / "y.safetensors").exists()
    assert main(["convert", str(tmp_path / "none"), "y"]) == 1
    assert "No such file" in capsys.readouterr().err


def test_a_command_is_needed(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "COMMAND" in capsys.readouterr().err


def test_as_a_module():
    command = [sys.executable, "-m", "raymx", "convert", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "suffixes tell the formats" in done.stdout
