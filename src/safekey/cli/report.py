"""`safekey report`: one page, Markdown tables and plots from evaluation runs or from a grid's folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey.cli.compare import arms_of
from safekey.errors import UserError
from safekey.function_option import function_of
from safekey.terminal import printable

if TYPE_CHECKING:
    from safekey.report import Written

_EXAMPLES = """examples:
  safekey report runs/grid                                   a grid's folder: every arm, every seed
  safekey report runs/eval-sft runs/eval-safekey             the first is the reference
  safekey report --arm sft=runs/sft-0,runs/sft-1 --arm safekey=runs/sk-0,runs/sk-1 --output runs/report
  safekey report runs/eval-r1-7b                             one run alone: its rates, no comparison

RUN is the run folder of `safekey eval`. docs/report.md says what is on the page."""


def add_parser(subparsers: Any) -> None:
    """Add `report`."""
    text = "write a self-contained page, Markdown tables and plots from evaluation runs or a grid"
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "report", help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run_report)
    parser.add_argument(
        "runs", metavar="RUN|GRID", nargs="*", help="evaluation run folders, each an arm; or one grid's folder"
    )
    parser.add_argument("--arm", metavar="NAME=RUN,RUN", action="append", default=[],
                        help="an arm with several runs, one for each training seed; repeatable")  # fmt: skip
    parser.add_argument(
        "--reference", metavar="RUN|NAME", help="what the others are held against (default: the first, or the grid's)"
    )
    parser.add_argument("--output", metavar="DIR", help="where to write (default: GRID/report, or runs/report)")
    parser.add_argument("--title", metavar="TEXT", help="the page's heading")
    parser.add_argument("--judge", metavar="NAME", action="append", default=[],
                        help="whose verdicts, where several judged: NAME or NAME=MODEL; repeatable")  # fmt: skip
    parser.add_argument("--part", choices=("answer", "thinking", "whole"), default="answer",
                        help="the part of a response that verdicts are about (default answer)")  # fmt: skip
    parser.add_argument("--margin", type=float, metavar="POINTS",
                        help="how much worse ORR and reasoning may be (default 3, or the grid's)")  # fmt: skip
    parser.add_argument("--names-harm", metavar="MODULE:FUNCTION",
                        help="says whether U names the request, in place of shared words")  # fmt: skip
    parser.add_argument("--allow-different-settings", action="store_true",
                        help="compare runs that were decoded differently; the page says so")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def _written(args: argparse.Namespace, names_harm: Any) -> Written:
    from safekey.analysis.key_sentences.from_runs import diagnose
    from safekey.grid.folder import GridFolder
    from safekey.grid.page import write_page
    from safekey.report import write_report

    more: dict[str, Any] = {"judges": args.judge, "part": args.part}
    rest: dict[str, Any] = {"allow_different_settings": args.allow_different_settings}
    rest |= {"margin": args.margin / 100} if args.margin is not None else {}
    rest |= {"title": args.title} if args.title else {}
    grid = GridFolder(Path(args.runs[0])) if len(args.runs) == 1 and not args.arm else None
    if grid is not None and grid.exists:
        output = Path(args.output) if args.output else None
        return write_page(grid, reference=args.reference, output=output, names_harm=names_harm, **more, **rest)[0]
    named, reference = arms_of(args.runs, args.arm, args.reference, least=1)
    arms = {name: tuple(Path(run) for run in runs) for name, runs in named.items()}
    found = diagnose(arms, names_harm=names_harm, **more) if names_harm else None
    return write_report(arms, Path(args.output or "runs/report"), reference=reference, diagnostics=found,
                        **more, **rest)  # fmt: skip


def run_report(args: argparse.Namespace) -> int:
    """Write the report; see `safekey.report.write_report`."""
    if args.margin is not None and not 0 <= args.margin <= 100:
        raise UserError(f"--margin {args.margin:g}: expected points from 0 to 100")
    written = _written(args, function_of("--names-harm", args.names_harm))
    if args.json:
        print(json.dumps({
            "version": 1, "html": str(written.html), "markdown": str(written.markdown),
            "plots": [str(path) for path in written.plots],
            "bytes": {str(path): size for path, size in written.sizes.items()},
            "transcripts": {"shown": written.shown, "total": written.total}, "verdicts": dict(written.verdicts),
        }, indent=2))  # fmt: skip
        return 0
    for name, verdict in written.verdicts.items():
        print(printable(f"{name}: {verdict}"))
    print(printable(f"{written.markdown}: verdicts and tables; {len(written.plots)} files of plots beside it"))
    print(
        printable(
            f"{written.html}: {written.sizes[written.html]:,} bytes, {written.shown:,} of {written.total:,} transcripts"
        )
    )
    return 0
