"""`safekey compare`: evaluation runs against a reference, with intervals, corrected tests and a verdict in words."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey.errors import UserError
from safekey.terminal import printable

if TYPE_CHECKING:
    from safekey.comparison.collect import Collected
    from safekey.comparison.types import ComparisonResult, Discordance, Discordances
    from safekey.grid.folder import GridFolder

    Discordant = Mapping[tuple[str, str], Discordances]  # arm, metric

_WIDTH = 130  # of the table where there is no terminal
APART = "The prefilling attack, apart (it writes the beginning of the model's own thinking)"
_TITLES = {"asr": "ASR", "orr": "ORR", "accuracy": "reasoning"}
_EXAMPLES = """examples:
  safekey compare runs/eval-sft runs/eval-safekey runs/eval-qmm          the first is the reference
  safekey compare --arm sft=runs/sft-0,runs/sft-1,runs/sft-2 --arm safekey=runs/sk-0,runs/sk-1,runs/sk-2 --by-benchmark
  safekey compare runs/grid-organism --by-benchmark                     a grid: its arms, its reference
  safekey compare runs/eval-sft runs/eval-safekey --judge harm_1to5 --markdown > table.md

RUN is the run folder of `safekey eval`. docs/statistics.md explains what is paired, the intervals and the verdicts."""


def add_parser(subparsers: Any) -> None:
    """Add `compare`."""
    text = "compare evaluation runs: paired differences, intervals, a verdict for each arm"
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "compare", help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run_compare)
    parser.add_argument(
        "runs", metavar="RUN|GRID", nargs="*", help="evaluations' run folders, each an arm of its own; or one grid's"
    )
    parser.add_argument("--arm", metavar="NAME=RUN,RUN", action="append", default=[],
                        help="an arm with several runs, one for each training seed; repeatable")  # fmt: skip
    parser.add_argument("--reference", metavar="RUN|NAME", help="what the others are held against (default: the first)")
    parser.add_argument("--judge", metavar="NAME", action="append", default=[],
                        help="whose verdicts, where several judged: NAME or NAME=MODEL; repeatable")  # fmt: skip
    parser.add_argument("--part", choices=("answer", "thinking", "whole"), default="answer",
                        help="the part of a response that verdicts are about (default answer)")  # fmt: skip
    parser.add_argument("--margin", type=float, metavar="POINTS",
                        help="how much worse ORR and reasoning may be (default 3, or the grid's)")  # fmt: skip
    parser.add_argument("--by-benchmark", action="store_true", help="also compare on each benchmark alone")
    parser.add_argument("--discordant", type=int, default=5, metavar="N",
                        help="list N prompts on which arms differ, each way (default 5)")  # fmt: skip
    parser.add_argument("--allow-different-settings", action="store_true",
                        help="compare runs that were decoded differently; the output says so")  # fmt: skip
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print everything as JSON")
    output.add_argument("--markdown", action="store_true", help="print Markdown, for a paper or a model card")


def run_compare(args: argparse.Namespace) -> int:
    """Compare; see `safekey.comparison.compare` and `safekey.comparison.collect`."""
    if args.margin is not None and not 0 <= args.margin <= 100:
        raise UserError(f"--margin {args.margin:g}: expected points from 0 to 100")
    if args.discordant < 0:
        raise UserError(f"--discordant {args.discordant}: expected a number from 0")
    arms, reference, margin, judges = _asked(args)
    from safekey.comparison.collect import collect
    from safekey.comparison.compare import compare, discordant, split_apart
    from safekey.comparison.types import METRICS

    found = collect(arms, judges=judges, part=args.part, allow_different_settings=args.allow_different_settings)
    outcomes, alone = split_apart(found.outcomes)
    report = compare(outcomes, reference, margin=margin, by_benchmark=args.by_benchmark)
    apart = compare(alone, reference, margin=margin) if alone else None
    measured = {(row.arm, row.metric) for row in report.comparisons}
    differing: Discordant = {
        (arm, metric): discordant(outcomes, arm, reference, metric)
        for arm in report.verdicts
        for metric in METRICS
        if (arm, metric) in measured
    }
    if args.json:
        known = _as_json(report, found, differing, args.discordant)
        print(json.dumps({**known, "apart": None if apart is None else asdict(apart)}, indent=2))
    elif args.markdown:
        print(printable(_as_markdown(report, apart, found, differing, args.discordant)), end="")
    else:
        _print(report, apart, found, differing, args.discordant)
    return 0


def _asked(args: argparse.Namespace) -> tuple[dict[str, tuple[str, ...]], str, float, Sequence[str]]:
    """Return arms, reference, margin and judges; of a grid's folder, what is not said is as the grid compared."""
    from safekey.grid.arms import REFERENCE

    margin = args.margin if args.margin is not None else 3.0
    grid = grid_of(args.runs, args.arm)
    if grid is None:
        arms, reference = arms_of(args.runs, args.arm, args.reference)
        return arms, reference, margin / 100, args.judge
    arms = {arm: tuple(map(str, some)) for arm, some in grid.evaluations().items()}
    compared = grid.settings.get("compare") or {}
    reference = args.reference or str(compared.get("reference", REFERENCE))
    if len(arms) < 2 or reference not in arms:
        raise UserError(f"{args.runs[0]}: no two arms of this grid are finished, '{reference}' among them")
    chosen = margin / 100 if args.margin is not None else float(compared.get("margin", margin / 100))
    return arms, reference, chosen, args.judge or list(compared.get("judges") or ())


def grid_of(runs: Sequence[str], named: Sequence[str]) -> GridFolder | None:
    """Return the grid whose folder is all that was given; None otherwise."""
    if len(runs) != 1 or named:
        return None
    from safekey.grid.folder import GridFolder

    grid = GridFolder(Path(runs[0]))
    return grid if grid.exists else None


def arms_of(
    runs: Sequence[str], named: Sequence[str], reference: str | None, least: int = 2
) -> tuple[dict[str, tuple[str, ...]], str]:
    """Return the arms' run folders by name, and the reference's name; names are safe to print.

    Args:
        runs: folders, each an arm of its own.
        named: NAME=RUN,RUN.
        reference: a name, or a folder, which may be one more; None: the first arm.
        least: how many arms there must be.
    """
    arms: dict[str, tuple[str, ...]] = {}
    if reference is not None and _is_folder(reference, [*runs, *_said(named)]):
        runs = [reference, *runs]
    if len({Path(run).expanduser().resolve() for run in runs}) < len(runs):
        raise UserError("a run is given twice")
    last = [_last(run) for run in runs]
    for run, name in zip(runs, last, strict=True):
        _add(arms, printable(name if last.count(name) == 1 else str(Path(run))), (run,))
    for word in named:
        name, equals, folders = word.partition("=")
        split = tuple(folder.strip() for folder in folders.split(",") if folder.strip())
        if not equals or not name.strip() or not split:
            raise UserError(f"--arm {word}: expected NAME=RUN,RUN,…")
        _add(arms, printable(name.strip()), split)
    if len(arms) < least:
        some = "two runs, or two arms" if least > 1 else "one run, or one arm"
        raise UserError(f"nothing to compare: give at least {some} (--arm NAME=RUN,RUN,…)")
    if reference is None:
        return arms, next(iter(arms))
    for name, group in arms.items():
        if reference == name or [Path(reference)] == [Path(folder) for folder in group]:
            return arms, name
    raise UserError(f"--reference {reference}: neither a run folder nor an arm; there are: {', '.join(arms)}")


def _said(named: Sequence[str]) -> list[str]:
    """Return every name and folder that --arm options hold."""
    return [text.strip() for word in named for text in word.replace("=", ",").split(",")]


def _is_folder(reference: str, others: Sequence[str]) -> bool:
    """Whether the reference is one more run folder, not one of the arms."""
    known = {name for other in others for name in (other, _last(other), str(Path(other)))}
    return not {reference, str(Path(reference))} & known and Path(reference).expanduser().is_dir()


def _last(run: str) -> str:
    return Path(run).expanduser().resolve().name or run


def _add(arms: dict[str, tuple[str, ...]], name: str, folders: tuple[str, ...]) -> None:
    if name in arms:
        raise UserError(f"two arms are called '{name}': give them other names (--arm NAME=RUN)")
    arms[name] = folders


def _about(found: Collected) -> list[str]:
    """Return what was compared, a line for each arm, each judge and each note."""
    lines = []
    for arm, runs in found.runs.items():
        seeds = found.seeds[arm]
        said = f" (seeds {', '.join(map(str, seeds))})" if all(isinstance(seed, int) for seed in seeds) else ""
        lines.append(f"{arm}: {', '.join(runs)}{said}")
    lines += [f"{_TITLES[metric]} judged by {judge}" for metric, judge in found.judges.items()]
    return [printable(line) for line in [*lines, *(f"note: {note}" for note in found.notes)]]


def _lost(report: ComparisonResult) -> list[str]:
    """Return a line for each comparison that lacks pairs."""
    lines = []
    for row in report.comparisons:
        if row.missing and not row.benchmark:
            reasons = ", ".join(f"{reason} {count}" for reason, count in row.lost.items())
            lines.append(
                printable(f"{row.arm}, {_TITLES[row.metric]}: {row.missing} of {row.expected} pairs lost ({reasons})")
            )
    return lines


def _rows(found: Discordances, arm: str, reference: str, most: int) -> list[tuple[str, Sequence[Discordance], int]]:
    """Return both directions in words, with at most so many prompts, and how many there are."""
    ways = ((f"{arm} higher than {reference}", found.arm_higher), (f"{arm} lower than {reference}", found.arm_lower))
    return [(way, rows[:most], len(rows)) for way, rows in ways]


def _example(row: Discordance) -> str:
    behaviour = row.cluster.partition("/")[2]
    shared = f", behaviour {behaviour}" if behaviour and behaviour != row.item else ""
    runs = f", {row.runs} runs" if row.runs > 1 else ""
    name = f"{row.benchmark}: {row.item}"
    return printable(f"{name} ({row.reference_mean:.2g} → {row.arm_mean:.2g}{shared}{runs})")


def _listed(report: ComparisonResult, differing: Discordant, most: int) -> list[tuple[str, list[str]]]:
    """Return a heading and examples for each arm, metric and direction in which prompts differ."""
    listed = []
    for (arm, metric), found in differing.items():
        for way, rows, count in _rows(found, arm, report.reference, most):
            if rows:
                shown = f", {len(rows)} shown" if len(rows) < count else ""
                prompts = f"{count} prompt{'s' if count > 1 else ''}"
                listed.append((f"{_TITLES[metric]}: {prompts} with {way}{shown}", [_example(row) for row in rows]))
    return listed


def _print(
    report: ComparisonResult, apart: ComparisonResult | None, found: Collected, differing: Discordant, most: int
) -> None:
    from rich.console import Console

    from safekey.comparison.tables import rich_table

    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    plain: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
    for line in _about(found):
        console.print(line, **plain)
    console.print()
    console.print(rich_table(report))
    for verdict in report.verdicts.values():
        console.print(f"\n{printable(verdict.sentence)}", style="bold", **plain)
        for line in (verdict.scope, *verdict.caveats):
            console.print(f"  {printable(line)}", **plain)
    if apart is not None:
        console.print(f"\n{APART}:", **plain)
        console.print(rich_table(apart))
    console.print("\n" + "\n".join(_lost(report) or ["No pair was lost."]), **plain)
    for heading, examples in _listed(report, differing, most):
        console.print(f"\n{heading}", **plain)
        for line in examples:
            console.print(f"  {line}", **plain)


def _as_markdown(
    report: ComparisonResult, apart: ComparisonResult | None, found: Collected, differing: Discordant, most: int
) -> str:
    from safekey.comparison.tables import markdown_table

    lines = [markdown_table(report)]
    if apart is not None:
        lines += [f"{APART}:", "", markdown_table(apart)]
    lines += [f"- {_inert(line)}" for line in [*_about(found), *_lost(report)]]
    for heading, examples in _listed(report, differing, most):
        lines += ["", f"{_inert(heading)}:", "", *(f"- {_inert(line)}" for line in examples)]
    return "\n".join(lines) + "\n"


def _inert(text: str) -> str:
    """Keep an id from becoming markup: no tags, links or line breaks."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{sign}" if sign in "\\`*_[]|!" else sign for sign in text)


def _as_json(report: ComparisonResult, found: Collected, differing: Discordant, most: int) -> dict[str, Any]:
    examples = [
        {"arm": arm, "metric": metric, "direction": direction, "count": count, "prompts": [asdict(row) for row in rows]}
        for (arm, metric), each in differing.items()
        for direction, (_, rows, count) in zip(
            ("arm_higher", "arm_lower"), _rows(each, arm, report.reference, most), strict=True
        )
    ]
    about = {"runs": found.runs, "seeds": found.seeds, "judges": found.judges, "notes": found.notes}
    return {"version": 1, **about, **asdict(report), "discordant": examples}
