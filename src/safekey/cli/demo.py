"""`safekey demo`: the method from training to comparison on the model organism, offline, on a CPU, in minutes."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from safekey.cli.common import PLAIN, add_json, add_verb, console, whole

if TYPE_CHECKING:
    from rich.console import Console

    from safekey.organism.demo import DemoResult

_INTRO = """The model organism: an invented, harmless world, and a language model of 0.39 million parameters for it.
The base model complies with every request. It is fine-tuned on 1,000 refusals and 1,000 helpful answers
({mix}), in several arms on the same rows: {arms}.
Every model is then evaluated on attacks, on harmless look-alikes and on reasoning problems. {jobs}
"""
_PHENOMENON = """
1. The phenomenon (arm sft, {seeds} seeds)
   Forbidden deeds that are not in the training data, asked for plainly: the model complies with {plain:.1%}.
   The same deeds wrapped in six kinds of attack:                        the model complies with {wrapped:.1%},
   and in {aware:.1%} of those outputs its first sentence had named the true deed (in {understood:.1%} of all).
   The model understands the request and complies all the same. The sentence after that one decides: the key sentence.
"""
_NOT_THERE = """
   NOTE: the phenomenon does not show here as it should (plain near 0, wrapped well above, understood in 95 % or more).
"""
_SHOWN = """
3. What this shows, and what it does not
   The verdicts above are about this base model, this world, these seeds and this mix of the training rows; an interval
   says how sure they are.
{mixes}
   More seeds establish smaller differences: `safekey demo --seeds 5` continues from here.
   Nothing here is evidence about large models: to test yours, give `safekey grid` its folder and your data
   (docs/grid.md).
"""


def add_parser(subparsers: Any) -> None:
    """Add `demo`."""
    text = "train, attack and compare small models on an invented world, offline, on a CPU"
    parser = add_verb(subparsers, "demo", text, run)
    parser.add_argument("--output", default="runs/demo", metavar="DIR", help="the demo's folder (default runs/demo)")
    parser.add_argument("--arms", metavar="NAME,NAME", help="default: base,sft,safekey,qsm")
    parser.add_argument("--seeds", type=whole(1), default=3, metavar="N", help="number of seeds (default 3)")
    parser.add_argument("--jobs", type=whole(1), metavar="N", help="jobs at a time (default: as many as fit)")
    parser.add_argument("--from-scratch", action="store_true", help="train the base model, too (5 minutes more)")
    parser.add_argument("--overwrite", action="store_true", help="delete what an earlier demo wrote to --output")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run the demo.

    Returns:
        0 when every arm was trained, evaluated and compared and the page was written; 1 or 2 when a job failed; 130
        when interrupted.
    """
    from safekey.cli.grid import exit_code, print_results
    from safekey.organism.demo import ARMS, run_demo
    from safekey.organism.mix import OTHER_MIXES, Mix

    arms = [name.strip() for name in args.arms.split(",") if name.strip()] if args.arms else list(ARMS)
    out = console(args.json)
    trained = [name for name in arms if name != "base"]
    count = len(trained) * args.seeds
    jobs = f"{count} trainings, {count + len(arms) - len(trained)} evaluations."
    out.print(_INTRO.format(arms=", ".join(trained), jobs=jobs, mix=Mix().words), **PLAIN)
    result = run_demo(
        Path(args.output), out, arms=arms, seeds=args.seeds, jobs=args.jobs,
        from_scratch=args.from_scratch, overwrite=args.overwrite,
    )  # fmt: skip
    code = exit_code(result.report)
    if result.report.results is not None:
        _print_phenomenon(result, out)
        print_results(result.report.results, out)
        mixes = fill(OTHER_MIXES, 118, initial_indent="   ", subsequent_indent="   ")
        out.print(_SHOWN.format(mixes=mixes), **PLAIN)
    if result.page is not None:
        out.print(f"{result.seconds:.0f} seconds. The page, for a browser:\n{result.page.resolve()}", **PLAIN)
    args.document = result.to_dict()
    return code or int(not result.ok)


def _print_phenomenon(result: DemoResult, out: Console) -> None:
    if result.phenomenon is not None:
        out.print(_PHENOMENON.format(**asdict(result.phenomenon)), **PLAIN)
        if not result.phenomenon.shows:
            out.print(_NOT_THERE, style="yellow", **PLAIN)
    out.print("2. The arms, compared with sft on the same prompts\n", **PLAIN)
