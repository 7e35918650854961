"""Single-run numbers: rates with intervals that know about clusters, and pass@k.

    scored verdicts of one run        interval([1, 0, 1, 1], ["vault", "vault", "moat", "moat"])
    positive  behaviour               -> the mean, 0.75, and an interval for behaviours drawn anew, not for samples
      1       vault
      0       vault
      ...

Differences between runs are the matter of `compare.py`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from safekey.stats.paired import quantile, wilson

IMAGINED = 0.25  # see `design_effect`


class Interval(NamedTuple):
    """An estimate in [0, 1] with its confidence interval and how that was made ("wilson", "clustered" or "none")."""

    value: float
    low: float
    high: float
    method: str


def wilson_interval(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for k positives among n independent samples; (0, 1) for none.

    Raises:
        ValueError: not 0 ≤ k ≤ n, or the level is not between 0 and 1.
    """
    if not 0 <= k <= n:
        raise ValueError(f"expected 0 ≤ k ≤ n, found k = {k}, n = {n}")
    if not 0 < level < 1:
        raise ValueError(f"expected a level between 0 and 1, found {level}")
    if n == 0:
        return 0.0, 1.0
    low, high = wilson(k / n, n, quantile(1 - level))
    return (0.0 if k == 0 else low), (1.0 if k == n else high)  # exact, where rounding leaves 1e-17


def interval(values: Sequence[float], clusters: Sequence[Hashable], level: float = 0.95) -> Interval:
    """Return the mean of values in [0, 1] with an interval for clusters drawn anew.

    One 0/1 value per cluster: Wilson's interval. Otherwise Wilson's interval for the effective number of independent
    samples, n / `design_effect`, with the quantile of Student's t on G − 1 degrees of freedom (after Korn & Graubard
    1998, who do so with Clopper and Pearson's interval). It stays within [0, 1], and it keeps a width when all values
    are equal. 0/1 samples never count for more than their number. One cluster says nothing about others: (0, 1).

    Args:
        values: one per sample, in [0, 1].
        clusters: the cluster of each sample, such as its behaviour.
        level: the interval's confidence level.

    Raises:
        ValueError: lengths differ, there are no values, or a value is not within [0, 1].
    """
    if len(values) != len(clusters) or not values:
        raise ValueError(f"expected a cluster for each of at least one value, found {len(clusters)} for {len(values)}")
    if not all(0 <= value <= 1 for value in values):
        raise ValueError("expected values within [0, 1]")
    n, groups, mean = len(values), len(set(clusters)), math.fsum(values) / len(values)
    binary = all(value in (0, 1) for value in values)
    if groups == n and binary:
        return Interval(mean, *wilson_interval(round(math.fsum(values)), n, level), "wilson")
    if groups == 1:
        return Interval(mean, 0.0, 1.0, "none")
    effect = design_effect(values, clusters, IMAGINED)
    low, high = wilson(mean, n / (max(effect, 1.0) if binary else effect), quantile(1 - level, groups - 1))
    return Interval(mean, 0.0 if mean == 0 else low, 1.0 if mean == 1 else high, "clustered")


def design_effect(values: Sequence[float], clusters: Sequence[Hashable], imagined: float = 0.0) -> float:
    """Return how much larger the mean's variance is than that of as many independent 0/1 samples, for G ≥ 2 clusters.

    The cluster-robust variance of the mean, G/(G−1) · Σ_g (Σ_{i in g} (x_i − mean))² / n², over mean·(1 − mean) / n.

    Args:
        values: one per sample, in [0, 1]; not all 0 or all 1 unless `imagined` > 0.
        clusters: the cluster of each sample.
        imagined: the weight of two clusters of average size that join the sample, one of zeros and one of ones. Where
            few samples are positive the few clusters that hold them say little about how alike samples are, and without
            help the estimate is too small just when the mean is: the interval then covered 88 % in the worst of 360
            simulated worlds. With a weight of a quarter it covers 94 % there, and is hardly wider elsewhere.
    """
    sums: dict[Hashable, float] = defaultdict(float)
    sizes: dict[Hashable, int] = defaultdict(int)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] += value
        sizes[cluster] += 1
    groups, size = len(sums), len(values) / len(sums)
    n = len(values) + 2 * imagined * size
    mean = (math.fsum(sums.values()) + imagined * size) / n
    squares = [(sums[cluster] - sizes[cluster] * mean) ** 2 for cluster in sums]
    squares += [imagined * (size * mean) ** 2, imagined * (size * (1 - mean)) ** 2]
    return groups / (groups - 1) * math.fsum(squares) / (n * mean * (1 - mean))


def pass_at_k(n: int, c: int, k: int) -> float:
    """Return the unbiased estimate of pass@k for one problem: 1 − C(n − c, k) / C(n, k) (Chen et al. 2021, eq. 1).

    Args:
        n: samples drawn.
        c: samples that solved it.
        k: how many tries are allowed, at most n.

    Raises:
        ValueError: not 0 ≤ c ≤ n or not 1 ≤ k ≤ n: fewer samples than tries cannot estimate it.
    """
    if not 0 <= c <= n:
        raise ValueError(f"expected 0 ≤ c ≤ n, found c = {c}, n = {n}")
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples per problem and k ≥ 1; found {n}")
    return 1 - math.comb(n - c, k) / math.comb(n, k)


def mean_pass_at_k(counts: Sequence[tuple[int, int]], k: int, level: float = 0.95) -> Interval:
    """Return pass@k over problems, with an interval for problems drawn anew; `counts` holds (n, c) per problem."""
    return interval([pass_at_k(n, c, k) for n, c in counts], range(len(counts)), level)
