"""The `safekey` command: verbs to functions. Each group of verbs is a module with `add_parser` and functions to run.

Only argparse and the groups' own options are imported here, so that `safekey --help` answers at once; a verb imports
what it needs when it runs.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout

import safekey
from safekey.cli.common import Parser, add_verb
from safekey.errors import UserError
from safekey.options import check_logins
from safekey.terminal import printable, without_login

# Each has `add_parser(subparsers)`, which sets `run`: a function from the parsed arguments to the exit code.
_GROUPS = (
    "safekey.cli.demo",
    "safekey.cli.data",
    "safekey.cli.make.recipe",
    "safekey.cli.train",
    "safekey.cli.eval",
    "safekey.cli.judges",
    "safekey.cli.compare",
    "safekey.cli.gate",
    "safekey.cli.grid",
    "safekey.cli.tamper.verb",
    "safekey.cli.analyze",
    "safekey.cli.monitor",
    "safekey.cli.report",
    "safekey.cli.card",
)
_EXAMPLES = """examples:
  safekey completion bash > ~/.local/share/bash-completion/completions/safekey
  safekey completion zsh > ~/.zfunc/_safekey          where $fpath holds ~/.zfunc"""


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(prog="safekey", description=(safekey.__doc__ or "").splitlines()[0])
    parser.add_argument("--version", action="version", version=f"safekey {safekey.__version__}")
    subparsers = parser.add_subparsers(metavar="VERB", required=True)
    for group in _GROUPS:
        importlib.import_module(group).add_parser(subparsers)
    text = "print a script with which a shell completes verbs, options, choices and files"
    completion = add_verb(subparsers, "completion", text, lambda args: _print_completion(parser, args.shell), _EXAMPLES)
    completion.add_argument("shell", choices=("bash", "zsh"), help="the shell")
    return parser


def _print_completion(parser: Parser, shell: str) -> int:
    import shtab

    below = [parser]
    for each in below:
        for action in each._actions:
            if isinstance(action, argparse._SubParsersAction):
                below += action.choices.values()
            elif action.choices is None and action.nargs != 0 and action.type is None:  # text: it may be a file's name
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, shell))
    return 0


def _check_words(words: Sequence[str]) -> None:
    """Refuse a URL with a password, whatever verb or option it is given to, before anything can print it."""
    for before, word in zip(["", *words], words, strict=False):
        name, equals, _ = word.partition("=")
        own = name if equals and "://" not in name else ""
        option = own or (before if before.startswith("-") else "the command line")
        check_logins(word.removeprefix(f"{own}=") if own else word, option)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    With `--json`, stdout gets one JSON document, which the verb puts into `document` of its arguments; everything else
    that is printed goes to stderr. A verb that fails may leave no document.

    Returns:
        The exit code: 0, 1 for a gate that does not hold, 2 for an error that the user can mend (one line on stderr),
        130 when interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 must not end the command
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a warning at every fork otherwise
    try:
        _check_words(sys.argv[1:] if argv is None else argv)
        args = build_parser().parse_args(argv)
        as_json = getattr(args, "json", False)
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            code = args.run(args)
        if as_json and hasattr(args, "document"):
            print(json.dumps(args.document, indent=2, default=str))
        sys.stdout.flush()
        return int(code)
    except UserError as error:
        print(f"safekey: error: {without_login(printable(str(error)))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        # Python ends by the signal, not with our exit code, if Ctrl-C came within an `exec` of text, as in the modules
        # of dataclasses that a library builds. It forgets that at the next `exec`.
        exec("")  # noqa: S102
        print("safekey: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `safekey … | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
