"""`safekey monitor`: the heads as an alarm. One module for each verb, with `add_verb_to` and a function to run"""

from __future__ import annotations

import importlib
from typing import Any

_VERBS = ("fit", "score", "measure")


def add_parser(subparsers: Any) -> None:
    """Add `monitor` and its verbs."""
    text = "the heads as an alarm at the end of U: fit a threshold, score, measure"
    verbs = subparsers.add_parser("monitor", help=text, description=text).add_subparsers(metavar="VERB", required=True)
    for name in _VERBS:
        importlib.import_module(f"safekey.cli.monitor.{name}").add_verb_to(verbs)
