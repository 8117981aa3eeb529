"""Wall time of the import in a fresh process, against a fresh process of the same interpreter that does nothing.

The last row also makes an array and reads it: an import that puts work off until first use pays for it there.
"""

from __future__ import annotations

import subprocess
import sys

from harness import HERE, Bar, Benchmark, main, seconds

BARE, IMPORT, OVER = "python -c pass", "python -c 'import ...'", "import alone (difference)"
FIRST = "import and a first array read"
USE = {
    "raymx": "import raymx as mx; mx.nd.ones((2, 3)).asnumpy()",
    "mxnet": "import mxnet as mx; mx.nd.ones((2, 3)).asnumpy()",
    "torch": "import torch; torch.ones(2, 3).numpy()",
}


def fresh(code):
    subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE.parent)


def importing(package):
    def both():
        bare, whole = seconds(fresh, "pass") * 1e3, seconds(fresh, f"import {package}") * 1e3
        return {BARE: bare, IMPORT: whole, OVER: whole - bare}

    return lambda options: {IMPORT: both, FIRST: lambda: seconds(fresh, USE[package]) * 1e3}


BENCH = Benchmark(
    name="imports",
    title="import in a fresh process",
    unit="ms",
    workers={package: importing(package) for package in USE},
    rounds=10,
    bars=[Bar(OVER, "raymx", 150)],
)

if __name__ == "__main__":
    sys.exit(main(BENCH))
