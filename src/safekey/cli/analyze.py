"""`safekey analyze`: what happened inside saved generations. One verb for each analysis; only folders are read."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey.cli.compare import grid_of
from safekey.errors import UserError
from safekey.function_option import function_of
from safekey.terminal import printable

if TYPE_CHECKING:
    from safekey.analysis.key_sentences.find import Diagnostics

_WIDTH = 140  # of the tables where there is no terminal
_EXAMPLES = """examples:
  safekey analyze key-sentences runs/eval-sft runs/eval-safekey
  safekey analyze key-sentences --arm sft=runs/sft-0,runs/sft-1 --arm safekey=runs/sk-0,runs/sk-1 --examples 3
  safekey analyze key-sentences runs/eval-organism --names-harm safekey.organism.judge:understood --json

RUN is the run folder of `safekey eval`. docs/analysis.md says what is measured, and how accurate the rules are."""


def add_parser(subparsers: Any) -> None:
    """Add `analyze` and its verbs."""
    text = "look into saved generations: key sentences"
    parser: argparse.ArgumentParser = subparsers.add_parser("analyze", help=text, description=text)
    verbs = parser.add_subparsers(metavar="ANALYSIS", required=True)
    _add_key_sentences(verbs)


def _add_key_sentences(verbs: Any) -> None:
    text = "where U ends and K begins, K's stance, outcome by stance, and how often U names the harm while K goes on"
    parser: argparse.ArgumentParser = verbs.add_parser(
        "key-sentences", help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run_key_sentences)
    parser.add_argument("runs", metavar="RUN|GRID", nargs="*", help="run folders, each an arm of its own; or a grid's")
    parser.add_argument("--arm", metavar="NAME=RUN,RUN", action="append", default=[],
                        help="an arm with several runs, one for each training seed; repeatable")  # fmt: skip
    parser.add_argument("--judge", metavar="NAME", action="append", default=[],
                        help="whose verdicts are the outcomes, where several judged: NAME or NAME=MODEL")  # fmt: skip
    parser.add_argument("--part", choices=("answer", "thinking", "whole"), default="answer",
                        help="the part of a response that outcomes are about (default answer)")  # fmt: skip
    parser.add_argument("--stance", metavar="MODULE:FUNCTION",
                        help="a function of K to its stance, in place of the rule")  # fmt: skip
    parser.add_argument("--names-harm", metavar="MODULE:FUNCTION",
                        help="a function of U and the request, in place of the rule")  # fmt: skip
    parser.add_argument("--examples", type=int, default=0, metavar="N",
                        help="show U | K of N generations for each stance and arm")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print everything as JSON, a row for each generation")


def run_key_sentences(args: argparse.Namespace) -> int:
    """Look into key sentences; see `safekey.analysis.key_sentences.from_runs`."""
    if args.examples < 0:
        raise UserError(f"--examples {args.examples}: expected a number from 0")
    grid = grid_of(args.runs, args.arm)
    of_grid = {arm: tuple(map(str, some)) for arm, some in grid.evaluations().items()} if grid else {}
    arms = of_grid or _arms(args.runs, args.arm)
    stance = function_of("--stance", args.stance)
    names_harm = function_of("--names-harm", args.names_harm)
    from safekey.analysis.key_sentences.from_runs import diagnose

    found = diagnose(arms, judges=args.judge, part=args.part, stance=stance, names_harm=names_harm)
    if args.json:
        print(json.dumps({"runs": arms, **found.to_dict()}))
    else:
        _print(found, arms, args.examples)
    return 0


def _arms(runs: Sequence[str], named: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the arms' run folders by name; a folder given alone is an arm called by its last name."""
    given: list[tuple[str, tuple[str, ...]]] = []
    last = [Path(run).expanduser().resolve().name or run for run in runs]
    for run, name in zip(runs, last, strict=True):
        given.append((name if last.count(name) == 1 else str(Path(run)), (run,)))
    for word in named:
        name, equals, folders = word.partition("=")
        split = tuple(folder.strip() for folder in folders.split(",") if folder.strip())
        if not equals or not name.strip() or not split:
            raise UserError(f"--arm {word}: expected NAME=RUN,RUN,…")
        given.append((name.strip(), split))
    if not given:
        raise UserError("nothing to analyze: give a run folder, or an arm (--arm NAME=RUN,RUN,…)")
    arms: dict[str, tuple[str, ...]] = {}
    for name, group in given:
        if printable(name) in arms:
            raise UserError(f"two arms are called '{name}': give them other names (--arm NAME=RUN)")
        arms[printable(name)] = group
    return arms


def _print(found: Diagnostics, arms: Mapping[str, Sequence[str]], most: int) -> None:
    from rich.console import Console

    from safekey.analysis.key_sentences.tables import examples, group_notes, interval_note, outcome_table, stance_table

    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    plain: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
    for arm, runs in arms.items():
        console.print(printable(f"{arm}: {', '.join(runs)}"), **plain)
    for note in (*found.notes, f"stance by {found.stance_rule}", f"U names the harm by {found.naming_rule}"):
        console.print(printable(note), **plain)
    for arm in arms:
        groups = [group for group in found.groups if group.arm == arm]
        if not groups:
            continue
        console.print()
        console.print(stance_table(groups))
        for group in groups:
            table = outcome_table(group) if not group.attack else None
            if table is not None:
                console.print(table)
        for note in (*group_notes(groups), interval_note(groups)):
            console.print(note, **plain)
        shown = list(examples(found, arm, most)) if most else []
        if shown:
            console.print(f"\n{arm}: U | K", **plain)
        for example in shown:
            console.print(f"  {example}", **plain)
