"""Put two arms side by side: the same prompts, and the same seeds where they match."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safekey.comparison.types import METRICS, Discordance, Discordances, Key, Outcome, Seed
from safekey.errors import UserError
from safekey.schema import Metric
from safekey.stats.difference import TIE
from safekey.stats.variance import OutcomeTable

Cells = dict[Seed, dict[Key, Outcome]]


def sort_outcomes(outcomes: Iterable[Outcome]) -> dict[str, dict[Metric, Cells]]:
    """Sort outcomes by arm, metric, seed and prompt.

    Raises:
        UserError: a value outside 0–1, an unknown metric, a prompt that has two outcomes in one run, or one that
            belongs to two behaviours.
    """
    found: dict[str, dict[Metric, Cells]] = {}
    behaviours: dict[tuple[Metric, Key], str] = {}
    for outcome in outcomes:
        where = f"arm '{outcome.arm}', seed {outcome.seed}, {outcome.metric} of '{outcome.item}'"
        if outcome.metric not in METRICS:
            raise UserError(f"{where}: unknown metric; expected one of {', '.join(METRICS)}")
        if outcome.value is not None and not (math.isfinite(outcome.value) and 0.0 <= outcome.value <= 1.0):
            raise UserError(
                f"{where}: {outcome.value} is not within 0–1; an outcome without a value is None, with a reason"
            )
        if behaviours.setdefault((outcome.metric, outcome.key), outcome.cluster) != outcome.cluster:
            raise UserError(f"{where}: belongs to behaviour '{outcome.cluster}' here and to another one elsewhere")
        run = found.setdefault(outcome.arm, {}).setdefault(outcome.metric, {}).setdefault(outcome.seed, {})
        if outcome.key in run:
            raise UserError(f"{where}: two outcomes; average the samples of a prompt first")
        run[outcome.key] = outcome
    return found


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two arms' outcomes as tables with the same columns.

    Attributes:
        arm: [seeds, items]; NaN: no value.
        reference: [seeds, items]; the rows are the same seeds when `matched`, and either side may have a single row.
        clusters: [items].
        keys: benchmark and item of each column.
        names: the behaviour of each column.
        matched: whether rows correspond.
        lost: how many pairs lack a value, by whose side and why: {"sft: truncated": 3}. A pair that lacks both counts
            twice.
        missing: pairs without a difference (runs × prompts on the larger side).
        expected: all such pairs.
        left_out: seeds that only one arm has, and that were left out for it.
    """

    arm: OutcomeTable
    reference: OutcomeTable
    clusters: NDArray[np.intp]
    keys: tuple[Key, ...]
    names: tuple[str, ...]
    matched: bool
    lost: Mapping[str, int]
    missing: int
    expected: int
    left_out: tuple[Seed, ...] = ()

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest difference that any values in place of the missing ones would give."""
        if not self.arm.size or not self.reference.size:
            return -1.0, 1.0
        low = np.nan_to_num(self.arm, nan=0.0).mean() - np.nan_to_num(self.reference, nan=1.0).mean()
        high = np.nan_to_num(self.arm, nan=1.0).mean() - np.nan_to_num(self.reference, nan=0.0).mean()
        return float(low), float(high)


def align(ours: Iterable[Seed], theirs: Iterable[Seed]) -> tuple[list[Seed], list[Seed], bool, tuple[Seed, ...]]:
    """Choose which seeds of two arms to compare: those in common when there are at least two, else all of both.

    A single run on either side is paired with every run of the other.

    Returns:
        the seeds of each side, whether they correspond, and those left out.
    """
    first, second = sorted(ours, key=_order), sorted(theirs, key=_order)
    common = [seed for seed in first if seed in set(second)]
    if min(len(first), len(second)) <= 1:
        return first, second, False, ()
    if len(common) >= 2:
        return common, common, True, tuple(seed for seed in [*first, *second] if seed not in set(common))
    return first, second, False, ()


def _order(seed: Seed) -> tuple[int, int, str]:
    return (0, seed, "") if isinstance(seed, int) else (1, 0, str(seed))


def pair(ours: Cells, theirs: Cells, names: tuple[str, str]) -> Pairing:
    """Lay two arms' outcomes on one metric side by side, and count what is missing and why.

    Args:
        ours: the arm's outcomes by seed and prompt.
        theirs: the reference's.
        names: the two arms' names, for the reasons.
    """
    rows, other_rows, matched, left_out = align(ours, theirs)
    prompts: dict[Key, str] = {}
    for run in [*(ours[seed] for seed in rows), *(theirs[seed] for seed in other_rows)]:
        prompts |= {key: outcome.cluster for key, outcome in run.items()}
    keys = sorted(prompts)
    sides = [ours[seed] for seed in rows], [theirs[seed] for seed in other_rows]
    arm, reference = (outcome_table(side, keys) for side in sides)
    lost = Counter(
        f"{name}: {_why_missing(run.get(key))}"
        for name, side in zip(names, sides, strict=True)
        for run in side
        for key in keys
        if key not in run or run[key].value is None
    )
    runs = max(len(rows), len(other_rows))
    if matched or 1 in (len(rows), len(other_rows)):
        missing = int(np.isnan(arm - reference).sum()) if keys else 0
    else:
        missing = int(max(np.isnan(arm).sum(), np.isnan(reference).sum()))
    return Pairing(
        arm,
        reference,
        cluster_numbers({key: prompts[key] for key in keys}),
        tuple(keys),
        tuple(prompts[key] or key[1] for key in keys),
        matched,
        dict(sorted(lost.items())),
        missing,
        runs * len(keys),
        left_out,
    )


def _why_missing(outcome: Outcome | None) -> str:
    return "not run" if outcome is None else outcome.unscored or "unscored"


def outcome_table(runs: Sequence[Mapping[Key, Outcome]], keys: Sequence[Key]) -> OutcomeTable:
    """Return the outcomes of several runs as a table [runs, prompts]; NaN: no value."""
    values = [[run[key].value if key in run else None for key in keys] for run in runs]
    return np.array(values, dtype=np.float64).reshape(len(runs), len(keys))


def cluster_numbers(prompts: Mapping[Key, str]) -> NDArray[np.intp]:
    """Number the behaviours of prompts; a prompt without a named behaviour ("") is a behaviour of its own."""
    groups = [("named", name) if name else ("own", *key) for key, name in prompts.items()]
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return np.array([numbers[group] for group in groups], dtype=np.intp)


def discordances(pairing: Pairing) -> Discordances:
    """List the prompts on which two arms differ, in both directions.

    First come those where most runs differ the same way; among equals those with more runs; then one of each
    behaviour before a second of any.
    """
    found = []
    for column, (benchmark, item) in enumerate(pairing.keys):
        ours, theirs = pairing.arm[:, column], pairing.reference[:, column]
        if pairing.matched or 1 in (ours.size, theirs.size):
            both = ~np.isnan(ours - theirs)
            ours, theirs = np.broadcast_to(ours, both.shape)[both], np.broadcast_to(theirs, both.shape)[both]
        else:
            ours, theirs = ours[~np.isnan(ours)], theirs[~np.isnan(theirs)]
        if ours.size and theirs.size:
            runs = int(min(ours.size, theirs.size))
            name = pairing.names[column]
            found.append(Discordance(item, benchmark, name, float(ours.mean()), float(theirs.mean()), runs))
    return Discordances(_ranked(found, 1.0), _ranked(found, -1.0))


def _ranked(found: Sequence[Discordance], sign: float) -> tuple[Discordance, ...]:
    def gap(row: Discordance) -> float:
        return sign * (row.arm_mean - row.reference_mean)

    rows = sorted(
        (row for row in found if gap(row) > TIE), key=lambda row: (-gap(row), -row.runs, row.benchmark, row.item)
    )
    seen: Counter[str] = Counter()
    ranked: list[tuple[float, int, int, Discordance]] = []
    for row in rows:
        ranked.append((-round(gap(row), 9), -row.runs, seen[row.cluster], row))
        seen[row.cluster] += 1
    return tuple(entry[-1] for entry in sorted(ranked, key=lambda entry: entry[:-1]))
