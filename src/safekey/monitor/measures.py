"""How well scores tell harmful from benign rows: AUROC, TPR at a false-positive rate, ECE; intervals by behaviour

    found = measure(scores, harmful, behaviours, probabilities)
    found.auroc.value, found.auroc.low, found.auroc.high

Intervals are percentiles of a bootstrap in which behaviours are drawn, with all their rows.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

DRAWS = 1000
BINS = 10


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval; (None, None) with fewer than two behaviours in either class."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured on some rows.

    Attributes:
        harmful: harmful rows.
        benign: benign rows.
        behaviours: behaviours of both.
        auroc: the probability that a harmful row scores higher than a benign one, ties counting half.
        tpr_at_1: the share of harmful rows above the lowest threshold that at most 1 % of these benign rows exceed.
        tpr_at_5: the same for 5 %.
        ece: expected calibration error: the mean distance of probability and share of harmful rows, in ten bins of
            equal width, weighted by their rows. It depends on how many of the rows are harmful.
    """

    harmful: int
    benign: int
    behaviours: int
    auroc: Estimate
    tpr_at_1: Estimate
    tpr_at_5: Estimate
    ece: Estimate


def measure(
    scores: Sequence[float], harmful: Sequence[bool], behaviours: Sequence[Hashable],
    probabilities: Sequence[float], *, draws: int = DRAWS, seed: int = 0,
) -> Measures:  # fmt: skip
    """Measure scores on labelled rows.

    Args:
        scores: any scale; higher means harmful.
        harmful: the labels; both classes must be there.
        behaviours: the behaviour of each row.
        probabilities: of harm, 0 to 1.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: a class is missing, or lengths differ.
    """
    z, y, p = np.asarray(scores, float), np.asarray(harmful, bool), np.asarray(probabilities, float)
    if not len(z) == len(y) == len(p) == len(behaviours) or y.all() or not y.any():
        raise ValueError("expected as many labels, behaviours and probabilities as scores, and both classes")
    names = {name: number for number, name in enumerate(dict.fromkeys(behaviours))}
    groups = np.array([names[name] for name in behaviours])
    sums = _Sums.of(z, y, p)
    plain = sums.measures(np.ones(len(z)))
    draw = np.random.default_rng(seed)
    enough = min(len(set(groups[y])), len(set(groups[~y]))) > 1
    even = np.full(len(names), 1 / len(names))
    drawn = np.array(
        [sums.measures(draw.multinomial(len(names), even)[groups]) for _ in range(draws if enough else 0)]
    ).reshape(-1, 4)
    drawn = drawn[~np.isnan(drawn).any(axis=1)]  # a draw may hold one class only
    estimates = []
    for column, value in enumerate(plain):
        low, high = np.quantile(drawn[:, column], (0.025, 0.975)).tolist() if len(drawn) else (None, None)
        estimates.append(Estimate(float(value), low, high))
    return Measures(int(y.sum()), int((~y).sum()), len(names), *estimates)


class _Sums(NamedTuple):
    """Rows sorted into places once, so that a draw of the bootstrap is four sums."""

    harmful: np.ndarray
    probabilities: np.ndarray
    place: np.ndarray  # of each row's score among the distinct ones
    places: int
    bins: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, harmful: np.ndarray, probabilities: np.ndarray) -> _Sums:
        values, place = np.unique(scores, return_inverse=True)
        bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
        return cls(harmful, probabilities, place, len(values), bins)

    def measures(self, weight: np.ndarray) -> tuple[float, float, float, float]:
        """Return AUROC, TPR at 1 % and at 5 %, and ECE of weighted rows; NaN where a class has no weight."""
        positive = np.bincount(self.place, weight * self.harmful, self.places)
        negative = np.bincount(self.place, weight * ~self.harmful, self.places)
        if not positive.sum() or not negative.sum():
            return (math.nan,) * 4
        said = np.bincount(self.bins, weight * self.probabilities, BINS)
        true = np.bincount(self.bins, weight * self.harmful, BINS)
        ece = float(np.abs(said - true).sum() / weight.sum())
        return _auroc(positive, negative), _tpr(positive, negative, 0.01), _tpr(positive, negative, 0.05), ece


def _auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the AUROC from the weight of each class at each distinct score; ties count half."""
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / (positive.sum() * negative.sum()))


def _tpr(positive: np.ndarray, negative: np.ndarray, fpr: float) -> float:
    """Return the share of harmful rows above the lowest score that at most `fpr` of the benign rows exceed."""
    over = negative.sum() - np.cumsum(negative)
    lowest = int(np.argmax(over <= fpr * negative.sum() + 1e-9))
    return float(positive[lowest + 1 :].sum() / positive.sum())
