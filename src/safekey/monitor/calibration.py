"""From logits to probabilities, and from benign rows to a threshold with a promise: numbers only

    scale = fit_scale(logits, harmful)                      # harm = sigmoid(scale.slope · logit + scale.offset)
    found = choose_threshold(benign, behaviours, fpr=0.05)  # found.logit, found.upper ≤ 0.05

The promise needs nothing but that later benign rows are drawn as the calibration rows were.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

from safekey.errors import UserError
from safekey.monitor.request import Method
from safekey.stats.intervals import IMAGINED, design_effect

_FEWEST = 0.001  # the smallest rate that can be asked for


class Scale(NamedTuple):
    """From a logit to a probability of harm: sigmoid(slope · logit + offset), with slope ≥ 0."""

    slope: float = 1.0
    offset: float = 0.0

    def probability(self, logit: float) -> float:
        """Return the probability of harm, 0 to 1."""
        return float(special.expit(self.slope * logit + self.offset))


def fit_scale(logits: Sequence[float], harmful: Sequence[bool], method: Method = "platt") -> Scale:
    """Fit a scale to labelled logits: "platt" slope and offset, "temperature" the slope alone.

    Platt's targets (N₊+1)/(N₊+2) and 1/(N₋+2) keep the slope finite where the classes are apart. A slope is never
    negative: a head that points the wrong way gets 0, and every row the same probability.

    Raises:
        ValueError: one class is missing, or lengths differ.
    """
    z, y = np.asarray(logits, dtype=float), np.asarray(harmful, dtype=bool)
    if z.shape != y.shape or y.all() or not y.any():
        raise ValueError("expected a label for each logit, and rows of both classes")
    positive, negative = int(y.sum()), int((~y).sum())
    target = np.where(y, (positive + 1) / (positive + 2), 1 / (negative + 2))
    width = float(z.std()) or 1.0

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        offset = at[1] if method == "platt" else 0.0
        s = at[0] * z / width + offset
        away = special.expit(s) - target
        value = float(np.mean(np.logaddexp(0.0, s) - target * s))
        return value, np.array([np.mean(away * z / width), np.mean(away) if method == "platt" else 0.0])

    found = optimize.minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)])
    return Scale(float(found.x[0]) / width, float(found.x[1]) if method == "platt" else 0.0)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold on a head's logit, and what is promised of it.

    Attributes:
        logit: a row is flagged when its logit is greater.
        fpr: the rate that was asked for: at most this share of benign rows is flagged.
        confidence: in how many of 1 calibrations that holds.
        benign: benign calibration rows.
        flagged: how many of them are flagged.
        effective: how many independent rows they are worth; smaller than `benign` where behaviours repeat.
        upper: the upper confidence bound on the rate of flagged benign rows (Clopper–Pearson).
    """

    logit: float
    fpr: float
    confidence: float
    benign: int
    flagged: int
    effective: int
    upper: float


def upper_bound(k: int, n: int, confidence: float) -> float:
    """Return Clopper and Pearson's one-sided upper bound on a rate, for k of n."""
    return 1.0 if k >= n else float(special.betaincinv(k + 1, n - k, confidence))


def later_excess(k: int, n: int, fpr: float) -> float:
    """Return the probability that of n later rows more than fpr · n exceed the (k+1)-th largest of n.

    Exact for rows in random order, whatever their distribution (negative hypergeometric); with ties it is smaller.
    """
    most = math.floor(fpr * n + 1e-9)
    return float(stats.betabinom.sf(most, n, k + 1, n - k)) if k < n else 1.0


def holds(k: int, n: int, fpr: float, confidence: float) -> bool:
    """Whether a threshold that flags k of n benign rows keeps the promise: of all later rows, and of the next n."""
    return upper_bound(k, n, confidence) <= fpr and later_excess(k, n, fpr) <= 1 - confidence


def rows_needed(fpr: float, confidence: float = 0.95) -> int:
    """Return how many independent benign rows a rate needs at the least; then none of them may be flagged."""
    n = 1
    while not holds(0, n, fpr, confidence):
        n = n + 1 if n < 1000 else math.ceil(n * 1.01)
    return n


def choose_threshold(
    benign: Sequence[float], behaviours: Sequence[Hashable], *, fpr: float = 0.05, confidence: float = 0.95
) -> Threshold:
    """Choose the lowest threshold for which the false-positive rate is bounded.

    Two things hold with this confidence: the rate among all later benign rows is at most `fpr`, and so is the share of
    as many later rows as there are now. Rows of one behaviour are not independent: the number of rows is divided by the
    design effect of the flags, as for Korn and Graubard's interval.

    Args:
        benign: logits of benign calibration rows.
        behaviours: the behaviour of each.
        fpr: from 0.001 to below 1.
        confidence: above 0.5 and below 1.

    Raises:
        UserError: a rate or confidence outside its range, or too few rows; the message says how many are needed.
    """
    if not _FEWEST <= fpr < 1 or not 0.5 < confidence < 1:
        raise UserError(f"a false-positive rate of {fpr:g} at confidence {confidence:g}: expected {_FEWEST:g} ≤ rate "
                        "< 1 and 0.5 < confidence < 1")  # fmt: skip
    scores, n = np.asarray(benign, dtype=float), len(benign)
    needed, groups = rows_needed(fpr, confidence), len(set(behaviours))
    if n >= needed and groups > 1:
        chosen = None
        for logit in np.unique(scores)[::-1]:  # from the highest down: ever more rows are flagged
            flags = scores > logit
            k = int(flags.sum())
            if k > fpr * n:
                break
            effective, hits = _effective(flags, behaviours, groups)
            if effective > hits and holds(hits, effective, fpr, confidence):
                bound = upper_bound(hits, effective, confidence)
                chosen = Threshold(float(logit), fpr, confidence, n, k, effective, bound)
        if chosen is not None:
            return chosen
    some = f"{n} benign rows" + (f" of {groups} behaviours" if groups < n else "")
    raise UserError(
        f"too few benign rows for a false-positive rate of {100 * fpr:g} %: found {some}, and at least {needed} "
        "independent ones are needed; give more, or ask for a higher rate (--fpr)"
    )


def _effective(flags: np.ndarray, behaviours: Sequence[Hashable], groups: int) -> tuple[int, int]:
    """Return the number of independent rows that these are worth, rounded down, and of flagged ones, rounded up."""
    n, k = len(flags), int(flags.sum())
    if groups == n:
        return n, k
    effect = max(1.0, design_effect(flags.astype(float).tolist(), behaviours, IMAGINED))
    return math.floor(n / effect), math.ceil(k / effect - 1e-9)
