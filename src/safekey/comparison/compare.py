"""Compare arms with a reference: paired differences, intervals, corrected tests and a verdict in words.

Each arm meets the reference on the prompts that both answered, for attack success, over-refusal and accuracy alike::

    report = compare(outcomes, reference="sft")
    report.verdicts["safekey"].sentence
    # "safekey is better than sft: ASR 41.0 → 12.0 %, 29.0 points lower (simultaneous interval −36.0 to −21.5; …"
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from safekey.comparison.conclusion import ArmVerdict, judge
from safekey.comparison.pairing import (
    METRICS,
    Cells,
    Discordances,
    Metric,
    Outcome,
    Pairing,
    Seed,
    discordances,
    gather,
    pair,
)
from safekey.errors import UserError
from safekey.stats.difference import Difference, difference
from safekey.stats.paired import holm
from safekey.stats.power import Needed, minimal_difference, needed

Interval = tuple[float, float]

APART = ("prefill",)
"""Benchmarks compared on their own: a prefilling attack holds the model's pen, another threat than a prompt's."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One arm against the reference on one metric.

    Attributes:
        arm: the arm's name.
        reference: the reference's name.
        metric: "asr", "orr" or "accuracy".
        benchmark: "" for all benchmarks of the metric together, else one of them.
        difference: the estimate; None when not one pair could be compared, and then the next seven are None, too.
        interval: its 95 % interval (1 − alpha), for this comparison alone.
        simultaneous: Bonferroni's interval: all of the report's hold together with 95 %. Where Holm's test rejects
            and this one still reaches over 0, it ends at 0: the test speaks for the sign alone.
        margin_interval: the interval whose edge is held against the margin, corrected for the number of arms.
        p: two-sided p for "no difference".
        p_adjusted: Holm's, over all comparisons of the report.
        minimal: the smallest true difference found with 80 % power at the corrected level; None also when there is
            none.
        needed: the size at which the difference seen would be found with 80 % power.
        lost: pairs without a value, by side and reason; a pair that lacks both sides counts twice.
        missing: how many pairs were lost.
        expected: how many there would have been.
        bounds: the least and the greatest difference that any values in place of the missing would give.
        left_out: seeds that only one of the two arms has.
    """

    arm: str
    reference: str
    metric: Metric
    benchmark: str
    difference: Difference | None
    interval: Interval | None
    simultaneous: Interval | None
    margin_interval: Interval | None
    p: float | None
    p_adjusted: float | None
    minimal: float | None
    needed: Needed | None
    lost: Mapping[str, int]
    missing: int
    expected: int
    bounds: Interval
    left_out: tuple[Seed, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All arms against one reference.

    Attributes:
        reference: its name.
        comparisons: one for each arm and metric, and for each benchmark when asked for.
        verdicts: by arm, in the arms' order.
        alpha: the family-wise error, and 1 − the intervals' level.
        margin: how much worse over-refusal or accuracy may be, 0–1.
        family: over how many comparisons p was corrected.
    """

    reference: str
    comparisons: tuple[Comparison, ...]
    verdicts: Mapping[str, ArmVerdict]
    alpha: float
    margin: float
    family: int


def compare(
    outcomes: Iterable[Outcome],
    reference: str,
    *,
    arms: Sequence[str] | None = None,
    margin: float = 0.03,
    alpha: float = 0.05,
    mid_p: bool = False,
    by_benchmark: bool = False,
) -> Report:
    """Compare arms with a reference on the prompts that both answered.

    Args:
        outcomes: every run's outcomes, in any order.
        reference: the arm that the others are held against.
        arms: which arms, and in which order; default: all others, in order of appearance.
        margin: noninferiority margin for over-refusal and accuracy, 0–1.
        alpha: family-wise error.
        mid_p: McNemar's mid-p in place of the exact p where that test applies.
        by_benchmark: also compare on each benchmark alone; these join the family that p is corrected over. A metric
            with one benchmark is not compared twice.

    Raises:
        UserError: an arm has no outcomes, there is no other arm, or an outcome is not valid (see `gather`).
    """
    if not (0.0 < alpha < 1.0 and 0.0 <= margin <= 1.0):
        raise UserError(f"alpha must lie between 0 and 1 and margin within 0–1; got {alpha} and {margin}")
    found = gather(outcomes)
    wanted = list(dict.fromkeys(arms)) if arms is not None else [name for name in found if name != reference]
    for name in [reference, *wanted]:
        if name not in found:
            raise UserError(f"no outcomes of '{name}'; there are outcomes of {', '.join(found) or 'no arm at all'}")
    if not wanted or reference in wanted:
        raise UserError(f"nothing to compare with '{reference}': name at least one other arm")
    rows = [
        (name, metric, benchmark, pair(ours, theirs, (name, reference)))
        for name in wanted
        for metric in METRICS
        for benchmark, ours, theirs in _splits(
            found[name].get(metric, {}), found[reference].get(metric, {}), by_benchmark
        )
    ]
    comparisons = _corrected(rows, reference, len(wanted), alpha, mid_p)
    family = sum(row.p is not None for row in comparisons)
    verdicts = {
        name: judge(
            name,
            reference,
            {row.metric: row for row in comparisons if row.arm == name and not row.benchmark},
            alpha,
            margin,
            family,
        )
        for name in wanted
    }
    return Report(reference, comparisons, verdicts, alpha, margin, family)


def split_apart(outcomes: Iterable[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """Return what the headline is about, and the benchmarks of `APART`; without others these are the headline."""
    rows = list(outcomes)
    together = [row for row in rows if row.benchmark not in APART]
    return (together, [row for row in rows if row.benchmark in APART]) if together else (rows, [])


def discordant(outcomes: Iterable[Outcome], arm: str, reference: str, metric: Metric) -> Discordances:
    """List the prompts on which an arm and the reference differ, in both directions, most informative first."""
    found = gather(row for row in outcomes if row.metric == metric and row.arm in (arm, reference))
    ours, theirs = (found.get(name, {}).get(metric, {}) for name in (arm, reference))
    return discordances(pair(ours, theirs, (arm, reference)))


def _splits(ours: Cells, theirs: Cells, by_benchmark: bool) -> list[tuple[str, Cells, Cells]]:
    if not ours and not theirs:
        return []
    rows = [("", ours, theirs)]
    names = sorted({key[0] for cells in (ours, theirs) for run in cells.values() for key in run})
    if by_benchmark and len(names) > 1:
        rows += [(name, _only(ours, name), _only(theirs, name)) for name in names if name]
    return rows


def _only(cells: Cells, benchmark: str) -> Cells:
    kept = {seed: {key: row for key, row in run.items() if key[0] == benchmark} for seed, run in cells.items()}
    return {seed: run for seed, run in kept.items() if run}


def _estimate(pairing: Pairing) -> Difference | None:
    if not pairing.arm.size or not pairing.reference.size:
        return None
    try:
        return difference(pairing.arm, pairing.reference, pairing.clusters, pairing.matched)
    except ValueError:
        return None


def _corrected(
    rows: Sequence[tuple[str, Metric, str, Pairing]], reference: str, arms: int, alpha: float, mid_p: bool
) -> tuple[Comparison, ...]:
    estimates = [_estimate(pairing) for *_, pairing in rows]
    p_values = [None if estimate is None else estimate.p_value(mid_p) for estimate in estimates]
    adjusted = iter(holm([p for p in p_values if p is not None]))
    family = max(sum(p is not None for p in p_values), 1)
    found = []
    for (name, metric, benchmark, pairing), estimate, p in zip(rows, estimates, p_values, strict=True):
        p_adjusted = None if p is None else next(adjusted)
        low_high = None if estimate is None else estimate.interval(alpha / family)
        if estimate is not None and low_high is not None and p_adjusted is not None and p_adjusted <= alpha:
            low_high = (
                (max(low_high[0], 0.0), low_high[1]) if estimate.estimate > 0 else (low_high[0], min(low_high[1], 0.0))
            )
        found.append(
            Comparison(
                arm=name,
                reference=reference,
                metric=metric,
                benchmark=benchmark,
                difference=estimate,
                interval=None if estimate is None else estimate.interval(alpha),
                simultaneous=low_high,
                margin_interval=None if estimate is None else estimate.interval(alpha / arms),
                p=p,
                p_adjusted=p_adjusted,
                minimal=None if estimate is None else minimal_difference(estimate, alpha / family),
                needed=None if estimate is None else needed(estimate, alpha / family),
                lost=pairing.lost,
                missing=pairing.missing,
                expected=pairing.expected,
                bounds=pairing.bounds,
                left_out=pairing.left_out,
            )
        )
    return tuple(found)
