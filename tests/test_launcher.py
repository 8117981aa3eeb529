"""Workers from one call or from the command line."""

from __future__ import annotations

import pytest

import raymx as mx
from raymx.errors import ParameterError
from tests.faults import run_python

COMMAND = ("-m", "raymx", "launch", "-n", "2", "-s", "1", "--cpus", "0")
SCRIPT = """
import sys
import raymx as mx

kv = mx.kv.create("dist_sync")
kv.init(0, mx.nd.zeros((2,)))
kv.push(0, mx.nd.ones((2,)) * (kv.rank + 1))
out = mx.nd.zeros((2,))
kv.pull(0, out)
print("rank", kv.rank, "of", kv.num_workers, "got", out.asnumpy()[0], "with", sys.argv[1:])
"""


@pytest.mark.parametrize(
    "options, words",
    [
        ({"num_workers": 0}, r"launch: num_workers must be an integer of at least 1, got 0\."),
        ({"num_workers": 1, "num_servers": "2"}, r"launch: num_servers must be an integer of at least 1, got '2'\."),
        ({"num_workers": 1, "replicas": 2}, r"launch: replicas must be 0 or 1, got 2\."),
    ],
)
def test_what_it_refuses(options, words):
    with pytest.raises(ParameterError, match=words):
        mx.launch(print, **options)


@pytest.mark.ray
def test_results_come_by_rank():
    def work(a, b):
        import raymx as mx

        return mx.kv.create("dist_sync").rank * a + b

    assert mx.launch(work, 3, num_servers=1, args=(10, 1), resources={"CPU": 0}) == [1, 11, 21]


@pytest.mark.ray
def test_an_unchanged_script_from_the_command_line(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = run_python(*COMMAND, str(script), "--lr", "0.1", RAYMX_ADDRESS="local")
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        line = next(x for x in (done.stdout + done.stderr).splitlines() if f"rank {rank} of 2" in x)
        assert "got 3.0 with ['--lr', '0.1']" in line and f"worker {rank}" in line


@pytest.mark.ray
def test_a_script_that_fails_says_where(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import raymx as mx\nif mx.kv.create('dist_sync').rank == 1:\n    raise ValueError('no luck')\n")
    done = run_python(*COMMAND, str(script), RAYMX_ADDRESS="local")
    assert done.returncode == 1 and "no luck" in done.stderr and "raised by worker 1" in done.stderr
