"""`safekey eval`, `safekey judge` and `safekey benchmarks`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from safekey.errors import UserError
from safekey.evals.request import EvalRequest, TableOptions
from safekey.options import add_options, given
from safekey.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

_EVAL = """examples:
  safekey eval runs/r1-7b --suite all --data-dir benchmarks --judge-url http://127.0.0.1:8000/v1 --judge-model guard-8b
  safekey eval runs/r1-7b --tasks xstest,strongreject --data-dir benchmarks --limit 20 \\
      --judge harm_1to5=openai/gpt-4.1 --judge refusal_keywords
  safekey eval r1-7b --engine server --server-url http://127.0.0.1:8000/v1 --suite reasoning --data-dir benchmarks

The same command again goes on where it stopped. docs/evaluation.md explains the options and the table."""
_JUDGE = """examples:
  safekey judge runs/eval-r1-7b-safety                                    ask again where a judge failed
  safekey judge runs/eval-r1-7b-safety --judge harm_rubric=openai/gpt-4.1  one more judge, and how far they agree

Nothing is generated, and a verdict that is there is not asked for again."""


def add_parser(subparsers: Any) -> None:
    """Add `eval`, `judge` and `benchmarks`."""
    _add_eval(subparsers)
    judge = _verb(subparsers, "judge", "judge the saved generations of an evaluation", _JUDGE, run_judge)
    judge.add_argument("run_folder", metavar="RUN", help="the run folder of an evaluation")
    add_options(judge, EvalRequest, groups=["judges (docs/judges.md)"])
    add_options(judge, TableOptions)
    table = _verb(subparsers, "benchmarks", "list the benchmarks: source, size, licence, needs", None, run_benchmarks)
    table.add_argument("--json", action="store_true", help="print everything as JSON")


def _verb(subparsers: Any, name: str, text: str, epilog: str | None, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run)
    return parser


def _add_eval(subparsers: Any) -> None:
    parser = _verb(subparsers, "eval", "evaluate a model on safety, over-refusal and reasoning", _EVAL, run_eval)
    parser.add_argument("model", metavar="MODEL", help="a run's or model's folder, a hub id, or an endpoint's URL#NAME")
    evaluation_options(parser)
    parser.add_argument("--no-judge", action="store_true", help="generate only; `safekey judge` judges later")
    parser.add_argument("--output", metavar="RUN", help="the run folder (default: runs/eval-MODEL-SUITE)")
    parser.add_argument("--dry-run", action="store_true", help="check everything, say what it takes, and stop")
    add_options(parser, TableOptions)


def evaluation_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of EvalRequest; `evaluation_request` reads them."""
    add_options(parser, EvalRequest)


def evaluation_request(args: argparse.Namespace, model: str, **more: Any) -> EvalRequest:
    """Return the evaluation that the command line asks for.

    Raises:
        UserError: an option's value has another form than expected.
    """
    return EvalRequest(model=model, **given(args, EvalRequest), **more)


def run_eval(args: argparse.Namespace) -> int:
    """Evaluate; see `safekey.evals.evaluate`."""
    if args.no_judge and (args.judge or args.judge_url or args.judge_model):
        raise UserError("--no-judge and --judge exclude one another")
    request = evaluation_request(args, args.model, judge=not args.no_judge, output=args.output)
    tables = TableOptions(**given(args, TableOptions))
    console = _prepare()
    if args.dry_run:
        return _dry_run(console, request)
    from safekey.evals.evaluate import StoppedError, evaluate

    try:
        found = evaluate(request, console=console, tables=tables)
    except StoppedError as error:
        print(f"safekey: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsafekey: interrupted. The same command goes on; what is finished is not done again.", file=sys.stderr)
        return 130
    _print_numbers(console, found.run.path, found.summary, found.left_out)
    return 0


def _dry_run(console: Console, request: EvalRequest) -> int:
    from safekey.evals.plan import make_plan
    from safekey.evals.summary.forecast import forecast, print_forecast
    from safekey.evals.summary.tables import left_out_lines

    plan = make_plan(request)
    print_forecast(console, forecast(plan))
    for line in (*left_out_lines(plan.left_out), "Dry run: nothing was generated and nothing was written."):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def run_judge(args: argparse.Namespace) -> int:
    """Judge or re-judge; see `safekey.evals.rejudge`."""
    request = evaluation_request(args, "")
    tables = TableOptions(**given(args, TableOptions))
    console = _prepare()
    from safekey.evals.plan import judges_of
    from safekey.evals.rejudge import rejudge

    parts = request.parts if args.parts else None
    run, summary = rejudge(
        args.run_folder, judges_of(request), request.judge_settings, parts=parts, console=console, tables=tables
    )
    _print_numbers(console, run.path, summary)
    return 0


def run_benchmarks(args: argparse.Namespace) -> int:
    """Print the table of benchmarks."""
    from safekey.evals.benchmarks.catalog import benchmark_rows

    rows = benchmark_rows()
    if args.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("name", "suite", "size", "licence", "hub data set", "needs", "verified"):
        table.add_column(name, overflow="fold", no_wrap=name in ("name", "suite"))
    for row in rows:
        pinned = f" @ {row['revision'][:8]}" if " " not in row["revision"] and row["revision"] else ""
        needs = row["needs"].replace("an engine that prefills token for token", "exact prefills")
        needs = needs.replace("; a licence agreement at the hub", "; gated at the hub")
        source = f"{row['hub']}{pinned}" if row["hub"] else "–"
        table.add_row(
            row["name"], row["suite"], str(row["size"] or "–"), row["licence"], source, needs, row["verified"]
        )
    console = Console()
    console.print(table)
    print(
        "Each is read from a file in --data-dir, or from the hub with --revision NAME=COMMIT. --json says more: which\n"
        "file names are recognised and which rows are taken. 'unverified': not yet held against a published number."
    )
    return 0


def _prepare() -> Console:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a warning at every fork otherwise
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from rich.console import Console

    return Console()


def _print_numbers(console: Console, path: Any, summary: Any, left_out: Mapping[str, str] | None = None) -> None:
    from safekey.evals.summary.tables import left_out_lines, print_summary

    print_summary(console, summary)
    plain: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
    for line in left_out_lines(left_out or {}):
        console.print(line, style="bold yellow", **plain)
    console.print(f"\n{path}: metrics.json, completions.jsonl, verdicts.jsonl", **plain)
    console.print(f"look at single samples: inspect view --log-dir {path}/logs", **plain)
