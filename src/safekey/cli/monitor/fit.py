"""`safekey monitor fit MODEL --data FILE`: calibrate the heads, set the threshold, write the card"""

from __future__ import annotations

import argparse
from typing import Any

from safekey.cli.common import PLAIN, add_json, add_verb, console
from safekey.cli.monitor.showing import reading
from safekey.monitor.request import FitRequest
from safekey.options import add_options, given
from safekey.terminal import printable

_EXAMPLES = """examples:
  safekey monitor fit runs/first --data held_out.jsonl --fpr 0.05
  safekey monitor fit runs/first --data runs/eval-first --half first       its own responses; measure on the other half
  safekey monitor fit meta/8b --frozen --data rows.jsonl --output runs/alarm-8b

docs/monitor.md says what is promised, and what was seen."""


def add_verb_to(verbs: Any) -> None:
    """Add the verb."""
    text = "calibrate the heads on labelled rows, and set the threshold for a false-positive rate"
    parser = add_verb(verbs, "fit", text, run_fit, _EXAMPLES)
    parser.add_argument("model", metavar="RUN|MODEL", help="a training's run folder, or any model with --frozen")
    add_options(parser, FitRequest)
    add_json(parser)


def run_fit(args: argparse.Namespace) -> int:
    """Fit a monitor; see `safekey.monitor.fit`."""
    from safekey.monitor.card import page
    from safekey.monitor.fit import fit

    with reading() as told:
        found = fit(FitRequest(model=args.model, **given(args, FitRequest)), told)
    args.document = {"version": 1, "folder": str(found.folder), "card": found.card.to_dict()}
    out = console(args.json)
    out.print(printable(page(found.card)), **PLAIN)
    out.print(printable(f"{found.folder}: monitor.json and monitor.md"), **PLAIN)
    return 0
