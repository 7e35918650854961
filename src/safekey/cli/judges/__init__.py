"""`safekey judges VERB`: answers from elsewhere, labels by people, judges measured against them; one module a verb."""

from __future__ import annotations

import importlib
from typing import Any

from safekey.cli.common import add_verb
from safekey.errors import UserError

# Each has `add_parser(subparsers)`, which sets `run`: a function from the parsed arguments to the exit code.
_VERBS = ("safekey.cli.judges.importing", "safekey.cli.judges.label", "safekey.cli.judges.validate")


def add_parser(subparsers: Any) -> None:
    """Add `judges` with its verbs."""
    parser = add_verb(
        subparsers, "judges", "answers from elsewhere, labels by people, judges measured against them", _no_verb
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for module in _VERBS:
        importlib.import_module(module).add_parser(verbs)


def _no_verb(_: Any) -> int:
    raise UserError("which verb? See `safekey judges --help`")
