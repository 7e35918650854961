"""`safekey grid RECIPE key=value …`: every arm and seed on the same rows, trained, attacked, compared."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey.cli.compare import APART
from safekey.cli.eval import evaluation_options, evaluation_request
from safekey.cli.train import accept_mixed_order
from safekey.errors import UserError
from safekey.function_option import function_of
from safekey.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

    from safekey.grid.prepare import GridOrder
    from safekey.grid.results import Results
    from safekey.grid.run import GridReport

_ARMS = "base,sft,dpsh,qmm,safekey"
_EXAMPLES = """examples:
  safekey grid organism                                                   the recipe's own arms, seeds and benchmarks
  safekey grid r1-distill-qwen-7b data=star1.json --arms base,sft,safekey,qsm --seeds 3 \\
      --suite all --data-dir benchmarks --judge-url http://127.0.0.1:8000/v1 --judge-model guard-8b
  safekey grid my.yaml --arms sft,safekey --arm strong='qmm_weight=1.0' --seeds 11,12 --launch fsdp2 --num-processes 8

The same command again goes on where it stopped; more arms or seeds add to what is there. docs/grid.md explains arms,
controls, the folder and the verdicts."""


def add_parser(subparsers: Any) -> None:
    """Add `grid`."""
    text = "train every arm with every seed on the same rows, evaluate all, compare"
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "grid", help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("recipe", metavar="RECIPE", help="a packaged recipe's name, or a YAML file")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="set a key of the recipe for every arm")
    grid = parser.add_argument_group("the grid")
    grid.add_argument("--arms", metavar="NAME,NAME", default=_ARMS,
                      help=f"packaged arms (default {_ARMS}; also qsm, ksm, safekey-qsm, key, detached)")  # fmt: skip
    grid.add_argument("--arm", metavar="NAME='key=value …'", action="append", default=[],
                      help="an arm of your own: overrides on the recipe; repeatable")  # fmt: skip
    grid.add_argument("--seeds", metavar="N|S,S", default="3", help="how many seeds, or which (default 3: 0, 1, 2)")
    grid.add_argument("--reference", metavar="NAME", default="sft", help="what arms are held against (default sft)")
    grid.add_argument("--margin", type=float, default=3.0, metavar="POINTS",
                      help="how much worse ORR and reasoning may be at the interval's edge (default 3)")  # fmt: skip
    grid.add_argument("--compare-judge", metavar="NAME", action="append", default=[],
                      help="whose verdicts are compared, where several judge; repeatable")  # fmt: skip
    grid.add_argument("--jobs", type=int, metavar="N", help="how many at a time (default: as many as fit)")
    grid.add_argument("--launch", choices=("none", "ddp", "fsdp2", "zero3"), default="none", help="each training's")
    grid.add_argument("--num-processes", type=int, metavar="N", help="processes of each training")
    grid.add_argument("--output", metavar="DIR", help="the grid's folder (default runs/grid-RECIPE)")
    grid.add_argument("--names-harm", metavar="MODULE:FUNCTION",
                      help="says whether U names the request, in place of shared words")  # fmt: skip
    grid.add_argument("--no-report", action="store_true", help="write no page")
    grid.add_argument("--dry-run", action="store_true", help="check everything, list the jobs, and stop")
    grid.add_argument("--json", action="store_true", help="print the comparison as JSON; everything else to stderr")
    evaluation_options(parser)
    accept_mixed_order(parser)
    defaults = _postpone(parser)
    parser.set_defaults(run=lambda args: run_grid(args, parser, defaults), order=lambda a: _order(a, parser, defaults))


def _postpone(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Take the options' defaults away and return them: a recipe may set what the command line does not give."""
    defaults = {}
    for action in parser._actions:
        if action.option_strings and action.dest != "help":
            defaults[action.dest], action.default = action.default, None
    return defaults


def run_grid(args: argparse.Namespace, parser: argparse.ArgumentParser, defaults: Mapping[str, Any]) -> int:
    """Run a grid; see `safekey.grid.run`.

    Returns:
        0 when every job is done, 1 when one failed, 2 when one failed for a reason that the user can mend, 130 when
        interrupted.
    """
    order = _order(args, parser, defaults)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a warning at every fork otherwise
    from rich.console import Console

    console = Console(stderr=args.json)
    if args.dry_run:
        return _dry_run(order, console)
    from safekey.grid.run import run_grid as work

    report = work(order, console)
    code = told(report)
    if args.json:
        ended = {"done": report.done[0], "jobs": report.done[1], "interrupted": report.interrupted}
        failed = {name: {"code": one.code, "said": one.said} for name, one in report.failed.items()}
        found = report.results.to_dict() if report.results is not None else {}
        print(json.dumps({**ended, "failed": failed, **found}, indent=2))
    if report.results is not None:
        show(report.results, console)
    if not args.no_report and not report.interrupted and report.folder.evaluations():
        from safekey.grid.page import write_page

        page = write_page(report.folder)[0].html
        console.print(f"\nThe page, for a browser:\n{page}", markup=False, highlight=False, soft_wrap=True)
    return code


def grid_order(words: Sequence[str]) -> GridOrder:
    """Return the grid that the words of a command line ask for.

    Raises:
        UserError: what is wrong with them.
    """
    parser = argparse.ArgumentParser(prog="safekey")
    subparsers = parser.add_subparsers(required=True)
    add_parser(subparsers)
    args = parser.parse_args(["grid", *words])
    order: GridOrder = args.order(args)
    return order


def _order(args: argparse.Namespace, parser: argparse.ArgumentParser, defaults: Mapping[str, Any]) -> GridOrder:
    from safekey.grid.recipe_section import fill_in

    fill_in(args, parser, defaults)
    function_of("--names-harm", args.names_harm)  # a name that cannot be imported is found now, not after the trainings
    if not 0 <= args.margin <= 100:
        raise UserError(f"--margin {args.margin:g}: expected points from 0 to 100")
    if args.jobs is not None and args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: expected at least 1")
    from safekey.grid.arms import choose
    from safekey.grid.prepare import GridOrder

    names = [word.strip() for word in args.arms.split(",") if word.strip()]
    return GridOrder(
        recipe=args.recipe,
        overrides=tuple(args.overrides),
        arms=choose(names, args.arm),
        seeds=parse_seeds(args.seeds),
        evaluation=evaluation_request(args, ""),
        output=args.output or str(Path("runs") / f"grid-{Path(args.recipe).stem}"),
        reference=args.reference,
        margin=args.margin / 100,
        judges=tuple(args.compare_judge),
        names_harm=args.names_harm,
        jobs=args.jobs,
        launch=args.launch,
        processes=args.num_processes,
    )


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return "3" as (0, 1, 2) and "11,12" as (11, 12).

    Raises:
        UserError: neither a number nor a list of numbers.
    """
    try:
        numbers = tuple(int(word) for word in text.split(",") if word.strip())
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 0 or ("," not in text and numbers[0] < 1):
        raise UserError(f"--seeds {text}: expected how many (3), or which (11,12,13)")
    return numbers if "," in text else tuple(range(numbers[0]))


def _dry_run(order: GridOrder, console: Console) -> int:
    from safekey.grid.prepare import prepare
    from safekey.grid.run import PLAIN

    prepared = prepare(order)
    tasks, folder = prepared.tasks, prepared.folder
    for name, arm in order.arms.items():
        console.print(f"{name:12} {' '.join(arm.overrides) or '–':70} {arm.about}", **PLAIN)
    done = sum(task.job.done for task in tasks)
    console.print(f"{len(tasks)} jobs in {folder.path}, {done} finished; {prepared.at_once} at a time", **PLAIN)
    console.print("Dry run: nothing was trained and nothing was written.", **PLAIN)
    return 0


def told(report: GridReport) -> int:
    """Say what did not end well; return the exit code."""
    from safekey.grid.run import failure

    done, total = report.done
    if report.interrupted:
        print(f"safekey: interrupted with {done} of {total} jobs finished; the same command goes on", file=sys.stderr)
        return 130
    if report.failed:
        words = printable(failure(report))
        print(f"safekey: error: {words}\n{done} of {total} jobs are finished; mend it and give the same command again, "
              f"it goes on. Logs: {report.folder.path}/arms/*/*/log.txt", file=sys.stderr)  # fmt: skip
        return 2 if any(one.code == 2 for one in report.failed.values()) else 1
    return 0


def show(results: Results, console: Console) -> None:
    """Print the comparison: table, verdicts, the prefilling attack apart, notes."""
    from rich.console import Console as RichConsole

    from safekey.comparison.tables import rich_table

    wide = console if console.is_terminal else RichConsole(width=130, file=console.file)
    plain: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
    wide.print(rich_table(results.report))
    for verdict in results.report.verdicts.values():
        wide.print(f"\n{printable(verdict.sentence)}", style="bold", **plain)
        for line in (verdict.scope, *verdict.caveats):
            wide.print(f"  {printable(line)}", **plain)
    if results.apart is not None:
        wide.print(f"\n{APART}:", **plain)
        wide.print(rich_table(results.apart))
    for line in (results.ground, *results.found.notes):
        if line:
            wide.print(f"note: {printable(line)}", **plain)
