"""The difference between two arms when seeds and behaviours both vary: variance components, interval and p-value.

Every seed answers the same prompts, so the outcomes form a crossed table, seed × behaviour (× attacks on the
behaviour)::

                 behaviour 1    behaviour 2    …
        seed 0    0 1 0 0        1 1 0 1             d = arm − reference for each prompt;
        seed 1    0 0 0 0        1 0 0 1             the mean of all d is the estimate

Its variance has three sources: seeds differ (training is random), behaviours differ (prompts are a sample), and the
rest. docs/statistics.md explains the interval and gives its coverage in simulations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from safekey.stats.intervals import quantile
from safekey.stats.paired import adjusted_wald, bisect, mcnemar, tango_interval
from safekey.stats.variance import Table, parts, welch

TIE = 1e-9  # scores closer than this are equal
NOTHING = "nothing to compare: no prompt has a scored outcome on both sides"
FEW_DISCORDANT = 20  # half the way from a full floor to half of one; see `effective_pairs`
SMALLEST_P = 1e-30  # smaller ones are not told apart
Design = Literal["checkpoints", "matched seeds", "unmatched seeds", "one fixed"]


@dataclass(frozen=True, slots=True)
class Difference:
    """An arm's rate minus the reference's on the same prompts, with its variance components.

    Attributes:
        design: "checkpoints" (one run each), "matched seeds", "unmatched seeds" (several each, none in common), or "one
            fixed" (several against one checkpoint).
        arm_rate: mean outcome of the arm over the pairs, 0–1.
        reference_rate: the reference's.
        estimate: arm_rate − reference_rate.
        pairs: number of pairs (prompt × seed).
        items: number of prompts.
        behaviours: number of clusters.
        seeds: training runs of the arm and of the reference that took part.
        arm_only: pairs where the arm is higher (per prompt, by the seeds' means, when seeds are unmatched).
        reference_only: pairs where it is lower.
        square: mean squared difference of a pair; for 0/1 outcomes the share of discordant pairs.
        binary: whether every outcome is 0 or 1.
        seed_variance: variance of the estimate estimated between seeds; 0 in "checkpoints".
        seed_df: its degrees of freedom.
        item_variance: variance of the estimate that the choice of behaviours adds to it.
    """

    design: Design
    arm_rate: float
    reference_rate: float
    estimate: float
    pairs: int
    items: int
    behaviours: int
    seeds: tuple[int, int]
    arm_only: int
    reference_only: int
    square: float
    binary: bool
    seed_variance: float
    seed_df: float
    item_variance: float

    @property
    def standard_error(self) -> float:
        """Square root of the estimate's variance, by plug-in."""
        return math.sqrt(self.seed_variance + self.item_variance)

    @property
    def independent(self) -> bool:
        """Whether this is the textbook case: one run each, 0/1 outcomes, every prompt its own behaviour."""
        return self.design == "checkpoints" and self.binary and self.behaviours == self.pairs

    @property
    def effective_pairs(self) -> float:
        """The effective number of independent pairs, which the score interval uses.

        One run each: never more than the number of pairs. Several seeds: up to twice as many, because there the score
        interval is only the least width of the crossed one, for seeds that tie by chance and for rare outcomes on few
        behaviours. Ties occur while discordant pairs are few, so the number is not raised there, and raised where they
        are many (not raising it anywhere costs up to 1.5 points of over-coverage). When all pairs agree, nothing shows
        how similar the attacks on one behaviour are, so each behaviour counts once.
        """
        spread, variance = self.square - self.estimate**2, self.seed_variance + self.item_variance
        if spread <= TIE:
            return float(self.behaviours)
        most = float(self.pairs)
        if self.design != "checkpoints":
            discordant = self.pairs * self.square
            most *= 1.0 + discordant / (discordant + FEW_DISCORDANT)
            if not self.binary:  # the adjusted Wald's two added pairs would outweigh a few effective ones
                return most
        return min(spread / variance, most) if variance > 0.0 else most

    def half_width(self, alpha: float) -> float:
        """Half the crossed interval's width: sqrt(t²(seed df)·seed variance + t²(behaviours − 1)·item variance).

        The two margins are added in squares, each with its own quantile (Graybill & Wang 1980; Zou & Donner 2008), so
        that the interval has its level when either source dominates, and is slightly conservative between.
        """
        squares = quantile(alpha, self.behaviours - 1) ** 2 * self.item_variance
        if self.seed_variance > 0.0:
            squares += quantile(alpha, self.seed_df) ** 2 * self.seed_variance
        return math.sqrt(squares)

    def score_interval(self, alpha: float) -> tuple[float, float]:
        """The effective pairs' interval, as if independent: Tango's for 0/1 outcomes, else the adjusted Wald."""
        n = self.effective_pairs
        z = quantile(alpha) if self.independent else quantile(alpha, self.behaviours - 1)
        if self.binary:
            b, c = max(self.square + self.estimate, 0.0) / 2.0, max(self.square - self.estimate, 0.0) / 2.0
            return tango_interval(b * n, c * n, n, z)
        return adjusted_wald(self.estimate, self.square, n, z)

    def interval(self, alpha: float = 0.05) -> tuple[float, float]:
        """The two-sided 1 − alpha confidence interval for the difference, within [−1, 1].

        One run each: the score interval. Several seeds: the crossed interval, on either side at least as wide as the
        score interval. One behaviour: [−1, 1].
        """
        if self.behaviours < 2:
            return -1.0, 1.0
        low, high = self.score_interval(alpha)
        if self.design != "checkpoints":
            half = self.half_width(alpha)
            low, high = min(low, self.estimate - half), max(high, self.estimate + half)
        return max(low, -1.0), min(high, 1.0)

    def p_value(self) -> float:
        """Two-sided p for "no difference".

        One run each, 0/1 outcomes, independent prompts: McNemar's exact test. Otherwise the level at which the interval
        reaches 0; for 0/1 outcomes never below McNemar's p over the pairs, which matters while discordant pairs are
        few.
        """
        if self.independent:
            return mcnemar(self.arm_only, self.reference_only)
        if self.behaviours < 2 or abs(self.estimate) < 1e-12:
            return 1.0
        p = self._score_p()
        if self.binary and self.design != "unmatched seeds":
            p = max(p, mcnemar(self.arm_only, self.reference_only))
        if self.design == "checkpoints" or self.half_width(1.0 - 1e-9) >= abs(self.estimate):
            return p

        def leaves_zero_out(log_p: float) -> bool:
            return self.half_width(math.exp(log_p)) < abs(self.estimate)

        # On a log scale: the levels that matter after a correction are small.
        return max(p, math.exp(bisect(leaves_zero_out, math.log(SMALLEST_P), 0.0)))

    def _score_p(self) -> float:
        """Where the score interval meets 0: McNemar's (b − c)/sqrt(b + c) on effective pairs, for 0/1 outcomes."""
        n = self.effective_pairs
        if self.binary:
            statistic = abs(self.estimate) * math.sqrt(n / self.square)
        else:
            centre = n * self.estimate / (n + 2.0)
            statistic = abs(centre) * math.sqrt((n + 2.0) / ((n * self.square + 2.0) / (n + 2.0) - centre**2))
        return max(2.0 * float(special.stdtr(self.behaviours - 1, -statistic)), SMALLEST_P)


def difference(arm: Table, reference: Table, clusters: NDArray[np.intp], matched: bool = True) -> Difference:
    """Estimate arm − reference from two tables of outcomes on the same prompts.

    Args:
        arm: outcomes [seeds, items] in 0–1; NaN where unscored.
        reference: the same for the reference. A single row on either side is compared with every row of the other.
        clusters: [items], the behaviour of each prompt, as numbers.
        matched: row s of both is the same training seed; otherwise rows are separate draws.

    Raises:
        ValueError: not one pair has both outcomes.
    """
    if matched or 1 in (arm.shape[0], reference.shape[0]):
        return _matched(arm, reference, clusters)
    return _unmatched(arm, reference, clusters)


def _matched(arm: Table, reference: Table, clusters: NDArray[np.intp]) -> Difference:
    runs = (arm.shape[0], reference.shape[0])
    gap = arm - reference
    arm, reference = np.broadcast_to(arm, gap.shape), np.broadcast_to(reference, gap.shape)
    present = ~np.isnan(gap)
    rows, items = present.any(axis=1), present.any(axis=0)
    if not items.any():
        raise ValueError(NOTHING)
    gap, present = gap[rows][:, items], present[rows][:, items]
    arm, reference = arm[rows][:, items][present], reference[rows][:, items][present]
    clusters = np.unique(clusters[items], return_inverse=True)[1]
    found, seeds = parts(gap, clusters), gap.shape[0]
    estimate = float(gap[present].mean())
    return Difference(
        design="checkpoints" if seeds == 1 else "one fixed" if 1 in runs else "matched seeds",
        arm_rate=float(arm.mean()),
        reference_rate=float(reference.mean()),
        estimate=estimate,
        pairs=int(present.sum()),
        items=gap.shape[1],
        behaviours=int(clusters.max()) + 1,
        seeds=(min(runs[0], seeds), min(runs[1], seeds)),
        arm_only=int((gap[present] > TIE).sum()),
        reference_only=int((gap[present] < -TIE).sum()),
        square=float((gap[present] ** 2).mean()),
        binary=_binary(arm) and _binary(reference),
        seed_variance=found.seed,
        seed_df=float(max(seeds - 1, 1)),
        item_variance=found.behaviour if seeds == 1 else max(found.behaviour - found.rest, 0.0),
    )


def _unmatched(arm: Table, reference: Table, clusters: NDArray[np.intp]) -> Difference:
    items = (~np.isnan(arm)).any(axis=0) & (~np.isnan(reference)).any(axis=0)
    if not items.any():
        raise ValueError(NOTHING)
    arm, reference = arm[:, items], reference[:, items]
    arm, reference = arm[(~np.isnan(arm)).any(axis=1)], reference[(~np.isnan(reference)).any(axis=1)]
    clusters = np.unique(clusters[items], return_inverse=True)[1]
    first, second = np.nanmean(arm, axis=0), np.nanmean(reference, axis=0)
    gap = first - second
    ours, theirs = parts(arm, clusters), parts(reference, clusters)
    both, df = welch((ours.seed, arm.shape[0] - 1), (theirs.seed, reference.shape[0] - 1))
    shared = parts(gap[None, :], clusters).behaviour - ours.rest - theirs.rest
    square = np.nanmean(arm**2, axis=0) + np.nanmean(reference**2, axis=0) - 2.0 * first * second
    return Difference(
        design="unmatched seeds" if min(arm.shape[0], reference.shape[0]) > 1 else "one fixed",
        arm_rate=float(first.mean()),
        reference_rate=float(second.mean()),
        estimate=float(gap.mean()),
        pairs=int(min((~np.isnan(arm)).sum(), (~np.isnan(reference)).sum())),
        items=gap.size,
        behaviours=int(clusters.max()) + 1,
        seeds=(arm.shape[0], reference.shape[0]),
        arm_only=int((gap > TIE).sum()),
        reference_only=int((gap < -TIE).sum()),
        square=float(square.mean()),
        binary=_binary(arm[~np.isnan(arm)]) and _binary(reference[~np.isnan(reference)]),
        seed_variance=both,
        seed_df=df,
        item_variance=max(shared, 0.0),
    )


def _binary(values: Table) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())
