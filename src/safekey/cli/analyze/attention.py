"""`safekey analyze attention MODEL [--base B] --data FILE`: where K's tokens look, by layer and head."""

from __future__ import annotations

import argparse
from typing import Any

from safekey.cli.analyze.shared import (
    add_data,
    add_model,
    add_result,
    check_output,
    kept_rows,
    open_model,
    rows_of,
    show,
)
from safekey.cli.bars import progress
from safekey.cli.common import add_verb

_EXAMPLES = """examples:
  safekey analyze attention runs/sft-0 --data rows.jsonl
  safekey analyze attention runs/safekey-0 --base runs/sft-0 --data rows.jsonl --output runs/attention

docs/analysis.md says what the shares are and what they cannot tell."""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    text = "measure how much of the attention of K's tokens goes to X, U and K itself, by layer and head"
    parser = add_verb(verbs, "attention", text, run_attention, _EXAMPLES)
    parser.add_argument("model", metavar="MODEL", help="a run's or model's folder, or a hub id")
    parser.add_argument("--base", metavar="B", help="a model of the same architecture to compare with, row by row")
    add_data(parser, "rows with responses, or an evaluation's run folder")
    add_model(parser)
    add_result(parser)


def run_attention(args: argparse.Namespace) -> int:
    """Measure attention; see `safekey.analysis.attention`."""
    base = {"base": args.base} if args.base else {}
    check_output(args, {"data": args.data, "model": args.model, **base})
    rows = rows_of(args, args.data)
    from safekey.analysis.attention import attention
    from safekey.report.inside.plots import plot_attention

    model = open_model(args, args.model, eager=True)
    other = open_model(args, args.base, eager=True) if args.base else None
    how = {"batch_size": args.batch_size, "max_length": args.max_length}
    with kept_rows(args) as kept:
        with progress("rows") as told:
            found = attention(model, rows, other, progress=told, kept=kept, **how)
        show(args, found.to_dict(), found.sheets(), found.notes, lambda: plot_attention(found))
    return 0
