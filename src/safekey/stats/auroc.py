"""The area under the ROC curve, with an interval in which behaviours, not rows, are the random draws.

    auroc([0.9, 0.2, 0.4], [True, False, False], ["vault", "moat", "mill"])  -> Auroc(value=1.0, low=…, high=1.0, …)

Scores of cross-validated models are compared within each fold only (`strata`): every fold has a model of its own, with
a scale of its own, and pooled scores of models that learnt nothing come out below 0.5.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from safekey.stats.intervals import quantile, wilson

Numbers = NDArray[np.float64]


class Auroc(NamedTuple):
    """An AUROC with its confidence interval.

    Attributes:
        value: the probability that a positive scores higher than a negative, ties counting half; 0–1.
        low: the interval's lower end.
        high: its upper end.
        positives: number of positive rows.
        negatives: number of negative rows.
        clusters: number of distinct clusters.
    """

    value: float
    low: float
    high: float
    positives: int
    negatives: int
    clusters: int


def area(scores: Sequence[float], positive: Sequence[bool]) -> float | None:
    """Return the AUROC alone: the share of pairs in order, ties counting half; None for one class."""
    number = sum(positive)
    if number in (0, len(positive)):
        return None
    ranks = sum(rank for rank, label in zip(rankdata(scores), positive, strict=True) if label)
    return float((ranks - number * (number + 1) / 2) / (number * (len(positive) - number)))


def auroc(
    scores: Sequence[float],
    positive: Sequence[bool],
    clusters: Sequence[Hashable],
    strata: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Auroc | None:
    """Return the AUROC; None where no stratum has both classes.

    The variance is that of DeLong's placement values, summed by cluster (Obuchowski 1997): a positive adds
    (share of negatives below it − AUROC) / positives, a negative likewise. The interval is Wilson's for the number of
    independent samples with that variance, with Student's t on G − 1 degrees of freedom, so it stays within [0, 1]. An
    AUROC's variance is at most that of min(positives, negatives) samples; where all scores are in order, and no
    variance can be estimated, the interval is that of the smaller class's clusters.

    Args:
        scores: one per row; higher means positive.
        positive: the class of each row.
        clusters: the cluster of each row, such as its behaviour.
        strata: rows are compared within a stratum only, and strata are weighted by their pairs; None: all in one.
        level: the interval's confidence level.

    Raises:
        ValueError: lengths differ, or a score is not finite.
    """
    if not len(scores) == len(positive) == len(clusters) == len(strata if strata is not None else scores):
        raise ValueError("expected a class, a cluster and a stratum for each score")
    values, label = np.asarray(scores, float), np.asarray(positive, bool)
    if not np.isfinite(values).all():
        raise ValueError("expected finite scores")
    stratum = _numbers(strata if strata is not None else [0] * len(values))
    groups = _numbers(clusters)
    parts = [part for part in _parts(values, label, stratum) if part is not None]
    if not parts:
        return None
    pairs = np.array([part.pairs for part in parts], float)
    weights = pairs / pairs.sum()
    value = float(sum(weight * part.value for weight, part in zip(weights, parts, strict=True)))
    influence = np.zeros(len(values))
    for weight, part in zip(weights, parts, strict=True):
        influence[part.rows] = weight * part.influence
    used = np.concatenate([part.rows for part in parts])
    sums = np.bincount(groups[used], weights=influence[used]).astype(float)
    count = len(np.unique(groups[used]))
    low, high = _interval(value, sums, count, _smaller(label[used], groups[used]), level)
    return Auroc(value, low, high, int(label[used].sum()), int((~label[used]).sum()), count)


class _Part(NamedTuple):
    rows: NDArray[np.intp]
    value: float
    pairs: int
    influence: Numbers


def _parts(values: Numbers, label: NDArray[np.bool_], stratum: NDArray[np.intp]) -> list[_Part | None]:
    return [_part(values, label, np.flatnonzero(stratum == each)) for each in np.unique(stratum)]


def _part(values: Numbers, label: NDArray[np.bool_], rows: NDArray[np.intp]) -> _Part | None:
    """Return one stratum's AUROC and what each of its rows adds to its error."""
    upper, lower = values[rows][label[rows]], values[rows][~label[rows]]
    if not len(upper) or not len(lower):
        return None
    ranks = rankdata(np.concatenate([upper, lower]))
    above = (ranks[: len(upper)] - rankdata(upper)) / len(lower)  # share of negatives below each positive
    below = 1.0 - (ranks[len(upper) :] - rankdata(lower)) / len(upper)  # share of positives above each negative
    value = float(above.mean())
    influence = np.empty(len(rows))
    influence[label[rows]] = (above - value) / len(upper)
    influence[~label[rows]] = (below - value) / len(lower)
    return _Part(rows, value, len(upper) * len(lower), influence)


def _interval(value: float, sums: Numbers, clusters: int, least: int, level: float) -> tuple[float, float]:
    if clusters < 2:
        return 0.0, 1.0
    variance = clusters / (clusters - 1) * float(sums @ sums)
    spread = value * (1.0 - value)
    number = min(spread / variance, float(clusters)) if variance > 0 and spread > 0 else float(least)
    low, high = wilson(value, max(number, 1.0), quantile(1 - level, clusters - 1))
    return (0.0 if value == 0 else low), (1.0 if value == 1 else high)


def _smaller(label: NDArray[np.bool_], groups: NDArray[np.intp]) -> int:
    """Return the number of clusters of the class that has fewer."""
    return int(min(len(np.unique(groups[label])), len(np.unique(groups[~label]))))


def _numbers(names: Sequence[Hashable]) -> NDArray[np.intp]:
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.intp)
