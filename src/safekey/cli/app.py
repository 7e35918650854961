"""The `safekey` command: verbs to functions. Each group of verbs is a module with `add_parser` and functions to run.

Only argparse and the groups' own options are imported here, so that `safekey --help` answers at once; a verb imports
what it needs when it runs.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

import safekey
from safekey.errors import UserError
from safekey.terminal import printable

# Each has `add_parser(subparsers)`, which sets `run`: a function from the parsed arguments to the exit code.
_GROUPS = (
    "safekey.cli.demo",
    "safekey.cli.data",
    "safekey.cli.train",
    "safekey.cli.eval",
    "safekey.cli.compare",
    "safekey.cli.grid",
    "safekey.cli.analyze",
    "safekey.cli.report",
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(prog="safekey", description=(safekey.__doc__ or "").splitlines()[0])
    parser.add_argument("--version", action="version", version=f"safekey {safekey.__version__}")
    subparsers = parser.add_subparsers(metavar="VERB", required=True)
    for group in _GROUPS:
        importlib.import_module(group).add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0, 2 for an error that the user can mend (one line on stderr), 130 when interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 must not end the command
    args = build_parser().parse_args(argv)
    try:
        code = args.run(args)
        sys.stdout.flush()
        return int(code)
    except UserError as error:
        print(f"safekey: error: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("safekey: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `safekey … | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
