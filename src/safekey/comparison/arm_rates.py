"""One arm's rate over training seeds and behaviours, with its interval: where an arm stands, not how two differ.

    rates = arm_rates(outcomes, lambda row: row.metric)
    rates["sft", "asr"]  -> ArmRate(value=0.41, low=0.36, high=0.46, positive=…, scored=…, seeds=3, behaviours=72)

Two arms whose intervals overlap may well differ: their prompts are the same, and only `compare` uses that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from safekey.comparison.pairing import Outcome
from safekey.stats.intervals import interval
from safekey.stats.paired import quantile
from safekey.stats.variance import Table, parts

Group = TypeVar("Group", bound=Hashable)


@dataclass(frozen=True, slots=True)
class ArmRate:
    """A rate with its 95 % interval.

    Attributes:
        value: mean outcome over seeds and prompts, 0–1.
        low: the interval's lower end.
        high: its upper end.
        scored: outcomes (prompt × seed) with a value.
        unscored: outcomes without one; they are in no rate.
        seeds: training runs.
        behaviours: clusters of prompts.
        bounds: the rate if none, or all, of the unscored were positive.
        per_seed: the rate of each run, in the seeds' order.
    """

    value: float
    low: float
    high: float
    scored: int
    unscored: int
    seeds: int
    behaviours: int
    bounds: tuple[float, float]
    per_seed: tuple[float, ...]


def arm_rates(outcomes: Iterable[Outcome], group: Callable[[Outcome], Group]) -> dict[tuple[str, Group], ArmRate]:
    """Return the rate of each arm in each group of outcomes that has at least one value.

    Args:
        outcomes: of any arms.
        group: what to tell apart, such as the metric, or benchmark and attack; all of a group share one metric.
    """
    sorted_out: dict[tuple[str, Group], list[Outcome]] = {}
    for row in outcomes:
        sorted_out.setdefault((row.arm, group(row)), []).append(row)
    found = {}
    for key, rows in sorted_out.items():
        table, clusters = _table(rows)
        if not np.isnan(table).all():
            found[key] = rate(table, clusters)
    return found


def _table(rows: Iterable[Outcome]) -> tuple[Table, NDArray[np.intp]]:
    seeds: dict[Hashable, int] = {}
    prompts: dict[Hashable, int] = {}
    names: dict[Hashable, int] = {}
    cells: list[tuple[int, int, float | None]] = []
    clusters: list[int] = []
    for row in rows:
        place = prompts.setdefault(row.key, len(prompts))
        cells.append((seeds.setdefault(row.seed, len(seeds)), place, row.value))
        if place == len(clusters):
            clusters.append(names.setdefault(("named", row.cluster) if row.cluster else row.key, len(names)))
    table = np.full((len(seeds), len(prompts)), np.nan)
    for seed, place, value in cells:
        if value is not None:
            table[seed, place] = value
    return table, np.array(clusters, dtype=np.intp)


def rate(table: Table, clusters: NDArray[np.intp], level: float = 0.95) -> ArmRate:
    """Return the mean of outcomes [seeds, items] in 0–1 (NaN: unscored) with its interval.

    One run: `stats.interval`, Wilson's where every prompt is its own behaviour, else for the effective number of
    prompts. Several: the two margins in squares, as `crossed.Difference` adds them for a difference,

        half² = t²(seeds − 1)·V_seed + t²(behaviours − 1)·max(V_behaviour − V_rest, 0)

    and on either side at least as far as the interval of all runs together, clustered by behaviour: seeds that tie by
    chance prove nothing, and a rate of 0 keeps a width.

    Args:
        table: at least one value.
        clusters: [items], the behaviour of each prompt, as numbers.
        level: the interval's confidence level.
    """
    present = ~np.isnan(table)
    rows, items = present.any(axis=1), present.any(axis=0)
    per_seed = tuple(float(np.nanmean(row)) if (~np.isnan(row)).any() else math.nan for row in table)
    missing = int((~present).sum())
    kept, groups = table[rows][:, items], np.unique(clusters[items], return_inverse=True)[1]
    here = ~np.isnan(kept)
    flat = kept[here]
    value, low, high, _ = interval(flat.tolist(), np.broadcast_to(groups, kept.shape)[here].tolist(), level)
    seeds, behaviours = kept.shape[0], int(groups.max()) + 1
    if seeds > 1 and behaviours > 1:
        found = parts(kept, groups)
        squares = quantile(1 - level, seeds - 1) ** 2 * found.seed
        squares += quantile(1 - level, behaviours - 1) ** 2 * max(found.behaviour - found.rest, 0.0)
        half = math.sqrt(squares)
        low, high = max(min(low, value - half), 0.0), min(max(high, value + half), 1.0)
    everything = np.nan_to_num(table, nan=0.0).mean(), np.nan_to_num(table, nan=1.0).mean()
    bounds = float(everything[0]), float(everything[1])
    return ArmRate(value, low, high, int(here.sum()), missing, seeds, behaviours, bounds, per_seed)
