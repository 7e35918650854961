"""Cohen's κ and Krippendorff's α of two raters who say yes or no, from counts, with intervals that allow for clusters.

    kappa([(9, 1, 0, 0), (0, 0, 1, 19), …])  -> Estimate(value=0.85, low=0.71, high=0.94)

`agreement.py` has both for any number of raters and any values, without intervals.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from safekey.stats.intervals import IMAGINED, design_effect, quantile
from safekey.stats.judge_error import Counts, Estimate, expanded

_ADDED = 0.5  # to each count while the spread is estimated: without it perfect agreement would have no interval
_STEP = 1e-4
_GRID = 20_001  # values of α that are tried: the interval's ends are right to 0.0001
_Table = NDArray[np.float64]


def kappa(clusters: Iterable[Counts]) -> Estimate | None:
    """Return Cohen's κ with a 95 % interval; None when both said one and the same thing throughout.

    The interval is the delta method's on Fisher's scale (arc tanh), on which it stays below 1. The spread is that of
    the clusters' sums. With one cluster it is (−1, 1).

    Args:
        clusters: counts of (yes yes, yes no, no yes, no no), one tuple for each cluster of answers that are alike.
    """
    counts = _table(clusters)
    if not len(counts) or math.isnan(value := _kappa(counts.sum(axis=0))):
        return None
    if len(counts) == 1:
        return Estimate(value, -1.0, 1.0)
    smooth = counts.sum(axis=0) + _ADDED
    slope = np.array([(_kappa(smooth + step) - _kappa(smooth - step)) / (2 * _STEP) for step in np.eye(4) * _STEP])
    # Each cluster's part in a statistic that does not change when all counts are multiplied.
    pulls = (counts - counts.sum(axis=1, keepdims=True) * smooth / smooth.sum()) @ slope
    independent = float(slope**2 @ smooth - (slope @ smooth) ** 2 / smooth.sum())
    variance = max(len(counts) / (len(counts) - 1) * float(pulls @ pulls), independent)
    middle = _kappa(smooth)
    half = quantile(0.05, len(counts) - 1) * math.sqrt(variance) / (1 - middle**2)
    low, high = math.tanh(math.atanh(middle) - half), math.tanh(math.atanh(middle) + half)
    return Estimate(value, min(low, value), max(high, value))


def alpha(clusters: Iterable[Counts]) -> Estimate | None:
    """Return Krippendorff's α (nominal) with a 95 % interval; None as for `kappa`.

    The interval holds each α that a test of goodness of fit does not refuse (after Donner & Eliasziw 1992): the
    expected counts of "both yes", "different" and "both no" follow from the mean label and α. Where raters always agree
    it has a width. Where clusters hold several answers, the number of answers is divided by the design effect of their
    agreement. With one cluster it is (−1, 1).

    Args:
        clusters: as for `kappa`.
    """
    counts = _table(clusters)
    both, first, second, _ = counts.sum(axis=0).tolist() if len(counts) else (0.0,) * 4
    n, groups = int(counts.sum()), len(counts)
    mean = (2 * both + first + second) / (2 * n) if n else 0.0
    if mean in (0.0, 1.0):
        return None
    spread = mean * (1 - mean)
    found = 1 - (first + second) / n / (2 * spread)  # Scott's π: α without its correction for small samples
    if groups == 1:
        return Estimate(_corrected(found, n), -1.0, 1.0)
    equal = expanded([(int(row[0] + row[3]), int(row[1] + row[2])) for row in counts])
    size = n if groups == n else n / max(1.0, design_effect(*equal, IMAGINED))
    limit = quantile(0.05, groups - 1 if groups < n else math.inf) ** 2
    tried = np.linspace(max(-mean / (1 - mean), -(1 - mean) / mean), 1.0, _GRID)[1:-1]
    expected = (mean**2 + spread * tried, 2 * spread * (1 - tried), (1 - mean) ** 2 + spread * tried)
    off = spread * (tried - found)
    distance = size * (off**2 / expected[0] + (2 * off) ** 2 / expected[1] + off**2 / expected[2])
    inside = tried[distance <= limit]
    low, high = (float(inside[0]), float(inside[-1])) if len(inside) else (found, found)
    return Estimate(*(_corrected(each, n) for each in (found, min(low, found), max(high, found))))


def _table(clusters: Iterable[Counts]) -> _Table:
    """Return the counts of the clusters that hold any answer [clusters, 4]."""
    return np.array([row for row in clusters if sum(row)], dtype=float).reshape(-1, 4)


def _kappa(table: _Table) -> float:
    both, first, second, neither = table / table.sum()
    chance = (both + first) * (both + second) + (neither + first) * (neither + second)
    return math.nan if chance >= 1 else float((both + neither - chance) / (1 - chance))


def _corrected(value: float, n: int) -> float:
    """Return α for Scott's π of n answers."""
    return 1 - (1 - value) * (2 * n - 1) / (2 * n)
