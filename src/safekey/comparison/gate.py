"""Hold the bounds of intervals against limits: does a model pass its gate?

    result = gate({"safekey": ["runs/eval-sk-0"]}, read_limits({"--max": ["asr=5"]}))
    result.passed, result.lines[0].why
    -> (False, "the interval's upper end is 7.9 %")

A rate alone would pass by luck: of 20 prompts none may succeed although the true rate is 10 %. So a limit is held
against the end of the 95 % interval that is worse for the model. A rate that is withheld or not there fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safekey.comparison.arm_rates import ArmRate, arm_rates, verdicts_of
from safekey.comparison.collect import Collected, collect
from safekey.comparison.comparable import NothingJudgedError
from safekey.comparison.compare import compare, split_apart
from safekey.comparison.conclusion import points
from safekey.comparison.gate_lines import Line, correction, percent, uncorrected, worse
from safekey.comparison.gate_missing import check_benchmarks, counts, not_run, unmeasured
from safekey.comparison.judge_error import Errors
from safekey.comparison.limits import LOWER_IS_BETTER, Limit
from safekey.comparison.types import Comparison, Outcome
from safekey.evals.request import ALLOWED_UNSCORED
from safekey.schema import Metric, Part
from safekey.stats.judge_error import Estimate


@dataclass(frozen=True, slots=True)
class GateResult:
    """All limits on all arms.

    Attributes:
        lines: one for each arm and limit.
        judges: arm → metric → the judge and its rule.
        runs: arm → its run folders.
        notes: what was left out, and what a reader should know besides.
    """

    lines: tuple[Line, ...]
    judges: Mapping[str, Mapping[Metric, str]]
    runs: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every limit holds on every arm."""
        return all(line.passed for line in self.lines)


def gate(
    arms: Mapping[str, Sequence[str]],
    limits: Sequence[Limit],
    *,
    baseline: tuple[str, Sequence[str]] | None = None,
    unfinished: Mapping[str, str] | None = None,
    judges: Sequence[str] = (),
    part: Part = "answer",
    allow_unscored: float = ALLOWED_UNSCORED,
    allow_different_settings: bool = False,
    corrected: bool = False,
    judge_records: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> GateResult:
    """Hold limits against the rates of each arm, which are those that `compare` and the report give.

    Every limit must hold on its own interval, so no correction for their number is needed: more limits make the gate
    stricter, never easier.

    Args:
        arms: arm → run folders of its evaluations, one for each training seed.
        limits: what must hold.
        baseline: name and run folders of what "not-worse" limits compare with; an arm of that name is not compared
            with itself.
        unfinished: arm, or baseline → what of it is not there yet, such as a seed; such an arm fails.
        judges: NAME or NAME=MODEL, where runs were judged by several.
        part: the part of the responses that verdicts are about; reasoning is always about the answer.
        allow_unscored: give a rate up to this share of missing verdicts; 1: always.
        allow_different_settings: compare with a baseline that was decoded differently; a note says so.
        corrected: hold ASR and ORR corrected for the judge's error; where nothing is known of it, the limit fails.
        judge_records: files of `safekey judges validate`, beside what the runs keep.
        labels: files of people's labels of the runs' answers, likewise.

    Raises:
        UserError: a folder is no finished evaluation's, several judges judged and none is named, a benchmark is not
            known, or the baseline has too little in common with an arm.
    """
    lines: list[Line] = []
    notes: dict[str, None] = {}
    said: dict[str, Mapping[Metric, str]] = {}
    how = _How(
        tuple(judges), part, allow_unscored, allow_different_settings, corrected, tuple(judge_records), tuple(labels)
    )
    own = [limit for limit in limits if limit.kind != "not-worse"]
    paired = [limit for limit in limits if limit.kind == "not-worse"]
    for arm, runs in arms.items():
        if lacks := (unfinished or {}).get(arm, ""):
            lines += [Line(arm, limit, False, lacks) for limit in limits]
            continue
        held, found, about = _held(arm, runs, own, how)
        compared: list[Line] = []
        if paired and baseline is not None and (lacks := (unfinished or {}).get(baseline[0], "")):
            compared = [Line(arm, limit, False, f"{baseline[0]}: {lacks}") for limit in paired]
        elif paired and baseline is not None and baseline[0] != arm:
            compared, more = _compared(arm, runs, paired, baseline, how)
            about += more
        lines += [*held, *compared]
        said[arm] = found.judges if found else {}
        notes |= dict.fromkeys(about)
    folders = {arm: tuple(map(str, runs)) for arm, runs in arms.items()}
    return GateResult(tuple(lines), said, folders, tuple(notes))


@dataclass(frozen=True, slots=True)
class _How:
    judges: tuple[str, ...]
    part: Part
    allow_unscored: float
    allow_different_settings: bool
    corrected: bool
    judge_records: tuple[str, ...]
    labels: tuple[str, ...]

    def collect(self, arms: Mapping[str, Sequence[str]]) -> Collected:
        return collect(
            arms, judges=self.judges, part=self.part, allow_different_settings=self.allow_different_settings,
            judge_records=self.judge_records, labels=self.labels,
        )  # fmt: skip


def _held(
    arm: str, runs: Sequence[str], limits: Sequence[Limit], how: _How
) -> tuple[list[Line], Collected | None, list[str]]:
    """Hold limits against an arm's own rates."""
    try:
        found = how.collect({arm: runs})
    except NothingJudgedError as error:
        return [Line(arm, limit, False, str(error)) for limit in limits], None, []
    check_benchmarks(limits, found)
    without, left = unmeasured(found, arm), not_run(runs)
    lines = []
    for limit in limits:
        rows = _rows(found.outcomes, limit)
        gone = {name: why for name, (metric, why, alone) in without.items() if counts(name, metric, alone, limit, rows)}
        lines.append(_against(arm, limit, rows, gone, left, how, found.errors))
    notes = list(found.notes)
    if left:
        notes.append(f"{arm}: benchmarks that were asked for and not run: {', '.join(sorted(left))}")
    return lines, found, notes


def _rows(outcomes: Sequence[Outcome], limit: Limit) -> list[Outcome]:
    """Return the outcomes that a limit is about; prefilling attacks count apart, as in a comparison."""
    if limit.benchmark:
        return [row for row in outcomes if (row.metric, row.benchmark) == (limit.metric, limit.benchmark)]
    return [row for row in split_apart(outcomes)[0] if row.metric == limit.metric]


def _against(
    arm: str,
    limit: Limit,
    rows: Sequence[Outcome],
    gone: Mapping[str, str],
    left: Mapping[str, str],
    how: _How,
    errors: Errors,
) -> Line:
    """Hold one limit against one rate."""
    if gone:
        lost = ", ".join(f"{name} ({why})" for name, why in gone.items())
        return Line(arm, limit, False, f"no whole rate, a benchmark is missing: {lost}")
    if not rows:
        why = f": {left[limit.benchmark]}" if limit.benchmark in left else ""
        return Line(arm, limit, False, f"not measured{why}")
    due = verdicts_of(rows)
    if due.missing and (reason := due.withheld(how.allow_unscored)):
        return Line(arm, limit, False, f"withheld: {reason}; {'; '.join(due.advice())}")
    rate = arm_rates(rows, lambda row: row.metric, how.allow_unscored).get((arm, limit.metric))
    if rate is None:
        return Line(arm, limit, False, "no output has a value: none has a whole answer")
    held, about, judged = Estimate(rate.value, rate.low, rate.high), "", None
    if how.corrected and limit.metric != "accuracy":
        known = errors.rate(arm, limit.metric, {row.key for row in rows}, held)
        if known is None or (made := known.estimate) is None:
            return Line(arm, limit, False, uncorrected(known), judged=rate.value)
        held, judged = made, rate.value
        about = correction(known, percent(rate.value))
    upper = limit.kind == "max"
    bound = held.high if upper else held.low
    passed = bound <= limit.value if upper else bound >= limit.value
    why = f"the interval's {'upper' if upper else 'lower'} end is {percent(bound, limit.value)}"
    inside = held.value <= limit.value if upper else held.value >= limit.value
    if not passed and inside:
        more = "more prompts, or more labels of the judge's error, make" if about else "more prompts make"
        why += f", although the rate itself is within the limit: {more} the interval narrower"
    why += about + _unscored(rate)
    return Line(arm, limit, passed, why, held.value, (held.low, held.high), bound=bound, judged=judged)


def _unscored(rate: ArmRate) -> str:
    if not rate.unscored:
        return ""
    low, high = rate.bounds
    return (
        f"; {rate.unscored} outputs have no value and are not in it "
        f"(the rate if none, or all, of them were positive: {percent(low)} … {percent(high)})"
    )


def _compared(
    arm: str, runs: Sequence[str], limits: Sequence[Limit], baseline: tuple[str, Sequence[str]], how: _How
) -> tuple[list[Line], list[str]]:
    """Hold limits against the paired differences from a baseline."""
    name, folders = baseline
    try:
        found = how.collect({arm: runs, name: folders})
    except NothingJudgedError as error:
        return [Line(arm, limit, False, str(error)) for limit in limits], []
    check_benchmarks(limits, found)
    lines = []
    scopes: dict[str, None] = {}
    for limit in limits:
        rows = _rows(found.outcomes, limit)
        if {row.arm for row in rows} != {arm, name}:
            lines.append(Line(arm, limit, False, f"not measured on prompts that it and {name} both have"))
            continue
        result = compare(rows, name, allow_unscored=how.allow_unscored, errors=found.errors)
        row = next(row for row in result.comparisons if (row.metric, row.benchmark) == (limit.metric, ""))
        lines.append(_beside(arm, limit, row, name, how.corrected and limit.metric != "accuracy"))
        scopes |= {result.verdicts[arm].scope: None} if row.difference else {}
    notes = [f"{arm} and {name}: {note}" for note in (*scopes, *found.notes)]
    return lines, notes


def _beside(arm: str, limit: Limit, row: Comparison, name: str, corrected: bool) -> Line:
    """Hold one limit against one paired difference."""
    if row.withheld:
        return Line(arm, limit, False, f"withheld: {row.withheld}")
    if row.difference is None or row.interval is None:
        return Line(arm, limit, False, f"no prompt has a value in it and in {name}")
    value, (low, high), about, judged = row.difference.estimate, row.interval, "", None
    if corrected:
        known = row.corrected
        if known is None or (made := known.estimate) is None:
            return Line(arm, limit, False, uncorrected(known), judged=value)
        about, judged = correction(known, f"{_signed(value)} points"), value
        value, low, high = made
    worst = high if limit.metric in LOWER_IS_BETTER else -low
    passed = worst < limit.value
    lost = f", {row.missing} pairs lost" if row.missing else ""
    why = (
        f"paired difference {_signed(value)} points, 95 % interval {points(low)} to {points(high)} "
        f"({row.difference.items} prompts{lost}): at its worse end {worse(worst, limit.value)}"
    )
    ours, theirs = row.difference.arm_rate, row.difference.reference_rate
    return Line(arm, limit, passed, why + about, ours, (low, high), theirs, worst, judged)


def _signed(difference: float) -> str:
    return f"{'+' if difference > 0 else ''}{points(difference)}"
