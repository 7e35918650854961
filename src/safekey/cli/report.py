"""`safekey report`: one page, Markdown tables and plots from evaluation runs or from a grid's folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey.cli.common import add_comparison, add_json, add_judge_error, add_runs, add_verb, arms_of, grid_of
from safekey.options import function_of
from safekey.terminal import printable

if TYPE_CHECKING:
    from safekey.report import Written

_EXAMPLES = """examples:
  safekey report runs/grid                                   a grid's folder: every arm, every seed
  safekey report runs/eval-sft runs/eval-safekey             the first is the reference
  safekey report --arm sft=runs/sft-0,runs/sft-1 --arm safekey=runs/sk-0,runs/sk-1 --output runs/report
  safekey report runs/eval-r1-7b                             one run alone: its rates, no comparison

docs/report.md says what is on the page."""


def add_parser(subparsers: Any) -> None:
    """Add `report`."""
    text = "write a self-contained page, Markdown tables and plots from evaluation runs or a grid"
    parser = add_verb(subparsers, "report", text, run_report, _EXAMPLES)
    add_runs(parser)
    add_comparison(parser)
    add_judge_error(parser)
    parser.add_argument("--names-harm", metavar="MODULE:FUNCTION",
                        help="a function that says whether U names the request, in place of shared words")  # fmt: skip
    parser.add_argument("--output", metavar="DIR", help="the report's folder (default: GRID/report, or runs/report)")
    parser.add_argument("--analysis", metavar="DIR", action="append", default=[],
                        help="show what `safekey analyze … --output DIR` found, too; repeatable")  # fmt: skip
    parser.add_argument("--title", metavar="TEXT", help="the page's heading")
    add_json(parser)


def _written(args: argparse.Namespace, names_harm: Any) -> Written:
    from safekey.analysis.key_sentences.from_runs import diagnose
    from safekey.grid.page import write_page
    from safekey.report import write_report

    more: dict[str, Any] = {"judges": args.judge, "part": args.part}
    rest: dict[str, Any] = {"allow_different_settings": args.allow_different_settings}
    rest |= {"judge_records": args.judge_record, "labels": args.labels}
    rest |= {"margin": args.margin} if args.margin is not None else {}
    rest |= {"title": args.title} if args.title else {}
    rest |= {"analyses": args.analysis} if args.analysis else {}
    rest |= {"allow_unscored": args.allow_unscored} if args.allow_unscored is not None else {}
    if grid := grid_of(args.runs, args.arm):
        output = Path(args.output) if args.output else None
        return write_page(grid, reference=args.reference, output=output, names_harm=names_harm, **more, **rest)[0]
    named, reference = arms_of(args.runs, args.arm, args.reference)
    arms = {name: tuple(Path(run) for run in runs) for name, runs in named.items()}
    found = diagnose(arms, names_harm=names_harm, **more) if names_harm else None
    output = Path(args.output or "runs/report")
    return write_report(arms, output, reference=reference, diagnostics=found, **more, **rest)


def run_report(args: argparse.Namespace) -> int:
    """Write the report; see `safekey.report.write_report`."""
    written = _written(args, function_of("--names-harm", args.names_harm))
    args.document = {
        "version": 1, "html": str(written.html), "markdown": str(written.markdown),
        "plots": [str(path) for path in written.plots],
        "bytes": {str(path): size for path, size in written.sizes.items()},
        "transcripts": {"shown": written.shown, "total": written.total}, "verdicts": dict(written.verdicts),
    }  # fmt: skip
    lines = [f"{name}: {verdict}" for name, verdict in written.verdicts.items()]
    lines.append(f"{written.markdown}: verdicts and tables; {len(written.plots)} files of plots beside it")
    transcripts = f"{written.shown:,} of {written.total:,} transcripts"
    lines.append(f"{written.html}: {written.sizes[written.html]:,} bytes, {transcripts}")
    print(printable("\n".join(lines)))
    return 0
