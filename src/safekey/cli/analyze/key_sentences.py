"""`safekey analyze key-sentences`: U, K and K's stance in saved generations. Only run folders are read."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from safekey.cli.common import PLAIN, add_json, add_runs, add_verb, arms_of, console, grid_of, whole
from safekey.errors import UserError
from safekey.options import function_of
from safekey.terminal import printable

if TYPE_CHECKING:
    from safekey.analysis.key_sentences.find import Diagnostics

_EXAMPLES = """examples:
  safekey analyze key-sentences runs/eval-sft runs/eval-safekey
  safekey analyze key-sentences --arm sft=runs/sft-0,runs/sft-1 --arm safekey=runs/sk-0,runs/sk-1 --examples 3
  safekey analyze key-sentences runs/eval-organism --names-harm safekey.organism.judge:understood --json

docs/analysis.md says what is measured, and how accurate the rules are."""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    text = "show U, K and K's stance, the outcome for each stance, and how often U names the harm before K complies"
    parser = add_verb(verbs, "key-sentences", text, run_key_sentences, _EXAMPLES)
    add_runs(parser)
    parser.add_argument("--stance", metavar="MODULE:FUNCTION",
                        help="a function from K to its stance, in place of the rule")  # fmt: skip
    parser.add_argument("--names-harm", metavar="MODULE:FUNCTION",
                        help="a function that says whether U names the request, in place of shared words")  # fmt: skip
    parser.add_argument("--examples", type=whole(0), default=0, metavar="N",
                        help="show U | K of N generations for each stance and arm")  # fmt: skip
    add_json(parser)


def run_key_sentences(args: argparse.Namespace) -> int:
    """Analyze key sentences; see `safekey.analysis.key_sentences.from_runs`."""
    grid = grid_of(args.runs, args.arm)
    arms = {arm: tuple(map(str, some)) for arm, some in grid.evaluations().items()} if grid else {}
    arms = arms or arms_of(args.runs, args.arm, to="analyze")[0]
    stance = function_of("--stance", args.stance)
    names_harm = function_of("--names-harm", args.names_harm)
    from safekey.analysis.key_sentences.from_runs import diagnose

    found = diagnose(arms, judges=args.judge, part=args.part, stance=stance, names_harm=names_harm)
    if not found.groups and any("--redact" in note for note in found.notes):
        raise UserError("key sentences are found in texts, and these runs' texts were dropped (--redact)")
    if args.json:
        args.document = {"runs": arms, **found.to_dict()}
    else:
        _print(found, arms, args.examples)
    return 0


def _print(found: Diagnostics, arms: Mapping[str, Sequence[str]], most: int) -> None:
    from safekey.analysis.key_sentences.tables import examples, group_notes, interval_note, outcome_table, stance_table

    out = console()
    for arm, runs in arms.items():
        out.print(printable(f"{arm}: {', '.join(runs)}"), **PLAIN)
    for note in (*found.notes, f"stance by {found.stance_rule}", f"U names the harm by {found.naming_rule}"):
        out.print(printable(note), **PLAIN)
    for arm in arms:
        groups = [group for group in found.groups if group.arm == arm]
        if not groups:
            continue
        out.print()
        out.print(stance_table(groups))
        for group in groups:
            table = outcome_table(group) if not group.attack else None
            if table is not None:
                out.print(table)
        for note in (*group_notes(groups), interval_note(groups)):
            out.print(note, **PLAIN)
        shown = list(examples(found, arm, most)) if most else []
        if shown:
            out.print(f"\n{arm}: U | K", **PLAIN)
        for example in shown:
            out.print(f"  {example}", **PLAIN)
