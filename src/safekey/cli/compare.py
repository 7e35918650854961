"""`safekey compare`: evaluation runs against a reference, with intervals, corrected tests and a verdict in words."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from safekey.cli.common import (
    PLAIN,
    add_comparison,
    add_json,
    add_judge_error,
    add_runs,
    add_verb,
    arms_of,
    console,
    grid_of,
    whole,
)
from safekey.errors import UserError
from safekey.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

    from safekey.comparison.collect import Collected
    from safekey.comparison.types import ComparisonResult, Discordance, Discordances

    Discordant = Mapping[tuple[str, str], Discordances]  # arm, metric

APART = "The prefilling attack, apart (the attacker writes the start of the model's reasoning)"
_TITLES = {"asr": "ASR", "orr": "ORR", "accuracy": "reasoning"}
_EXAMPLES = """examples:
  safekey compare runs/eval-sft runs/eval-safekey runs/eval-qmm          the first is the reference
  safekey compare --arm sft=runs/sft-0,runs/sft-1,runs/sft-2 --arm safekey=runs/sk-0,runs/sk-1 --by-benchmark
  safekey compare runs/grid-organism --by-benchmark                     a grid: its arms, its reference
  safekey compare runs/eval-sft runs/eval-safekey --judge harm_1to5 --markdown > table.md

docs/statistics.md explains what is paired, the intervals and the verdicts."""


def add_parser(subparsers: Any) -> None:
    """Add `compare`."""
    text = "compare evaluation runs: paired differences, intervals, a verdict for each arm"
    parser = add_verb(subparsers, "compare", text, run_compare, _EXAMPLES)
    add_runs(parser)
    add_comparison(parser)
    add_judge_error(parser)
    parser.add_argument("--by-benchmark", action="store_true", help="also compare on each benchmark alone")
    parser.add_argument("--discordant", type=whole(0), default=5, metavar="N",
                        help="list N prompts on which two arms differ, for each direction (default 5)")  # fmt: skip
    output = parser.add_mutually_exclusive_group()
    add_json(output)
    output.add_argument("--markdown", action="store_true", help="print Markdown, for a paper or a model card")


def run_compare(args: argparse.Namespace) -> int:
    """Compare; see `safekey.comparison.compare` and `safekey.comparison.collect`."""
    arms, reference, margin, judges, allowed = _asked(args)
    from safekey.comparison.collect import collect
    from safekey.comparison.compare import compare, discordant, split_apart
    from safekey.comparison.types import METRICS

    found = collect(
        arms, judges=judges, part=args.part, allow_different_settings=args.allow_different_settings,
        judge_records=args.judge_record, labels=args.labels,
    )  # fmt: skip
    outcomes, alone = split_apart(found.outcomes)
    how: dict[str, Any] = {"margin": margin, "allow_unscored": allowed, "errors": found.errors}
    report = compare(outcomes, reference, by_benchmark=args.by_benchmark, **how)
    apart = compare(alone, reference, **how) if alone else None
    measured = {(row.arm, row.metric) for row in report.comparisons}
    differing: Discordant = {
        (arm, metric): discordant(outcomes, arm, reference, metric)
        for arm in report.verdicts
        for metric in METRICS
        if (arm, metric) in measured
    }
    if args.json:
        args.document = _as_json(report, apart, found, differing, args.discordant)
    elif args.markdown:
        print(printable(_as_markdown(report, apart, found, differing, args.discordant)), end="")
    else:
        _print(report, apart, found, differing, args.discordant)
    return 0


def _asked(args: argparse.Namespace) -> tuple[dict[str, tuple[str, ...]], str, float, Sequence[str], float]:
    """Return arms, reference, margin, judges and the share of verdicts that may be missing.

    Of a grid's folder, what is not said is as the grid compared.
    """
    from safekey.evals.request import ALLOWED_UNSCORED
    from safekey.grid.arms import MARGIN, REFERENCE

    grid = grid_of(args.runs, args.arm)
    if grid is None:
        arms, reference = arms_of(args.runs, args.arm, args.reference, least=2)
        allowed = ALLOWED_UNSCORED if args.allow_unscored is None else args.allow_unscored
        return arms, reference, MARGIN if args.margin is None else args.margin, args.judge, allowed
    arms = {arm: tuple(map(str, some)) for arm, some in grid.evaluations().items()}
    compared = grid.settings.get("compare") or {}
    reference = args.reference or str(compared.get("reference", REFERENCE))
    if len(arms) < 2 or reference not in arms:
        raise UserError(f"{args.runs[0]}: no two arms of this grid are finished, '{reference}' among them")
    margin = float(compared.get("margin", MARGIN)) if args.margin is None else args.margin
    allowed = float(compared.get("allow_unscored", ALLOWED_UNSCORED))
    allowed = allowed if args.allow_unscored is None else args.allow_unscored
    return arms, reference, margin, args.judge or list(compared.get("judges") or ()), allowed


def _about(found: Collected) -> list[str]:
    """Return what was compared, a line for each arm, each judge and each note."""
    lines = []
    for arm, runs in found.runs.items():
        seeds = found.seeds[arm]
        said = f" (seeds {', '.join(map(str, seeds))})" if all(isinstance(seed, int) for seed in seeds) else ""
        lines.append(f"{arm}: {', '.join(runs)}{said}")
    lines += [f"{_TITLES[metric]} judged by {judge}" for metric, judge in found.judges.items()]
    return [printable(line) for line in [*lines, *(f"note: {note}" for note in found.notes)]]


def _lost(report: ComparisonResult) -> Iterator[str]:
    """Yield a line for each comparison that lacks pairs."""
    for row in report.comparisons:
        if row.missing and not row.benchmark:
            reasons = ", ".join(f"{reason} {count}" for reason, count in row.lost.items())
            lost = f"{row.missing} of {row.expected} pairs lost ({reasons})"
            yield printable(f"{row.arm}, {_TITLES[row.metric]}: {lost}")


def _directions(differing: Discordant) -> Iterator[tuple[str, str, str, Sequence[Discordance]]]:
    """Yield arm, metric, "higher" or "lower", and the prompts on which the arm is so, also where there are none."""
    for (arm, metric), found in differing.items():
        yield arm, metric, "higher", found.arm_higher
        yield arm, metric, "lower", found.arm_lower


def _example(row: Discordance) -> str:
    behaviour = row.cluster.partition("/")[2]
    shared = f", behaviour {behaviour}" if behaviour and behaviour != row.item else ""
    runs = f", {row.runs} runs" if row.runs > 1 else ""
    name = f"{row.benchmark}: {row.item}"
    return printable(f"{name} ({row.reference_mean:.2g} → {row.arm_mean:.2g}{shared}{runs})")


def _listed(report: ComparisonResult, differing: Discordant, most: int) -> Iterator[tuple[str, list[str]]]:
    """Yield a heading and examples for each arm, metric and direction in which prompts differ."""
    for arm, metric, way, rows in _directions(differing):
        if rows[:most]:
            prompts = f"{len(rows)} prompt{'s' if len(rows) > 1 else ''} with {arm} {way} than {report.reference}"
            shown = f", {most} shown" if most < len(rows) else ""
            yield f"{_TITLES[metric]}: {prompts}{shown}", [_example(row) for row in rows[:most]]


def _print(
    report: ComparisonResult, apart: ComparisonResult | None, found: Collected, differing: Discordant, most: int
) -> None:
    out = console()
    for line in _about(found):
        out.print(line, **PLAIN)
    out.print()
    print_comparison(out, report, apart)
    out.print("\n" + "\n".join(list(_lost(report)) or ["No pair was lost."]), **PLAIN)
    for heading, examples in _listed(report, differing, most):
        out.print(f"\n{heading}", **PLAIN)
        for line in examples:
            out.print(f"  {line}", **PLAIN)


def print_comparison(out: Console, report: ComparisonResult, apart: ComparisonResult | None) -> None:
    """Print the table, a verdict for each arm, and the prefilling attack."""
    from safekey.comparison.tables import rich_table

    out.print(rich_table(report))
    for verdict in report.verdicts.values():
        out.print(f"\n{printable(verdict.sentence)}", style="bold", **PLAIN)
        for line in (verdict.scope, *verdict.caveats):
            out.print(f"  {printable(line)}", **PLAIN)
    if apart is not None:
        out.print(f"\n{APART}:", **PLAIN)
        out.print(rich_table(apart))


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


def _as_json(
    report: ComparisonResult, apart: ComparisonResult | None, found: Collected, differing: Discordant, most: int
) -> dict[str, Any]:
    examples = [
        {"arm": arm, "metric": metric, "direction": f"arm_{way}", "count": len(rows),
         "prompts": [asdict(row) for row in rows[:most]]}
        for arm, metric, way, rows in _directions(differing)
    ]  # fmt: skip
    about = {"runs": found.runs, "seeds": found.seeds, "judges": found.judges, "notes": found.notes}
    return {"version": 1, **about, **asdict(report), "discordant": examples,
            "apart": None if apart is None else asdict(apart)}  # fmt: skip
