"""`safekey analyze kl A B --data FILE`: KL between two models token by token, by part of the response."""

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
  safekey analyze kl runs/sft-0 models/base --data rows.jsonl
  safekey analyze kl runs/sft-0 models/base --data runs/eval-sft-0 --output runs/kl     on A's own completions
  safekey analyze kl runs/safekey-0 runs/sft-0 --data rows.jsonl --json

KL(A‖B) in nats for a token; docs/analysis.md says how it is computed and what it can tell."""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    text = "compare two models token by token on the same responses: KL on U, K, the rest and the answer"
    parser = add_verb(verbs, "kl", text, run_kl, _EXAMPLES)
    parser.add_argument("first", metavar="A", help="a run's or model's folder, or a hub id: the fine-tuned model, say")
    parser.add_argument("second", metavar="B", help="the model that it is compared with; the same tokenizer")
    add_data(parser, "rows with responses, or an evaluation's run folder")
    add_model(parser)
    add_result(parser)


def run_kl(args: argparse.Namespace) -> int:
    """Compare two models; see `safekey.analysis.kl`."""
    check_output(args, {"data": args.data, "model A": args.first, "model B": args.second})
    rows = rows_of(args, args.data)
    from safekey.analysis.kl import kl
    from safekey.report.inside.plots import plot_kl

    first, second = open_model(args, args.first), open_model(args, args.second)
    how = {"batch_size": args.batch_size, "max_length": args.max_length}
    with kept_rows(args) as kept:
        with progress("rows") as told:
            found = kl(first, second, rows, progress=told, kept=kept, **how)
        show(args, found.to_dict(), found.sheets(), found.notes, lambda: plot_kl(found))
    return 0
