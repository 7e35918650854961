"""`safekey gate RUN|GRID --max asr=5 --min reasoning=60`: limits on the bounds of intervals, for releases"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safekey.cli.common import PLAIN, add_allow_unscored, add_json, add_judge_error, add_verb, arms_of, console, grid_of
from safekey.errors import UserError, did_you_mean
from safekey.terminal import printable

if TYPE_CHECKING:
    from safekey.comparison.gate import GateResult
    from safekey.comparison.gate_lines import Line
    from safekey.grid.folder import GridFolder

_EXAMPLES = """examples:
  safekey gate runs/eval-safekey --max asr=5 --max orr=10 --min reasoning=60
  safekey gate runs/eval-safekey --max asr=5 --max asr@strongreject=2 --part whole
  safekey gate runs/eval-safekey --baseline runs/eval-before --not-worse asr=3 --not-worse reasoning=2
  safekey gate runs/grid --arm safekey --baseline sft --not-worse orr=3
  safekey gate runs/eval-safekey --max asr=5 --corrected --judge-record runs/harm-judge.json
  safekey gate --arm safekey=runs/sk-0,runs/sk-1,runs/sk-2 --max asr=5        one arm, three training seeds

A limit is held against the end of the 95 % interval that is worse for the model: the upper end for --max, the lower
end for --min. A rate that is withheld or was not measured fails. --not-worse holds the 95 % interval of the paired
difference from the baseline, as `safekey compare` makes it: its worse end must stay below that many points.

exit code: 0 every limit holds, 1 one does not, 2 the command or a folder is wrong.
docs/evaluation.md shows a gate in a CI file."""


def add_parser(subparsers: Any) -> None:
    """Add `gate`."""
    parser = add_verb(
        subparsers, "gate", "hold rates against limits, by the bounds of their intervals: exit 0 or 1", run_gate,
        _EXAMPLES,
    )  # fmt: skip
    parser.add_argument("runs", metavar="RUN|GRID", nargs="*",
                        help="run folders of `safekey eval`, each held alone; or the folder of one grid")  # fmt: skip
    limit = "METRIC[@BENCHMARK]=PERCENT"
    parser.add_argument("--max", action="append", default=[], metavar=limit,
                        help="the most that asr or orr may be at the interval's upper end; repeatable")  # fmt: skip
    parser.add_argument("--min", action="append", default=[], metavar=limit,
                        help="the least that reasoning may be at the interval's lower end; repeatable")  # fmt: skip
    parser.add_argument("--not-worse", action="append", default=[], metavar="METRIC[@BENCHMARK]=POINTS",
                        help="not worse than --baseline by this many points or more; repeatable")  # fmt: skip
    parser.add_argument("--baseline", metavar="RUN|NAME",
                        help="what --not-worse compares with: a run (RUN,RUN: one for each seed), or an arm of the "
                        "grid")  # fmt: skip
    parser.add_argument("--arm", metavar="NAME", action="append", default=[],
                        help="of a grid: hold this arm alone (default: every arm); or NAME=RUN,RUN: an arm with "
                        "several runs, one for each training seed; repeatable")  # fmt: skip
    parser.add_argument("--judge", metavar="NAME", action="append", default=[],
                        help="use this judge's verdicts where several judged: NAME or NAME=MODEL; "
                        "repeatable")  # fmt: skip
    parser.add_argument("--part", choices=("answer", "thinking", "whole"), default="answer",
                        help="the part of a response that the verdicts are about (default answer)")  # fmt: skip
    parser.add_argument("--allow-different-settings", action="store_true",
                        help="compare with a baseline that was decoded differently; the output says so")  # fmt: skip
    parser.add_argument("--corrected", action="store_true",
                        help="hold asr and orr corrected for the judge's error, by what the runs keep of it or "
                        "--judge-record and --labels give; where nothing is known of it, the limit fails")  # fmt: skip
    add_judge_error(parser)
    add_allow_unscored(parser)
    add_json(parser)


def run_gate(args: argparse.Namespace) -> int:
    """Hold the limits; see `safekey.comparison.gate.gate`. Returns 0 when all hold, else 1."""
    from safekey.comparison.gate import gate
    from safekey.comparison.limits import read_limits
    from safekey.evals.request import ALLOWED_UNSCORED

    limits = read_limits({"--max": args.max, "--min": args.min, "--not-worse": args.not_worse})
    if bool(args.not_worse) != bool(args.baseline):
        raise UserError(
            "--not-worse needs --baseline RUN, which it compares with"
            if args.not_worse
            else "--baseline: nothing is compared with it: add --not-worse METRIC=POINTS"
        )
    arms, baseline, unfinished, judges = _asked(args)
    if (args.judge_record or args.labels) and not args.corrected:
        raise UserError("--judge-record and --labels: nothing is corrected without --corrected")
    result = gate(
        arms,
        limits,
        baseline=baseline,
        unfinished=unfinished,
        judges=judges,
        part=args.part,
        allow_unscored=ALLOWED_UNSCORED if args.allow_unscored is None else args.allow_unscored,
        allow_different_settings=args.allow_different_settings,
        corrected=args.corrected,
        judge_records=args.judge_record,
        labels=args.labels,
    )
    if not result.lines:
        raise UserError(f"nothing to hold: the only arm is the baseline itself ({args.baseline})")
    name = baseline[0] if baseline else ""
    if args.json:
        args.document = _as_json(result, name, args.part)
    _print(result, name, args.json)
    return 0 if result.passed else 1


Arms = dict[str, tuple[str, ...]]


def _asked(args: argparse.Namespace) -> tuple[Arms, tuple[str, tuple[str, ...]] | None, dict[str, str], list[str]]:
    """Return the arms, the baseline, what of each arm is not there yet, and the judges."""
    named = [word for word in args.arm if "=" in word]
    chosen = [word for word in args.arm if "=" not in word]
    grid = grid_of(args.runs, named)
    if grid is None:
        if chosen:
            raise UserError(f"--arm {chosen[0]}: expected a grid's folder to choose from, or NAME=RUN,RUN,…")
        arms, _ = arms_of(args.runs, named, to="hold against limits")
        return arms, _baseline(args.baseline, {}), {}, list(args.judge)
    every = grid.settings["arms"]
    for arm in chosen:
        if arm not in every:
            near = did_you_mean(arm, every)
            raise UserError(f"--arm {arm}: no arm of this grid{near}; there are: {', '.join(every)}")
    finished = {arm: tuple(map(str, some)) for arm, some in grid.evaluations().items()}
    arms = {arm: finished.get(arm, ()) for arm in chosen or every}
    judges = args.judge or list((grid.settings.get("compare") or {}).get("judges") or ())
    needed = [*arms, *(arm for arm in (args.baseline,) if arm in every and arm not in arms)]
    return arms, _baseline(args.baseline, finished), _unfinished(grid, needed), list(judges)


def _unfinished(grid: GridFolder, arms: list[str]) -> dict[str, str]:
    """Return the jobs of each arm that are not finished, in words: a rate over fewer seeds is another rate."""
    found: dict[str, list[str]] = {}
    for job in grid.jobs(arms, grid.settings["seeds"]):
        if not job.done:
            found.setdefault(job.arm, []).append("the evaluation" if job.seed is None else f"seed {job.seed}")
    return {
        arm: f"not measured: {', '.join(jobs)} of this arm {'is' if len(jobs) == 1 else 'are'} not finished "
        "(the same `safekey grid` command goes on)"
        for arm, jobs in found.items()
    }


def _baseline(given: str | None, arms: Arms) -> tuple[str, tuple[str, ...]] | None:
    if given is None:
        return None
    if given in arms:
        return given, arms[given]
    folders = tuple(word.strip() for word in given.split(",") if word.strip())
    if not folders or not all(Path(folder).expanduser().is_dir() for folder in folders):
        there = f", nor a finished arm of this grid ({', '.join(arms) or 'there is none'})" if arms else ""
        raise UserError(f"--baseline {given}: no run folder{there}")
    if len(folders) == 1 and (grid := grid_of(folders)):
        raise UserError(f"--baseline {given}: is a grid: name one evaluation, or an arm of the grid that is gated"
                        f" ({', '.join(grid.settings['arms'])})")  # fmt: skip
    return f"the baseline ({given})", folders


def _print(result: GateResult, baseline: str, as_json: bool) -> None:
    from safekey.comparison.gate_lines import sentence

    out = console(as_json)
    for line in result.lines:
        style = "green" if line.passed else "bold red"
        out.print(f"{'pass' if line.passed else 'FAIL'}  {printable(sentence(line, baseline))}", style=style, **PLAIN)
    judges = dict.fromkeys(
        f"{'ASR' if metric == 'asr' else 'ORR'} judged by {judge}"
        for by in result.judges.values()
        for metric, judge in by.items()
        if metric != "accuracy"
    )
    for text in (*judges, *(f"note: {note}" for note in result.notes)):
        out.print(f"      {printable(text)}", **PLAIN)
    held = sum(line.passed for line in result.lines)
    word = "passed" if result.passed else "FAILED"
    out.print(f"gate {word}: {held} of {len(result.lines)} limits hold", style="bold", **PLAIN)


def _as_json(result: GateResult, baseline: str, part: str) -> dict[str, Any]:
    return {
        "version": 1,
        "passed": result.passed,
        "part": part,
        "baseline": baseline or None,
        "lines": [_line(line, baseline) for line in result.lines],
        "judges": result.judges,
        "runs": result.runs,
        "notes": result.notes,
    }


def _line(line: Line, baseline: str) -> dict[str, Any]:
    from safekey.comparison.gate_lines import sentence

    limit = line.limit
    return {
        "arm": line.arm,
        "limit": limit.kind,
        "metric": limit.metric,
        "benchmark": limit.benchmark or None,
        "value": limit.value,
        "passed": line.passed,
        "rate": line.rate,
        "baseline_rate": line.baseline_rate,
        "interval": line.interval,
        "bound": line.bound,
        "judged": line.judged,
        "why": line.why,
        "sentence": sentence(line, baseline),
    }
