"""The power of a comparison, and the size at which the observed difference would be found."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from safekey.stats.difference import Difference
from safekey.stats.intervals import quantile
from safekey.stats.paired import bisect

POWER = 0.8
MOST = 1000.0  # times the present prompts or seeds; beyond this no feasible size
DRAWS = (np.arange(400) + 0.5) / 400  # probabilities at which the distribution of a variance estimate is evaluated


@dataclass(frozen=True, slots=True)
class Needed:
    """The size at which a difference as large as the observed one is found with 80 % power.

    Attributes:
        items: prompts needed with the present seeds (more behaviours of the same kind); None: no number of them is
            enough.
        seeds: training runs per arm needed with the present prompts; None: no number is enough, or seeds were not
            varied.
    """

    items: int | None
    seeds: int | None


def power(found: Difference, delta: float, alpha: float) -> float:
    """The probability that a comparison like this one finds a true difference of ±delta at two-sided level alpha.

    The variances are taken as estimated, and the share of discordant pairs as observed, or as large as delta if that is
    more. One run each on independent prompts: McNemar's exact test, summed over the number of discordant pairs. One
    run each on clustered prompts: Connor's (1987) normal approximation on the effective pairs. Several seeds: the
    crossed interval, its seed variance drawn from its own χ² distribution.
    """
    if found.behaviours < 2:
        return 0.0
    if found.design != "checkpoints":
        return _crossed_power(found, delta, alpha)
    square = max(found.square, delta)
    if found.independent:
        return _mcnemar_power(found.pairs, square, delta, alpha)
    n = found.effective_pairs
    threshold = quantile(alpha, found.behaviours - 1) * math.sqrt(max(square, 2.0 / n))
    spread = math.sqrt(max(square - delta**2, 1e-12))
    return float(special.ndtr((delta * math.sqrt(n) - threshold) / spread))


def _mcnemar_power(n: int, square: float, delta: float, alpha: float) -> float:
    square = min(square, 1.0)
    middle, spread = n * square, math.sqrt(n * square * (1.0 - square)) + 1.0
    low, high = max(0.0, middle - 6 * spread), min(float(n), middle + 6 * spread)
    # Every number of discordant pairs that may come up; of very many, a few hundred spread evenly.
    counts: NDArray[np.float64] = np.unique(np.round(np.linspace(low, high, min(int(high - low) + 1, 400))))
    logs = special.gammaln(n + 1) - special.gammaln(counts + 1) - special.gammaln(n - counts + 1)
    mass = np.exp(logs + special.xlogy(counts, square) + special.xlog1py(n - counts, -square))
    # The largest k with 2·P(Binomial(count, 1/2) ≤ k) ≤ alpha; −1 where not even k = 0 rejects.
    last = np.full(counts.size, -1.0)
    guess = np.floor(counts / 2 - quantile(alpha) * np.sqrt(counts) / 2)
    for shift in range(-3, 4):
        k = guess + shift
        fits = (k >= 0) & (2.0 * special.bdtr(np.maximum(k, 0), counts, 0.5) <= alpha)
        last = np.where(fits, np.maximum(last, k), last)
    share = (1.0 - delta / square) / 2.0
    reject = np.where(last >= 0, special.bdtr(np.maximum(last, 0), counts, share), 0.0)
    return float((mass * reject).sum() / mass.sum())


def _crossed_power(found: Difference, delta: float, alpha: float) -> float:
    drawn = found.seed_variance * special.chdtri(found.seed_df, 1.0 - DRAWS) / found.seed_df
    squares = quantile(alpha, found.behaviours - 1) ** 2 * found.item_variance
    halves = np.sqrt(squares + quantile(alpha, found.seed_df) ** 2 * drawn)
    n = found.effective_pairs
    floor = quantile(alpha, found.behaviours - 1) * math.sqrt(max(found.square, delta**2, 1.0 / n) / n)
    spread = max(found.standard_error, math.sqrt(max(found.square - found.estimate**2, 0.0) / found.pairs), 1e-9)
    return float(special.ndtr((delta - np.maximum(halves, floor)) / spread).mean())


def minimal_difference(found: Difference, alpha: float) -> float | None:
    """The smallest true difference that a comparison of this size finds with 80 % power; None: not even 1."""
    if power(found, 1.0, alpha) < POWER:
        return None
    return bisect(lambda delta: power(found, delta, alpha) >= POWER, 0.0, 1.0, halvings=17)


def needed(found: Difference, alpha: float) -> Needed:
    """The size at which a true difference as large as the one observed would be found with 80 % power."""
    seen = abs(found.estimate)
    if seen < 1e-9 or found.behaviours < 2:
        return Needed(None, None)

    def enough(items: float, seeds: float) -> bool:
        return power(scaled(found, items, seeds), seen, alpha) >= POWER

    factor = _smallest(lambda times: enough(times, 1.0))
    items = None if factor is None else math.ceil(found.items * factor)
    if found.design == "checkpoints":
        return Needed(items, None)
    runs = max(found.seeds)
    factor = _smallest(lambda times: enough(1.0, times))
    return Needed(items, None if factor is None else max(math.ceil(runs * factor - 1e-6), 2))


def scaled(found: Difference, items: float, seeds: float) -> Difference:
    """The same comparison with the numbers of behaviours and of seeds multiplied.

    A part of the seed variance would shrink with more prompts, too, and is not separated here: the number of prompts is
    then too high, never too low.
    """
    runs = (max(round(found.seeds[0] * seeds), 1), max(round(found.seeds[1] * seeds), 1))
    return replace(
        found,
        pairs=max(round(found.pairs * items * seeds), 1),
        items=max(round(found.items * items), 1),
        behaviours=max(round(found.behaviours * items), 2) if not found.independent else round(found.pairs * items),
        seeds=runs,
        seed_variance=found.seed_variance / seeds,
        seed_df=max(found.seed_df * (max(found.seeds) * seeds - 1) / max(max(found.seeds) - 1, 1), 1.0),
        item_variance=found.item_variance / items,
    )


def _smallest(enough: Callable[[float], bool]) -> float | None:
    """The smallest factor from 1/100 to `MOST` that is enough, within 1 %; None when `MOST` is not."""
    if not enough(MOST):
        return None
    return math.exp(bisect(lambda log: enough(math.exp(log)), math.log(0.01), math.log(MOST), halvings=11))
