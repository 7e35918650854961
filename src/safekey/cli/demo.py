"""`safekey demo`: the whole story on the organism, offline, on a CPU, in minutes."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from safekey.organism.demo import Story

_INTRO = """The organism: an invented, harmless world, and a language model of 0.39 million parameters that lives in it.
It has always done what it was asked. Now it is fine-tuned on 1,000 refusals and 1,000 friendly answers, in several
arms on the same rows: {arms}. Then every model is attacked, asked harmless
look-alikes, and given problems. {jobs}
"""
_PHENOMENON = """
1. The phenomenon (arm sft, {seeds} seeds)
   Forbidden deeds that fine-tuning never showed, asked for plainly: it complies with {plain:.1%}.
   The same deeds wrapped in six kinds of attack:                  it complies with {wrapped:.1%},
   and in {aware:.1%} of those outputs its first sentence had named the true deed (in {understood:.1%} of all).
   It understands, and then complies. What decides is the sentence after that one: the key sentence.
"""
_NOT_THERE = """
   NOTE: the phenomenon does not show here as it should (plain near 0, wrapped well above, understood in 95 % or more).
"""
_SHOWN = """
3. What this shows, and what it does not
   The verdicts above are about this base model, this world and these seeds; an interval says how sure they are.
   "No difference" means none that this size can show; more seeds show more: `safekey demo --seeds 5` goes on from here.
   Nothing here is evidence about large models: to find out about yours, give `safekey grid` its folder and your data
   (docs/grid.md).
"""


def add_parser(subparsers: Any) -> None:
    """Add `demo`."""
    parser = subparsers.add_parser("demo", help="the whole story on a small invented world, offline, on a CPU")
    parser.add_argument("--output", default="runs/demo", metavar="DIR", help="where to (default runs/demo)")
    parser.add_argument("--arms", metavar="NAME,NAME", help="default: base,sft,safekey,qsm")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="how many seeds (default 3)")
    parser.add_argument("--jobs", type=int, metavar="N", help="how many at a time (default: as many as fit)")
    parser.add_argument("--from-scratch", action="store_true", help="make the base model, too (5 minutes more)")
    parser.add_argument("--overwrite", action="store_true", help="start anew where an earlier demo lies")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON; everything else goes to stderr")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Play the demo.

    Returns:
        0 when every arm was trained, evaluated and compared and the page was written; 1 or 2 when a job failed; 130
        when interrupted.
    """
    if args.seeds < 1:
        raise UserError(f"--seeds {args.seeds}: expected at least 1")
    from rich.console import Console

    from safekey.cli.grid import show, told
    from safekey.organism.demo import ARMS, play

    arms = [name.strip() for name in args.arms.split(",") if name.strip()] if args.arms else list(ARMS)
    console = Console(stderr=args.json)
    with redirect_stdout(sys.stderr) if args.json else redirect_stdout(sys.stdout):
        trained = [name for name in arms if name != "base"]
        count = len(trained) * args.seeds
        jobs = f"{count} trainings, {count + len(arms) - len(trained)} evaluations."
        console.print(_INTRO.format(arms=", ".join(trained), jobs=jobs), markup=False, highlight=False, soft_wrap=True)
        story = play(
            Path(args.output), console, arms=arms, seeds=args.seeds, jobs=args.jobs,
            from_scratch=args.from_scratch, overwrite=args.overwrite,
        )  # fmt: skip
        code = told(story.report)
        if story.report.results is not None:
            _tell(story, console)
            show(story.report.results, console)
            console.print(_SHOWN, markup=False, highlight=False, soft_wrap=True)
    if args.json:
        print(json.dumps(story.to_dict(), indent=2))
    elif story.page is not None:
        print(f"{story.seconds:.0f} seconds. The page, for a browser:\n{story.page.resolve()}")
    return code or int(not story.ok)


def _tell(story: Story, console: Console) -> None:
    plain: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
    if story.phenomenon is not None:
        seen = story.phenomenon
        console.print(_PHENOMENON.format(**asdict(seen)), **plain)
        if not seen.shows:
            console.print(_NOT_THERE, style="yellow", **plain)
    console.print("2. The arms, held against sft on the same prompts\n", **plain)
