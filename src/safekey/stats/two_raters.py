"""Cohen's κ and Krippendorff's α of two raters who say yes or no, from counts, with intervals that allow for clusters.

    kappa([(9, 1, 0, 0), (0, 0, 1, 19), …])  -> Estimate(value=0.85, low=0.71, high=0.94)

`agreement.py` has both for any number of raters and any values, without intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from safekey.stats.intervals import quantile
from safekey.stats.judge_error import Counts, Estimate

_ADDED = 0.5  # to each count while the spread is estimated: without it perfect agreement would have no interval
_STEP = 1e-4
_Table = NDArray[np.float64]


def kappa(clusters: Iterable[Counts]) -> Estimate | None:
    """Return Cohen's κ with a 95 % interval; None when both said one and the same thing throughout.

    Args:
        clusters: counts of (yes yes, yes no, no yes, no no), one tuple for each cluster of answers that are alike.
    """
    return _estimate(list(clusters), _kappa)


def alpha(clusters: Iterable[Counts]) -> Estimate | None:
    """Return Krippendorff's α (nominal) with a 95 % interval; None as for `kappa`."""
    return _estimate(list(clusters), _alpha)


def _kappa(table: _Table) -> float:
    both, first, second, neither = table / table.sum()
    chance = (both + first) * (both + second) + (neither + first) * (neither + second)
    return math.nan if chance >= 1 else float((both + neither - chance) / (1 - chance))


def _alpha(table: _Table) -> float:
    values = 2 * table.sum()
    yes = 2 * table[0] + table[1] + table[2]
    apart = yes * (values - yes)
    return math.nan if apart <= 0 else float(1 - (values - 1) * (table[1] + table[2]) / apart)


def _estimate(clusters: Sequence[Counts], of: Callable[[_Table], float]) -> Estimate | None:
    """Return a statistic of the summed counts, with the delta method's interval on Fisher's scale.

    On that scale (arc tanh) the interval stays below 1. The spread is that of the clusters' sums.
    """
    counts = np.array(clusters, dtype=float).reshape(-1, 4)
    counts = counts[counts.sum(axis=1) > 0]
    if not len(counts) or math.isnan(value := of(counts.sum(axis=0))):
        return None
    if len(counts) == 1:
        return Estimate(value, -1.0, 1.0)
    total = counts.sum(axis=0)
    smooth = total + _ADDED
    slope = np.array([(of(smooth + step) - of(smooth - step)) / (2 * _STEP) for step in np.eye(4) * _STEP])
    # Each cluster's part in a statistic that does not change when all counts are multiplied.
    pulls = (counts - counts.sum(axis=1, keepdims=True) * smooth / smooth.sum()) @ slope
    independent = float(slope**2 @ smooth - (slope @ smooth) ** 2 / smooth.sum())
    variance = max(len(counts) / (len(counts) - 1) * float(pulls @ pulls), independent)
    middle = of(smooth)
    half = quantile(0.05, len(counts) - 1) * math.sqrt(variance) / (1 - middle**2)
    low, high = math.tanh(math.atanh(middle) - half), math.tanh(math.atanh(middle) + half)
    return Estimate(value, min(low, value), max(high, value))
