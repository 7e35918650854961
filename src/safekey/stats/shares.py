"""A share of a group, with its interval; and a spread's quartiles.

share_of([True, False, True], ["vault", "vault", "moat"])  ->  Share(k=2, n=3, rate=0.67, low=0.21, high=0.94, …)
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

Z = 1.959963984540054  # 97.5 % of the normal distribution


@dataclass(frozen=True, slots=True)
class Share:
    """k of n, with Wilson's 95 % interval for independent samples.

    Attributes:
        k: how many.
        n: of how many.
        rate: k / n; None when n is 0.
        low: the interval's lower end.
        high: its upper end.
        clusters: distinct behaviours among the n.
        design_effect: how much larger the variance is because samples of one behaviour are alike; None where it cannot
            be estimated (one behaviour, or all samples equal although behaviours repeat).
    """

    k: int
    n: int
    rate: float | None
    low: float
    high: float
    clusters: int
    design_effect: float | None

    @property
    def widening(self) -> float | None:
        """By which factor a clustered interval would be wider; 1.0 where it would not; None where it is not known."""
        return None if self.design_effect is None else math.sqrt(max(1.0, self.design_effect))


def share_of(hits: Sequence[bool], clusters: Sequence[str]) -> Share:
    """Return the share of hits; `clusters` names the behaviour of each."""
    n, k = len(hits), sum(hits)
    low, high = wilson(k, n)
    return Share(k, n, k / n if n else None, low, high, len(set(clusters)), _design_effect(hits, clusters))


def wilson(k: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval; (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    rate, weight = k / n, Z * Z / n
    centre = (rate + weight / 2) / (1 + weight)
    half = Z * math.sqrt(rate * (1 - rate) / n + weight / (4 * n)) / (1 + weight)
    return (0.0 if k == 0 else centre - half), (1.0 if k == n else centre + half)


def _design_effect(hits: Sequence[bool], clusters: Sequence[str]) -> float | None:
    """G/(G−1) · Σ_g (hits_g − n_g·p)² / (n·p·(1 − p)): the cluster-robust variance over the binomial one."""
    sums: dict[str, int] = defaultdict(int)
    sizes: dict[str, int] = defaultdict(int)
    for hit, cluster in zip(hits, clusters, strict=True):
        sums[cluster] += hit
        sizes[cluster] += 1
    n, groups = len(hits), len(sizes)
    if groups == n:
        return 1.0 if n else None
    p = sum(hits) / n
    if groups < 2 or p in (0.0, 1.0):
        return None
    squares = math.fsum((sums[cluster] - size * p) ** 2 for cluster, size in sizes.items())
    return groups / (groups - 1) * squares / (n * p * (1 - p))


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles."""

    median: float
    lower: float
    upper: float


def spread_of(values: Sequence[float]) -> Spread | None:
    """Return the quartiles (linear between neighbours), or None for no values."""
    if not values:
        return None
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        left = math.floor(place)
        right = min(left + 1, len(ordered) - 1)
        return ordered[left] + (place - left) * (ordered[right] - ordered[left])

    return Spread(at(0.5), at(0.25), at(0.75))
