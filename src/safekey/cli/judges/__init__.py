"""`safekey judges import | validate | label`: answers of others, judges measured against people, labels of your own."""

from __future__ import annotations

import importlib
from typing import Any

# Each has `add_parser(verbs)`, as the groups of `safekey.cli.app` have.
_VERBS = ("safekey.cli.judges.label",)


def add_parser(subparsers: Any) -> None:
    """Add `judges` and its verbs."""
    text = "measure judges against people: label answers"
    verbs = subparsers.add_parser("judges", help=text, description=text).add_subparsers(metavar="VERB", required=True)
    for verb in _VERBS:
        importlib.import_module(verb).add_parser(verbs)
