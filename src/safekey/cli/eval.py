"""`safekey eval`, `safekey judge`, `safekey benchmarks` and `safekey attacks`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from safekey.cli.common import PLAIN, add_json, add_labels, add_verb, console
from safekey.errors import UserError
from safekey.evals.request import JUDGES_GROUP, VERDICTS_GROUP, EvalRequest, TableOptions
from safekey.options import add_options, given
from safekey.terminal import printable

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from safekey.evals.summary.summary import Summary

_EVAL = """examples:
  safekey eval runs/r1-7b --suite all --data-dir benchmarks --judge-url http://127.0.0.1:8000/v1 --judge-model guard-8b
  safekey eval runs/r1-7b --tasks xstest,strongreject --data-dir benchmarks --limit 20 \\
      --judge harm_1to5=openai/gpt-4.1 --judge refusal_keywords
  safekey eval runs/r1-7b --engine vllm --vllm ~/vllm/bin/vllm --engine-option max_model_len=16384 \\
      --suite all --data-dir benchmarks --judge-url http://127.0.0.1:8000/v1 --judge-model guard-8b
  safekey eval runs/r1-7b --tasks strongreject --data-dir benchmarks --judge harm_1to5=openai/gpt-4.1 \\
      --attack base64,fiction,best_of_n --best-of 16
  safekey eval r1-7b --engine server --server-url http://127.0.0.1:8000/v1 --suite reasoning --data-dir benchmarks

The same command again goes on where it stopped. The exit code is 1 when generations failed; the same command asks for
them again. docs/evaluation.md explains the options and the table."""
_JUDGE = """examples:
  safekey judge runs/eval-r1-7b-safety                                    ask again where a judge failed
  safekey judge runs/eval-r1-7b-safety --judge harm_rubric=openai/gpt-4.1  one more judge, and how far they agree
  safekey judge runs/eval-r1-7b-safety --judge-record runs/harm-judge.json  rates corrected for the judge's error
  safekey judge runs/eval-r1-7b-safety --labels labels.jsonl                the same, by labels of the run's answers

Nothing is generated, and a verdict that is there is not asked for again."""


def add_parser(subparsers: Any) -> None:
    """Add `eval`, `judge`, `benchmarks` and `attacks`."""
    parser = add_verb(subparsers, "eval", "evaluate a model on safety, over-refusal and reasoning", run_eval, _EVAL)
    parser.add_argument("model", metavar="MODEL", help="a run's or model's folder, a hub id, or an endpoint's URL#NAME")
    evaluation_options(parser)
    parser.add_argument("--no-judge", action="store_true", help="generate only; `safekey judge` judges later")
    parser.add_argument("--output", metavar="RUN", help="the run folder (default: runs/eval-MODEL-SUITE)")
    parser.add_argument("--dry-run", action="store_true", help="check everything, say what it takes, and stop")
    judge = add_verb(subparsers, "judge", "judge the saved generations of an evaluation", run_judge, _JUDGE)
    judge.add_argument("run_folder", metavar="RUN", help="the run folder of an evaluation")
    add_options(judge, EvalRequest, groups=[JUDGES_GROUP, VERDICTS_GROUP])
    add_labels(judge)
    table = add_verb(subparsers, "benchmarks", "list the benchmarks: source, size, licence, needs", run_benchmarks)
    attacks = add_verb(subparsers, "attacks", "list the attacks that need no model, for --attack", run_attacks)
    for each in (parser, judge):
        add_options(each, TableOptions)
    for each in (parser, judge, table, attacks):
        add_json(each)


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
    """Evaluate; see `safekey.evals.evaluate`.

    Returns:
        0; 1 when generations failed or the evaluation stopped; 130 when interrupted.
    """
    if args.no_judge and (args.judge or args.judge_url or args.judge_model):
        raise UserError("--no-judge and --judge exclude one another")
    request = evaluation_request(args, args.model, judge=not args.no_judge, output=args.output)
    tables = TableOptions(**given(args, TableOptions))
    out = _console(args)
    if args.dry_run:
        return _dry_run(args, out, request)
    from safekey.evals.evaluate import StoppedError, evaluate

    try:
        found = evaluate(request, console=out, tables=tables)
    except StoppedError as error:
        print(f"safekey: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsafekey: interrupted. The same command goes on; what is finished is not done again.", file=sys.stderr)
        return 130
    _show(args, out, found.run.path, found.summary, found.left_out)
    return 1 if found.summary.metrics["failed"]["completions"] else 0


def _dry_run(args: argparse.Namespace, out: Console, request: EvalRequest) -> int:
    from safekey.engines import check_options
    from safekey.engines.vllm.command import find_executable
    from safekey.evals.plan import make_plan
    from safekey.evals.summary.forecast import forecast, print_forecast
    from safekey.evals.summary.tables import left_out_lines

    if request.engine != "inspect":
        kind = "server" if request.server_url else request.engine
        check_options(request.model, kind, request.engine_options)
        if kind == "vllm":
            find_executable(request.vllm)
    plan = make_plan(request)
    args.document = forecast(plan)
    print_forecast(out, args.document)
    for line in (*left_out_lines(plan.left_out), "Dry run: nothing was generated and nothing was written."):
        out.print(line, **PLAIN)
    return 0


def run_judge(args: argparse.Namespace) -> int:
    """Judge or re-judge; see `safekey.evals.rejudge`."""
    request = evaluation_request(args, "")
    tables = TableOptions(**given(args, TableOptions))
    out = _console(args)
    from safekey.evals.plan import judges_of
    from safekey.evals.rejudge import rejudge

    parts = request.parts if args.parts else None
    run, summary = rejudge(
        args.run_folder, judges_of(request), request.judge_settings, parts=parts, console=out, tables=tables,
        records=request.judge_records, labels=args.labels,
    )  # fmt: skip
    _show(args, out, run.path, summary)
    return 0


def run_benchmarks(args: argparse.Namespace) -> int:
    """Print the table of benchmarks."""
    from safekey.evals.benchmarks.catalog import benchmark_rows

    args.document = rows = benchmark_rows()
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("name", "suite", "size", "licence", "hub data set", "needs"):
        table.add_column(name, overflow="fold", no_wrap=name in ("name", "suite"))
    for row in rows:
        pinned = f" @ {row['revision'][:8]}" if " " not in row["revision"] and row["revision"] else ""
        needs = row["needs"].replace("an engine that prefills token for token", "exact prefills")
        needs = needs.replace("; a licence agreement at the hub", "; gated at the hub")
        source = f"{row['hub']}{pinned}" if row["hub"] else "–"
        table.add_row(row["name"], row["suite"], str(row["size"] or "–"), row["licence"], source, needs)
    out = console(args.json)
    out.print(table)
    for line in _seen_of([row["name"] for row in rows]):
        out.print(line, **PLAIN)
    out.print(
        "Each is read from a file in --data-dir, or from the hub with --revision NAME=COMMIT. --json says more: which\n"
        "file names are recognised and which rows are taken.\n"
        "A file of your own needs no row here: safekey eval … --benchmark NAME=KIND:PATH. More in docs/benchmarks.md.",
        **PLAIN,
    )
    return 0


def _seen_of(names: Sequence[str]) -> list[str]:
    """Return lines on how far the scoring of each benchmark was checked; nothing for those where nothing was seen."""
    from safekey.evals.benchmarks.evidence import agreement_words, reproduced_words

    lines = [
        "How often an outside scorer gives the same verdict on the same replies (those of ours are meant to be hard:",
        "docs/benchmarks.md), and published figures that lie in our interval:",
    ]
    for name in names:
        seen = [text for text in (agreement_words(name), reproduced_words(name)) if text != "–"]
        found = [line for text in seen for line in text.splitlines()]
        lines += [f"  {name if place == 0 else '':<14}{line}" for place, line in enumerate(found)]
    return [*lines, "  all others: not seen", ""]


def run_attacks(args: argparse.Namespace) -> int:
    """Print the table of attacks."""
    from rich import box
    from rich.table import Table

    from safekey.evals.attacks.table import attack_rows

    args.document = rows = attack_rows()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("name", "kind", "about"):
        table.add_column(name, overflow="fold", no_wrap=name != "about")
    for row in rows:
        table.add_row(row["name"], row["kind"], row["about"])
    out = console(args.json)
    out.print(table)
    out.print(
        "safekey eval MODEL --attack base64,fiction …: each on every harmful request, beside the plain one.\n"
        "--attack-templates FILE adds your own. docs/attacks.md shows an example of each, and what the judge sees.",
        **PLAIN,
    )
    return 0


def _console(args: argparse.Namespace) -> Console:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return console(args.json)


def _show(
    args: argparse.Namespace, out: Console, path: Path, summary: Summary, left_out: Mapping[str, str] | None = None
) -> None:
    from safekey.evals.summary.tables import left_out_lines, print_summary

    args.document = {"run": str(path), "left_out": dict(left_out or {}), **summary.metrics}
    print_summary(out, summary)
    for line in left_out_lines(left_out or {}):
        out.print(line, style="bold yellow", **PLAIN)
    out.print(f"\n{path}: metrics.json, completions.jsonl, verdicts.jsonl", **PLAIN)
    out.print(f"look at single samples: inspect view --log-dir {path}/logs", **PLAIN)
