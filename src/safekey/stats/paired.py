"""Paired proportions: the tests and intervals for two columns of outcomes on the same prompts.

The table of one run against another::

                    reference 1   reference 0
        arm 1            .             b = 9        b, c: the discordant pairs
        arm 0           c = 31         .            n: all pairs; the difference is (b − c) / n

Counts may be real numbers: a clustered sample is treated as an independent sample of its effective size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import special

BISECTIONS = 60  # halvings of an interval no longer than 2: far below 1e-15


def bisect(rises_above: Callable[[float], bool], low: float, high: float, halvings: int = BISECTIONS) -> float:
    """Where a monotone condition turns from false (at `low`) to true (at `high`)."""
    for _ in range(halvings):
        middle = (low + high) / 2.0
        low, high = (low, middle) if rises_above(middle) else (middle, high)
    return (low + high) / 2.0


def mcnemar(b: int, c: int) -> float:
    """McNemar's exact test of equal rates: a two-sided p from Binomial(b + c, 1/2).

    Args:
        b: pairs with 1 in the arm and 0 in the reference.
        c: pairs with 0 in the arm and 1 in the reference.

    Returns:
        p in (0, 1]; 1.0 when no pair is discordant.
    """
    return min(2.0 * float(special.bdtr(min(b, c), b + c, 0.5)), 1.0) if b + c else 1.0


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
