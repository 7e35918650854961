"""Paired proportions: the tests and intervals for two columns of outcomes on the same prompts.

The table of one run against another, as this module sees it::

                    reference 1   reference 0
        arm 1            .             b = 9        b, c: the discordant pairs
        arm 0           c = 31         .            n: all pairs; the difference is (b − c) / n

Counts may be real numbers: a clustered sample enters as the independent sample that carries as much information.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import special

BISECTIONS = 60  # halvings of an interval no longer than 2: far below 1e-15


def quantile(alpha: float, df: float = math.inf) -> float:
    """What Student's t with `df` > 0 degrees of freedom (infinite: the normal) exceeds in size with chance `alpha`."""
    return float(-special.ndtri(alpha / 2.0) if math.isinf(df) else -special.stdtrit(df, alpha / 2.0))


def bisect(rises_above: Callable[[float], bool], low: float, high: float) -> float:
    """Where a monotone condition turns from false (at `low`) to true (at `high`)."""
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if rises_above(middle) else (middle, high)
    return (low + high) / 2.0


def mcnemar(b: int, c: int, mid_p: bool = False) -> float:
    """McNemar's exact test of equal rates: a two-sided p from Binomial(b + c, 1/2).

    Args:
        b: pairs with 1 in the arm and 0 in the reference.
        c: pairs with 0 in the arm and 1 in the reference.
        mid_p: count the observed table half (Fagerland, Lydersen & Laake 2013): closer to the nominal size, but no
            longer a guarantee.

    Returns:
        p in (0, 1]; 1.0 when no pair is discordant.
    """
    n, k = b + c, min(b, c)
    if n == 0:
        return 1.0
    two_sided = 2.0 * float(special.bdtr(k, n, 0.5))
    if mid_p:
        log_mass = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2.0)
        two_sided -= math.exp(log_mass)
    return min(two_sided, 1.0)


def tango_interval(b: float, c: float, n: float, z: float) -> tuple[float, float]:
    """Tango's score interval for the difference (b − c) / n of paired proportions (Statistics in Medicine 17, 1998).

    It holds every Δ with |b − c − nΔ| ≤ z·sqrt(n(2q + Δ(1 − Δ))), where q is the most likely share of the pairs that
    count in c, given Δ: the larger root of 2n·q² + (−b − c + (2n − b + c)Δ)·q − cΔ(1 − Δ) = 0. Unlike the Wald
    interval it has a width when no pair is discordant, and it stays within [−1, 1].

    Args:
        b: pairs (or effective pairs) where only the arm is 1; at least 0.
        c: pairs where only the reference is 1; at least 0.
        n: all pairs; positive.
        z: how many standard errors; 1.96 for 95 %.
    """

    def score(delta: float) -> float:
        linear = -b - c + (2.0 * n - b + c) * delta
        product = -c * delta * (1.0 - delta)
        q = (math.sqrt(max(linear * linear - 8.0 * n * product, 0.0)) - linear) / (4.0 * n)
        variance = n * (2.0 * q + delta * (1.0 - delta))
        excess = b - c - n * delta
        if variance <= 1e-12 * n:
            return math.copysign(math.inf, excess) if abs(excess) > 1e-9 * n else 0.0
        return excess / math.sqrt(variance)

    difference = min(max((b - c) / n, -1.0), 1.0)
    lower = bisect(lambda delta: score(delta) <= z, -1.0, difference)
    upper = bisect(lambda delta: score(delta) < -z, difference, 1.0)
    return lower, upper


def newcombe_interval(a: float, b: float, c: float, d: float, z: float) -> tuple[float, float]:
    """Newcombe's interval for paired proportions: two Wilson intervals, joined with the pairs' correlation.

    Method 10 of Newcombe (Statistics in Medicine 17, 1998, 2635–2650), with his continuity-corrected φ. It is here as a
    second opinion on Tango's; `compare` does not use it.

    Args:
        a: pairs with 1 in both.
        b: pairs where only the arm is 1.
        c: pairs where only the reference is 1.
        d: pairs with 0 in both.
        z: how many standard errors.
    """
    n = a + b + c + d
    first, second = (a + b) / n, (a + c) / n
    (low1, high1), (low2, high2) = wilson(first, n, z), wilson(second, n, z)
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    cross = a * d - b * c
    if cross > 0:
        cross = max(cross - n / 2.0, 0.0)
    phi = cross / math.sqrt(margins) if margins > 0 else 0.0
    down, up = (first - low1, high2 - second), (high1 - first, second - low2)
    below = math.sqrt(max(down[0] ** 2 - 2.0 * phi * down[0] * down[1] + down[1] ** 2, 0.0))
    above = math.sqrt(max(up[0] ** 2 - 2.0 * phi * up[0] * up[1] + up[1] ** 2, 0.0))
    return max(first - second - below, -1.0), min(first - second + above, 1.0)


def wilson(rate: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's score interval for one proportion of `n` (real numbers allowed)."""
    centre = (rate + z * z / (2.0 * n)) / (1.0 + z * z / n)
    half = z * math.sqrt(rate * (1.0 - rate) / n + z * z / (4.0 * n * n)) / (1.0 + z * z / n)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def adjusted_wald(mean: float, square: float, n: float, z: float) -> tuple[float, float]:
    """Bonett & Price's (2012) adjusted Wald interval, for differences anywhere in [−1, 1].

    Two imagined pairs join the sample, one of +1 and one of −1, so that a column of equal values keeps a width. For 0/1
    outcomes it is their published interval; for scores between it is the same idea on the first two moments.

    Args:
        mean: mean of the differences.
        square: mean of their squares.
        n: number of pairs (or effective pairs).
        z: how many standard errors.
    """
    centre = n * mean / (n + 2.0)
    variance = max((n * square + 2.0) / (n + 2.0) - centre * centre, 0.0)
    half = z * math.sqrt(variance / (n + 2.0))
    return max(centre - half, -1.0), min(centre + half, 1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, in the order given: reject where ≤ α and the family-wise error is ≤ α.

    The j-th smallest p is multiplied by m − j + 1, never falls below its predecessor, and is capped at 1. It needs no
    assumption on how the comparisons depend on one another.
    """
    m = len(p_values)
    order = np.argsort(p_values, kind="stable")
    stepped = np.asarray(p_values, dtype=np.float64)[order] * (m - np.arange(m))
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return [float(p) for p in adjusted]
