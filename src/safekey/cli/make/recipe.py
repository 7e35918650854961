"""`safekey make RECIPE key=value …`: from requests to training rows with reasoning, and a data card."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from safekey.cli.bars import bars
from safekey.cli.common import PLAIN, add_json, add_verb, console
from safekey.terminal import printable

if TYPE_CHECKING:
    from rich.table import Table

_EXAMPLES = """examples:
  safekey make star1 data=requests.jsonl teacher=http://127.0.0.1:8000/v1#r1 judge=http://127.0.0.1:8001/v1#judge
  safekey make self data=requests.jsonl model=runs/base judge=rule output_dir=made/self
  safekey make mix-2k data=requests.jsonl teacher=… judge=… price_in=0.5 price_out=2 --dry-run

The same command again goes on where it stopped. docs/making.md explains the stages and the keys."""


def add_parser(subparsers: Any) -> None:
    """Add `make`."""
    parser = add_verb(subparsers, "make", "make safety data with reasoning as a recipe says", run, _EXAMPLES)
    parser.mixed_order = True
    parser.add_argument("recipe", metavar="RECIPE", help="star1, self, benign, mix-2k, or a YAML file")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="set a key in place of the recipe's value")
    parser.add_argument("--dry-run", action="store_true", help="print calls, tokens and money, then stop")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Make the data; see `safekey.making.run`."""
    from safekey.making.config import load_recipe

    recipe = load_recipe(args.recipe, args.overrides)
    out = console(args.json)
    if args.dry_run:
        from safekey.making.forecast import forecast

        with bars() as progress:
            plan = forecast(recipe, progress)
        args.document = plan.to_dict()
        out.print(_stages(args.document["stages"]))
        out.print(_calls(args.document["forecast"]))
        out.print("calls and tokens out (most) are upper bounds; tokens are letters divided by four", **PLAIN)
        return 0
    from safekey.making.run import make

    with bars() as progress:
        made = make(recipe, progress)
    args.document = {"folder": str(made.folder), **made.card}
    out.print(_stages(made.card["stages"]))
    for stage in made.card["stages"]:
        for note in stage["notes"]:
            out.print(printable(f"{stage['stage']}: {note}"), **PLAIN)
    waiting = sum(stage["unanswered"] for stage in made.card["stages"])
    if waiting:
        out.print(f"{waiting} rows got no answer: the same command asks about them again", **PLAIN)
    out.print(
        printable(f"{made.card['rows']} rows in {made.folder / 'rows.jsonl'}; card.md says what they are"), **PLAIN
    )
    return 0


def _stages(stages: list[Mapping[str, Any]]) -> Table:
    from rich.table import Table

    table = Table("stage", "rows in", "rows out", "set aside, by reason")
    for stage in stages:
        reasons = "; ".join(f"{reason}: {count}" for reason, count in stage["aside"].items())
        table.add_row(stage["stage"], str(stage["rows_in"]), str(stage["rows_out"]), printable(reasons))
    return table


def _calls(forecasts: list[Mapping[str, Any]]) -> Table:
    from rich.table import Table

    table = Table("stage", "asks", "calls", "tokens in", "tokens out", "tokens out (most)", "dollars", "dollars (most)")
    names = ("calls", "tokens_in", "tokens_out", "tokens_most", "money", "money_most")
    for one in forecasts:
        shown = ["no price" if one[name] is None else f"{one[name]:,}" for name in names]
        table.add_row(one["stage"], one["role"], *shown)
    sums = [[one[name] for one in forecasts if one[name] is not None] for name in names]
    table.add_row("all", "", *(f"{round(sum(found), 6):,}" if found else "no price" for found in sums))
    return table
