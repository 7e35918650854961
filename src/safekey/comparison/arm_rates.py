"""One arm's rate over training seeds and behaviours, with its interval.

    rates = arm_rates(outcomes, lambda row: row.metric)
    rates["sft", "asr"]  -> ArmRate(value=0.41, low=0.36, high=0.46, unscored=0, seeds=3, behaviours=72)

Two arms whose intervals overlap may still differ: they answer the same prompts, and only `compare` uses that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from safekey.comparison.pairing import cluster_numbers, outcome_table
from safekey.comparison.types import ALPHA, Key, Outcome, Seed
from safekey.evals.request import ALLOWED_UNSCORED
from safekey.evals.summary.withheld import Due
from safekey.stats.intervals import interval, quantile
from safekey.stats.variance import OutcomeTable, parts

Group = TypeVar("Group", bound=Hashable)


@dataclass(frozen=True, slots=True)
class ArmRate:
    """A rate with its 95 % interval.

    Attributes:
        value: mean outcome over seeds and prompts, 0–1.
        low: the interval's lower end.
        high: its upper end.
        unscored: outcomes (prompt × seed) without a value; they are in no rate.
        seeds: training runs.
        behaviours: clusters of prompts.
        bounds: the rate if none, or all, of the unscored were positive.
        per_seed: the rate of each run, in the seeds' order.
    """

    value: float
    low: float
    high: float
    unscored: int
    seeds: int
    behaviours: int
    bounds: tuple[float, float]
    per_seed: tuple[float, ...]


def arm_rates(
    outcomes: Iterable[Outcome], group: Callable[[Outcome], Group], allow_unscored: float = ALLOWED_UNSCORED
) -> dict[tuple[str, Group], ArmRate]:
    """Return the rate of each arm in each group of outcomes; none where it is withheld, or nothing has a value.

    Args:
        outcomes: of any arms.
        group: what to tell apart, such as the metric, or benchmark and attack; all of a group share one metric.
        allow_unscored: as in `evals.summary.withheld.Due.withheld`.
    """
    found = {}
    for key, rows in _sorted(outcomes, group).items():
        table, clusters = _table(rows)
        if not np.isnan(table).all() and not verdicts_of(rows).withheld(allow_unscored):
            found[key] = rate(table, clusters)
    return found


def withheld_rates(
    outcomes: Iterable[Outcome], group: Callable[[Outcome], Group], allow_unscored: float = ALLOWED_UNSCORED
) -> dict[tuple[str, Group], Due]:
    """Return the verdicts of each arm and group whose rate `arm_rates` withholds because too many are missing."""
    found = {key: verdicts_of(rows) for key, rows in _sorted(outcomes, group).items()}
    return {key: due for key, due in found.items() if due.missing and due.withheld(allow_unscored)}


def verdicts_of(rows: Iterable[Outcome]) -> Due:
    """Return the verdicts behind several outcomes."""
    return sum((row.verdicts for row in rows), Due())


def _sorted(outcomes: Iterable[Outcome], group: Callable[[Outcome], Group]) -> dict[tuple[str, Group], list[Outcome]]:
    found: dict[tuple[str, Group], list[Outcome]] = {}
    for row in outcomes:
        found.setdefault((row.arm, group(row)), []).append(row)
    return found


def _table(rows: Sequence[Outcome]) -> tuple[OutcomeTable, NDArray[np.intp]]:
    runs: dict[Seed, dict[Key, Outcome]] = {}
    for row in rows:
        runs.setdefault(row.seed, {})[row.key] = row
    prompts = {row.key: row.cluster for row in rows}
    return outcome_table(list(runs.values()), list(prompts)), cluster_numbers(prompts)


def rate(table: OutcomeTable, clusters: NDArray[np.intp]) -> ArmRate:
    """Return the mean of outcomes [seeds, items] in 0–1 (NaN: unscored) with its interval.

    One run: `stats.intervals.interval`, which is Wilson's where every prompt is its own behaviour. Several runs: the
    margins of seeds and behaviours added in squares, as `stats.difference.Difference` does for a difference,

        half² = t²(seeds − 1)·V_seed + t²(behaviours − 1)·max(V_behaviour − V_rest, 0)

    and on either side at least as wide as the interval of all runs together, clustered by behaviour, so that seeds
    with equal rates and a rate of 0 have a positive width.

    Args:
        table: at least one value.
        clusters: [items], the behaviour of each prompt, as numbers.
    """
    present = ~np.isnan(table)
    rows, items = present.any(axis=1), present.any(axis=0)
    per_seed = tuple(float(np.nanmean(row)) if (~np.isnan(row)).any() else math.nan for row in table)
    missing = int((~present).sum())
    kept, groups = table[rows][:, items], np.unique(clusters[items], return_inverse=True)[1]
    here = ~np.isnan(kept)
    flat = kept[here]
    value, low, high, _ = interval(flat.tolist(), np.broadcast_to(groups, kept.shape)[here].tolist())
    seeds, behaviours = kept.shape[0], int(groups.max()) + 1
    if seeds > 1 and behaviours > 1:
        found = parts(kept, groups)
        squares = quantile(ALPHA, seeds - 1) ** 2 * found.seed
        squares += quantile(ALPHA, behaviours - 1) ** 2 * max(found.behaviour - found.rest, 0.0)
        half = math.sqrt(squares)
        low, high = max(min(low, value - half), 0.0), min(max(high, value + half), 1.0)
    everything = np.nan_to_num(table, nan=0.0).mean(), np.nan_to_num(table, nan=1.0).mean()
    bounds = float(everything[0]), float(everything[1])
    return ArmRate(value, low, high, missing, seeds, behaviours, bounds, per_seed)
