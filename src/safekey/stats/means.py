"""The mean of any numbers, with an interval in which behaviours, not rows, are the random draws.

    mean_of([0.31, 0.29, 0.55], ["vault", "vault", "moat"])  -> Mean(value=0.383…, low=…, high=…, rows=3, clusters=2)

`intervals.py` has the better intervals for rates; these are for numbers without bounds (a KL, a difference of shares).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from safekey.stats.intervals import quantile


class Mean(NamedTuple):
    """A mean with its confidence interval.

    Attributes:
        value: the mean over rows.
        low: the interval's lower end; None with fewer than two clusters.
        high: its upper end.
        rows: number of values.
        clusters: number of distinct clusters.
    """

    value: float
    low: float | None
    high: float | None
    rows: int
    clusters: int


def mean_of(values: Sequence[float], clusters: Sequence[Hashable], level: float = 0.95) -> Mean | None:
    """Return the mean with a cluster-robust t interval; None for no values.

    The variance is G/(G−1) · Σ_g (Σ_{i in g} (x_i − mean))² / n², with Student's t on G − 1 degrees of freedom. With
    one value per cluster this is the usual t interval.

    Args:
        values: one per row.
        clusters: the cluster of each row, such as its behaviour.
        level: the interval's confidence level.

    Raises:
        ValueError: lengths differ.
    """
    if len(values) != len(clusters):
        raise ValueError(f"expected a cluster for each value, found {len(clusters)} for {len(values)}")
    if not values:
        return None
    mean = math.fsum(values) / len(values)
    sums: dict[Hashable, float] = defaultdict(float)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] += value - mean
    groups = len(sums)
    if groups < 2:
        return Mean(mean, None, None, len(values), groups)
    error = math.sqrt(groups / (groups - 1) * math.fsum(each * each for each in sums.values())) / len(values)
    half = quantile(1 - level, groups - 1) * error
    return Mean(mean, mean - half, mean + half, len(values), groups)
