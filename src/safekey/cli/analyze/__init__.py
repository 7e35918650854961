"""`safekey analyze`: what happens inside a model and in its generations, one verb each."""

from __future__ import annotations

import importlib
from typing import Any

# Each has `add_parser(verbs)`.
_VERBS = (
    "safekey.cli.analyze.key_sentences",
    "safekey.cli.analyze.kl",
    "safekey.cli.analyze.probe",
    "safekey.cli.analyze.causal",
    "safekey.cli.analyze.attention",
)


def add_parser(subparsers: Any) -> None:
    """Add `analyze` and its verbs."""
    text = "look into generations and models: key sentences, KL, attention, probes, causes"
    verbs = subparsers.add_parser("analyze", help=text, description=text).add_subparsers(metavar="VERB", required=True)
    for verb in _VERBS:
        importlib.import_module(verb).add_parser(verbs)
