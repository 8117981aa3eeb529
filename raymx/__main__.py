"""`python -m raymx COMMAND …`: what raymx does from the command line."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

from raymx.errors import MXNetError

OUTPUT_S = 1.0  # within which Ray brings the last lines of the workers' output; it says nothing when it has


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status. What goes wrong is told in one line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (MXNetError, OSError) as error:
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        print(f"raymx {options.command}: {error}{notes}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m raymx", description="MXNet's programming model on Ray.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    convert = commands.add_parser(
        "convert",
        help="rewrite a file of arrays in another format",
        description="Rewrite a file of arrays; the suffixes tell the formats: .safetensors, anything else is .params.",
    )
    convert.add_argument("source", help="path or URL of the file to read")
    convert.add_argument("target", help="path or URL of the file to write")
    convert.set_defaults(run=_convert)
    launch = commands.add_parser(
        "launch",
        help="run a script in many workers with a distributed store",
        description="Run a Python script, unchanged, in several processes of the Ray cluster, each with a rank of its "
        "own; mx.kv.create('dist_sync') in it joins them. Joins RAY_ADDRESS or starts Ray on this machine.",
    )
    launch.add_argument("-n", "--num-workers", type=int, required=True, help="processes that run the script")
    launch.add_argument("-s", "--num-servers", type=int, help="shards of the store (default: as many as workers)")
    launch.add_argument("--replicas", type=int, choices=(0, 1), help="copies of each shard (default: 1 with 2 shards)")
    launch.add_argument("--cpus", type=float, default=1, help="CPUs that each worker takes (default: 1)")
    launch.add_argument("--gpus", type=float, default=0, help="GPUs that each worker takes (default: 0)")
    launch.add_argument("--max-restarts", type=int, default=3, help="lost workers that are started anew (default: 3)")
    launch.add_argument("script", help="path of the script, on every node")
    launch.add_argument("arguments", nargs=argparse.REMAINDER, help="what the script finds in sys.argv")
    launch.set_defaults(run=_launch)
    return parser


def _launch(options) -> None:
    from raymx.launcher import launch

    resources = {"CPU": options.cpus, "GPU": options.gpus}
    launch(
        os.path.abspath(options.script), options.num_workers, options.num_servers, options.replicas, resources,
        options.arguments, options.max_restarts,
    )  # fmt: skip
    time.sleep(OUTPUT_S)


def _convert(options) -> None:
    from raymx import arrayfile

    count = arrayfile.convert(options.source, options.target)
    print(f"{count} arrays from {options.source} to {options.target}")


if __name__ == "__main__":
    sys.exit(main())
