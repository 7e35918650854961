"""Variance components of a mean over a seeds × behaviours table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Parts:
    """Variances of a mean over a seed × behaviour table (the mean squares of a two-way layout, over the table's size).

    Attributes:
        seed: variance of the mean estimated from the seeds' means; 0 for one seed.
        behaviour: the same from the behaviours' means.
        rest: the same from the residuals; both of the above contain it once.
    """

    seed: float
    behaviour: float
    rest: float


def parts(values: Table, clusters: NDArray[np.intp]) -> Parts:
    """Split the variance of the mean of `values` [seeds, items] (NaN: missing) by seed and by behaviour.

    For a full table with equal behaviours this is the two-way analysis of variance, where seed + behaviour − rest is
    the unbiased variance of the mean; with unequal ones it is Cameron, Gelbach & Miller's (2011) two-way cluster
    variance, with each sum of squares scaled by its own degrees of freedom.
    """
    present = ~np.isnan(values)
    total = int(present.sum())
    seeds, behaviours = values.shape[0], int(clusters.max()) + 1
    shift = np.where(present, values - np.nanmean(values), 0.0) / total
    cells = np.stack([np.bincount(clusters, weights=row, minlength=behaviours) for row in shift])
    weights = np.stack([np.bincount(clusters, weights=row, minlength=behaviours) for row in present]) / total
    by_seed, by_behaviour = cells.sum(axis=1), cells.sum(axis=0)
    of_seed = seeds / (seeds - 1) * float(by_seed @ by_seed) if seeds > 1 else 0.0
    of_behaviour = behaviours / (behaviours - 1) * float(by_behaviour @ by_behaviour) if behaviours > 1 else 0.0
    rest = 0.0
    if seeds > 1 and behaviours > 1:
        left = cells - by_seed[:, None] * weights.sum(axis=0) - weights.sum(axis=1)[:, None] * by_behaviour
        rest = seeds * behaviours / ((seeds - 1) * (behaviours - 1)) * float((left * left).sum())
    return Parts(of_seed, of_behaviour, rest)


def welch(*components: tuple[float, int]) -> tuple[float, float]:
    """Add independent variances, each with its degrees of freedom; Welch & Satterthwaite's for the sum, at least the
    least.

    A component with 0 degrees of freedom (a fixed checkpoint) takes no part.
    """
    live = [(variance, df) for variance, df in components if df > 0]
    total = sum(variance for variance, _ in live)
    least = float(min((df for _, df in live), default=1))
    if total <= 0.0:
        return 0.0, least
    return total, max(total**2 / sum(variance**2 / df for variance, df in live), least)
