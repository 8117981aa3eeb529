"""`python -m raymx COMMAND …`: what raymx does from the command line."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence

from raymx.errors import MXNetError

OUTPUT_S = 1.0  # within which Ray brings the last lines of the workers' output; it says nothing when it has


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status. What goes wrong is told in one line, after the frames of a worker's script."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt:
        print(f"raymx {options.command}: stopped", file=sys.stderr)
        return 128 + getattr(options, "signal", signal.SIGINT)  # as shells have it
    except Exception as error:
        notes = getattr(error, "__notes__", ())
        if not notes and not isinstance(error, (MXNetError, OSError)):
            raise
        _tell(options.command, error, notes)
        return 1
    return 0


def _tell(command: str, error: BaseException, notes: Sequence[str]) -> None:
    frames = [note for note in notes if "\n" in note]
    words = "".join(f" ({note})" for note in notes if note not in frames)
    kind = "" if isinstance(error, (MXNetError, OSError)) else f"{type(error).__name__}: "
    print(*frames, f"raymx {command}: {kind}{error}{words}", sep="\n", file=sys.stderr)


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
    launch.add_argument("--devices-per-worker", type=int, default=0, help="GPUs that are a worker's own (default: 0)")
    launch.add_argument("--cpus", type=float, default=1, help="CPUs that each worker takes (default: 1)")
    launch.add_argument("--resource", action="append", default=[], type=_resource, metavar="NAME=AMOUNT",
                        help="another resource that each worker takes, like memory=4e9")  # fmt: skip
    launch.add_argument("--max-restarts", type=int, default=3, help="lost workers that are started anew (default: 3)")
    launch.add_argument("script", help="path of the script, on every node")
    launch.add_argument("arguments", nargs=argparse.REMAINDER, help="what the script finds in sys.argv")
    launch.set_defaults(run=_launch)
    return parser


def _resource(text: str) -> tuple[str, float]:
    name, _, amount = text.partition("=")
    return name, float(amount)


def _launch(options) -> None:
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # equal lines of several workers are no mistake; read by Ray's import
    from raymx.launcher import launch

    with _stopped_by_signals(options):
        try:
            launch(
                os.path.abspath(options.script), options.num_workers, options.num_servers, replicas=options.replicas,
                devices_per_worker=options.devices_per_worker,
                resources={"CPU": options.cpus, **dict(options.resource)}, args=options.arguments,
                max_restarts=options.max_restarts,
            )  # fmt: skip
        except Exception:
            time.sleep(OUTPUT_S)
            raise
        time.sleep(OUTPUT_S)


@contextlib.contextmanager
def _stopped_by_signals(options):
    """Inside, Ctrl-C and SIGTERM raise KeyboardInterrupt once, and `options.signal` says which it was: Ray may raise it
    anew, without what it held."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]

    def stop(number, _) -> None:
        options.signal = number
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        if not hasattr(options, "signal"):
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


def _convert(options) -> None:
    from raymx import arrayfile

    count = arrayfile.convert(options.source, options.target)
    print(f"{count} arrays from {options.source} to {options.target}")


if __name__ == "__main__":
    sys.exit(main())
