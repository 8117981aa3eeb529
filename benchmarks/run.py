"""Run the benchmarks, all or those named: `python benchmarks/run.py [eager mlp ...] [--json FILE] [--rounds N]`."""

from __future__ import annotations

import argparse
import importlib
import sys

from harness import add_common_flags, run

NAMES = ("eager", "mlp", "lenet", "resnet", "lstm", "sync", "imports", "overlap", "memory", "planned", "recompute",
         "kvstore")  # fmt: skip


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)} (default: all)")
    add_common_flags(parser)
    args = parser.parse_args(argv)
    unknown = [name for name in args.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return run([importlib.import_module(name).BENCH for name in args.names or NAMES], args)


if __name__ == "__main__":
    sys.exit(main())
