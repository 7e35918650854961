"""Compare arms with a reference: paired differences, intervals, corrected tests and a verdict in words.

Each arm is compared on the prompts that it and the reference both answered::

    result = compare(outcomes, reference="sft")
    result.verdicts["safekey"].sentence
    # "safekey is better than sft: ASR 29.0 points lower (41.0 → 12.0 %, simultaneous interval −36.0 to −21.5, …"
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from safekey.comparison.arm_rates import rate, verdicts_of
from safekey.comparison.conclusion import conclude
from safekey.comparison.judge_error import Errors
from safekey.comparison.pairing import Cells, Pairing, discordances, pair, sort_outcomes
from safekey.comparison.types import (
    ALPHA,
    METRICS,
    Comparison,
    ComparisonResult,
    Discordances,
    Outcome,
    is_apart,
)
from safekey.errors import UserError
from safekey.evals.judge_error.correct import Correction
from safekey.evals.request import ALLOWED_UNSCORED
from safekey.schema import Metric
from safekey.stats.difference import Difference, difference
from safekey.stats.judge_error import Estimate
from safekey.stats.paired import holm
from safekey.stats.power import minimal_difference, needed


def compare(
    outcomes: Iterable[Outcome],
    reference: str,
    *,
    margin: float = 0.03,
    by_benchmark: bool = False,
    allow_unscored: float = ALLOWED_UNSCORED,
    errors: Errors | None = None,
) -> ComparisonResult:
    """Compare arms with a reference on the prompts that both answered.

    An untrained arm is described: it has estimates and intervals, but it is not among the comparisons that p is
    corrected for.

    Args:
        outcomes: every run's outcomes, in any order; each arm but the reference is compared with it.
        reference: the arm that the others are compared with.
        margin: noninferiority margin for over-refusal and accuracy, 0–1.
        by_benchmark: also compare on each benchmark alone; p is then corrected for these as well. A metric with one
            benchmark is not compared twice.
        allow_unscored: compare on a metric up to this share of missing verdicts on either side; 1: always.
        errors: what is known of the judges' errors: differences are given corrected for them as well. The tests and the
            verdicts are about the judged ones: a record moves no interval over 0.

    Raises:
        UserError: the reference has no outcomes, there is no other arm, or an outcome is not valid (see
            `sort_outcomes`).
    """
    if not 0.0 <= margin <= 1.0:
        raise UserError(f"the margin must lie within 0–1; got {margin}")
    rows = list(outcomes)
    found = sort_outcomes(rows)
    if reference not in found:
        raise UserError(f"no outcomes of '{reference}'; there are outcomes of {', '.join(found) or 'no arm at all'}")
    arms = [name for name in found if name != reference]
    if not arms:
        raise UserError(f"nothing to compare with '{reference}': there are no outcomes of another arm")
    pairings, withheld = {}, {}
    for name in arms:
        for metric in METRICS:
            sides = found[name].get(metric, {}), found[reference].get(metric, {})
            for benchmark, ours, theirs in _splits(*sides, by_benchmark):
                key = name, metric, benchmark
                pairings[key] = pair(ours, theirs, (name, reference))
                withheld[key] = _withheld({name: ours, reference: theirs}, allow_unscored)
    untrained = {row.arm for row in rows if row.untrained}
    comparisons = _compared(pairings, withheld, reference, untrained, errors or Errors())
    family = sum(row.p_adjusted is not None for row in comparisons)
    verdicts = {
        name: conclude(
            name,
            reference,
            {row.metric: row for row in comparisons if row.arm == name and not row.benchmark},
            margin,
            family,
        )
        for name in arms
    }
    return ComparisonResult(reference, comparisons, verdicts, ALPHA, margin, family)


def split_apart(outcomes: Iterable[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """Split outcomes into the main comparison and those apart; without any others, these are the main comparison."""
    rows = list(outcomes)
    together = [row for row in rows if not is_apart(row)]
    return (together, [row for row in rows if is_apart(row)]) if together else (rows, [])


def discordant(outcomes: Iterable[Outcome], arm: str, reference: str, metric: Metric) -> Discordances:
    """List the prompts on which an arm and the reference differ, in both directions, most informative first."""
    found = sort_outcomes(row for row in outcomes if row.metric == metric and row.arm in (arm, reference))
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


def _withheld(sides: Mapping[str, Cells], allowed: float) -> str:
    """Return why two arms are not compared: too many verdicts of a side are missing; "" where they are."""
    said = []
    for name, cells in sides.items():
        found = verdicts_of(row for run in cells.values() for row in run.values())
        if found.missing and (reason := found.withheld(allowed)):
            said.append(f"{name}: {reason} ({'; '.join(found.advice())})")
    return "; ".join(said)


def _estimate(pairing: Pairing) -> Difference | None:
    if not pairing.arm.size or not pairing.reference.size:
        return None
    try:
        return difference(pairing.arm, pairing.reference, pairing.clusters, pairing.matched)
    except ValueError:
        return None


def _compared(
    pairings: dict[tuple[str, Metric, str], Pairing],
    withheld: Mapping[tuple[str, Metric, str], str],
    reference: str,
    untrained: set[str],
    errors: Errors,
) -> tuple[Comparison, ...]:
    """Estimate every difference; correct p and intervals for the number of comparisons of trained arms."""
    rows = {key: _described(key, reference, pairing, withheld[key], errors) for key, pairing in pairings.items()}
    tested = {key: row.p for key, row in rows.items() if row.p is not None and key[0] not in untrained}
    arms = len({arm for arm, _, _ in pairings if arm not in untrained})
    for key, p_adjusted in zip(tested, holm(list(tested.values())), strict=True):
        rows[key] = _corrected(rows[key], p_adjusted, len(tested), arms)
    return tuple(rows.values())


def _described(
    key: tuple[str, Metric, str], reference: str, pairing: Pairing, withheld: str, errors: Errors
) -> Comparison:
    estimate = None if withheld else _estimate(pairing)
    return Comparison(
        arm=key[0],
        reference=reference,
        metric=key[1],
        benchmark=key[2],
        difference=estimate,
        interval=None if estimate is None else estimate.interval(ALPHA),
        p=None if estimate is None else estimate.p_value(),
        lost=pairing.lost,
        missing=pairing.missing,
        expected=pairing.expected,
        bounds=pairing.bounds,
        left_out=pairing.left_out,
        withheld=withheld,
        corrected=None if estimate is None else _true_difference(key, reference, pairing, estimate, errors),
    )


def _true_difference(
    key: tuple[str, Metric, str], reference: str, pairing: Pairing, estimate: Difference, errors: Errors
) -> Correction | None:
    """Return the difference corrected for the judge's error."""
    if key[1] == "accuracy":
        return None
    ours, theirs = (rate(table, pairing.clusters) for table in (pairing.arm, pairing.reference))
    return errors.difference(
        key[0],
        reference,
        key[1],
        pairing.keys,
        Estimate(ours.value, ours.low, ours.high),
        Estimate(theirs.value, theirs.low, theirs.high),
        Estimate(estimate.estimate, *estimate.interval(ALPHA)),
    )


def _corrected(row: Comparison, p_adjusted: float, family: int, arms: int) -> Comparison:
    estimate = row.difference
    assert estimate is not None
    low, high = estimate.interval(ALPHA / family)
    if p_adjusted <= ALPHA:  # Holm's test may reject where Bonferroni's interval still contains 0
        low, high = (max(low, 0.0), high) if estimate.estimate > 0 else (low, min(high, 0.0))
    return replace(
        row,
        simultaneous=(low, high),
        margin_interval=estimate.interval(ALPHA / arms),
        p_adjusted=p_adjusted,
        minimal=minimal_difference(estimate, ALPHA / family),
        needed=needed(estimate, ALPHA / family),
    )
