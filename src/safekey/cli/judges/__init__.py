"""`safekey judges import | …`: completions from elsewhere, and judges measured against people; one module a verb"""

from __future__ import annotations

import importlib
from typing import Any

# Each has `add_parser(subparsers)`, which sets `run`: a function from the parsed arguments to the exit code.
_GROUPS = ("safekey.cli.judges.importing",)


def add_parser(subparsers: Any) -> None:
    """Add `judges` and its verbs."""
    text = "completions from elsewhere, and judges measured against people"
    parser = subparsers.add_parser("judges", help=text, description=f"{text[0].upper()}{text[1:]}.")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for group in _GROUPS:
        importlib.import_module(group).add_parser(verbs)
