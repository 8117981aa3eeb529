"""`python -m raymx COMMAND …`: what raymx does from the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from raymx.errors import MXNetError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status. What goes wrong is told in one line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (MXNetError, OSError) as error:
        print(f"raymx {options.command}: {error}", file=sys.stderr)
        return 1
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
    return parser


def _convert(options) -> None:
    from raymx import arrayfile

    count = arrayfile.convert(options.source, options.target)
    print(f"{count} arrays from {options.source} to {options.target}")


if __name__ == "__main__":
    sys.exit(main())
