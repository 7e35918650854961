"""`safekey analyze probe MODEL --data FILE`: a linear probe for harm at every layer and position."""

from __future__ import annotations

import argparse
from functools import partial
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
from safekey.cli.bars import bars
from safekey.cli.common import add_verb, whole

_EXAMPLES = """examples:
  safekey analyze probe runs/sft-0 --data rows.jsonl
  safekey analyze probe runs/sft-0 --data rows.jsonl --attacked attacked.jsonl --output runs/probe
  safekey analyze probe runs/sft-0 --data runs/eval-sft-0      fitted on its plain requests, tested on its attacked ones

docs/analysis.md says how the probes are fitted and what they can tell."""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    text = "fit a linear probe for harm at every layer and position, and test it on attacked requests"
    parser = add_verb(verbs, "probe", text, run_probe, _EXAMPLES)
    parser.add_argument("model", metavar="MODEL", help="a run's or model's folder, or a hub id")
    add_data(parser, "labelled rows with responses, or an evaluation's run folder")
    parser.add_argument("--attacked", metavar="FILE|RUN", help="attacked requests to test on, read as --data is")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help="of folds and shuffles (default 0)")
    add_model(parser)
    add_result(parser)


def run_probe(args: argparse.Namespace) -> int:
    """Probe a model; see `safekey.analysis.probe.probe`."""
    attacked = {"attacked rows": args.attacked} if args.attacked else {}
    check_output(args, {"data": args.data, "model": args.model, **attacked})
    rows = rows_of(args, args.data)
    hard = rows_of(args, args.attacked) if args.attacked else None
    from safekey.analysis.probe.probe import probe
    from safekey.report.inside.plots import plot_probe

    model = open_model(args, args.model)
    how = {"seed": args.seed, "batch_size": args.batch_size, "max_length": args.max_length}
    with kept_rows(args) as kept:
        with bars() as told:
            found = probe(
                model, rows, hard, kept=kept,
                progress=partial(told, "rows read"), fitted=partial(told, "layers fitted"), **how,
            )  # fmt: skip
        counts = ", ".join(f"{count} {name}" for name, count in found.counts.items())
        notes = (f"rows: {counts}; {found.folds} folds of behaviours", *found.notes)
        show(args, found.to_dict(), found.sheets(), notes, lambda: plot_probe(found))
    return 0
