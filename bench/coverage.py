"""Coverage of the intervals of `safekey compare` and its false positives, in simulated runs with a known truth.

python bench/coverage.py                           the tables of docs/statistics.md (minutes)
python bench/coverage.py --runs 200                quicker and less precise
python bench/coverage.py --families --runs 4000    the table of false positives alone
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from safekey.stats.difference import Difference, difference
from safekey.stats.paired import holm

Table = NDArray[np.float64]
UNTRAINED = (0.9, 0.02, 0.6)  # ASR, ORR and accuracy of the untrained model
NODES, WEIGHTS = special.roots_hermitenorm(61)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


@dataclass(frozen=True)
class World:
    """A distribution of simulated outcomes: 0/1 draws, the logit of whose rate is a sum of normal effects.

    behaviour: shared by the arms; taste: of an arm on a behaviour; seed: of a training run; whim: of a run on a
    behaviour. The attacks on a behaviour are spread evenly over ±`attack`. `rate_spread` turns `seed` into the standard
    deviation of a run's rate.
    """

    rates: tuple[float, ...] = (0.3, 0.3)
    seeds: int = 3
    behaviours: int = 100
    attacks: int = 6
    behaviour: float = 1.5
    taste: float = 0.7
    seed: float = 0.25
    whim: float = 0.7
    attack: float = 0.5

    @property
    def effects(self) -> Table:
        """The attacks' fixed effects."""
        return np.linspace(-self.attack, self.attack, self.attacks) if self.attacks > 1 else np.zeros(1)

    def rate_spread(self, rate: float) -> float:
        """Standard deviation, over training seeds, of a run's rate."""
        rest = np.sqrt(self.behaviour**2 + self.taste**2 + self.whim**2)
        grid = special.expit(self.intercept(rate) + self.seed * NODES[:, None] + rest * NODES)
        means = grid @ WEIGHTS
        return float(np.sqrt(max(WEIGHTS @ means**2 - (WEIGHTS @ means) ** 2, 0.0)))

    @functools.cache  # noqa: B019 (a handful of frozen worlds)
    def intercept(self, rate: float) -> float:
        """The logit at which the rate over all seeds, behaviours and attacks is exactly `rate`."""
        spread = np.sqrt(self.behaviour**2 + self.taste**2 + self.seed**2 + self.whim**2)
        low, high = -40.0, 40.0
        for _ in range(60):
            middle = (low + high) / 2.0
            grid = special.expit(middle + self.effects[:, None] + spread * NODES)
            low, high = (middle, high) if (grid @ WEIGHTS).mean() < rate else (low, middle)
        return (low + high) / 2.0


def tables(world: World, rng: np.random.Generator) -> list[Table]:
    """One simulated table of outcomes [seeds, behaviours × attacks] for each arm."""
    shared = world.behaviour * rng.standard_normal(world.behaviours)
    found = []
    for rate in world.rates:
        logit = world.intercept(rate) + shared + world.taste * rng.standard_normal(world.behaviours)
        logit = logit + world.seed * rng.standard_normal((world.seeds, 1))
        logit = logit + world.whim * rng.standard_normal((world.seeds, world.behaviours))
        chance = special.expit(logit[:, :, None] + world.effects)
        found.append((rng.random(chance.shape) < chance).astype(np.float64).reshape(world.seeds, -1))
    return found


def clusters(world: World) -> NDArray[np.intp]:
    """The behaviour of each column."""
    return np.repeat(np.arange(world.behaviours), world.attacks)


@dataclass(frozen=True)
class Row:
    """Results of many simulated comparisons, in percent, and the mean width in points."""

    covered: float
    below: float
    rejected: float
    width: float


def measure(world: World, runs: int, seed: int = 0, matched: bool = True, alpha: float = 0.05) -> Row:
    """Simulate `runs` comparisons of the first two rates; count intervals that contain the truth."""
    rng, truth, columns = np.random.default_rng(seed), world.rates[0] - world.rates[1], clusters(world)
    low, high, p = np.empty(runs), np.empty(runs), np.empty(runs)
    for run in range(runs):
        arm, reference = tables(world, rng)
        found: Difference = difference(arm, reference, columns, matched)
        low[run], high[run] = found.interval(alpha)
        p[run] = found.p_value()
    held = (low <= truth + 1e-12) & (truth - 1e-12 <= high)
    return Row(100 * held.mean(), 100 * (high < truth).mean(), 100 * (p <= alpha).mean(), 100 * (high - low).mean())


def family_error(world: World, runs: int, arms: int = 4, seed: int = 0, alpha: float = 0.05) -> tuple[float, float]:
    """Percent of simulated reports in which a trained arm has any corrected p ≤ alpha, though none truly differs.

    A report compares `arms` trained arms with the reference on 3 metrics. It also holds the untrained model, one
    checkpoint that truly differs. The first number leaves it out of the correction, as `safekey compare` does; the
    second counts its 3 comparisons among the corrected ones.
    """
    rng, columns, hits = np.random.default_rng(seed), clusters(world), np.zeros(2)
    for _ in range(runs):
        p_values, described = [], []
        for rate, untrained in zip((world.rates[0], 0.05, 0.7), UNTRAINED, strict=True):  # ASR, ORR, accuracy
            reference, *others, base = tables(replace(world, rates=(*(rate,) * (arms + 1), untrained)), rng)
            p_values += [difference(other, reference, columns).p_value() for other in others]
            described.append(difference(base[:1], reference, columns).p_value())
        hits += min(holm(p_values)) <= alpha, min(holm(p_values + described)[: len(p_values)]) <= alpha
    left_out, counted = 100 * hits / runs
    return float(left_out), float(counted)


def wrong_better(world: World, runs: int, arms: int = 4, seed: int = 0, margin: float = 0.03) -> float:
    """Percent of simulated reports that find an arm's over-refusal within the margin when all are exactly at it."""
    rng, columns, hits = np.random.default_rng(seed), clusters(world), 0
    for _ in range(runs):
        reference, *others = tables(replace(world, rates=(0.05, *(0.05 + margin,) * arms)), rng)
        edges = [difference(other, reference, columns).interval(0.05 / arms)[1] for other in others]
        hits += min(edges) < margin
    return 100 * hits / runs


def worlds() -> Iterator[World]:
    """The settings of docs/statistics.md."""
    for seeds in (1, 3, 5, 10):
        for behaviours, attacks in ((50, 6), (200, 4), (300, 1)):
            for rates in ((0.02, 0.02), (0.02, 0.06), (0.1, 0.1), (0.3, 0.45), (0.7, 0.7)):
                for spread in (0.0,) if seeds == 1 else (0.0, 0.25, 0.65, 1.1):
                    yield World(rates, seeds, behaviours, attacks, seed=spread)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 3, 5, 10])
    parser.add_argument("--unmatched", action="store_true")
    parser.add_argument("--families", action="store_true", help="only the false positives of whole reports")
    asked = parser.parse_args()
    if not asked.families:
        _coverage(asked)
    if not asked.unmatched:
        _families(asked)


def _coverage(asked: argparse.Namespace) -> None:
    print("| seeds | behaviours × attacks | rates | sd of a run | covered % | all below % | p ≤ .05 % | width |")
    print("|---|---|---|---|---|---|---|---|")
    for world in worlds():
        if world.seeds in asked.seeds:
            print(_line(world, measure(world, asked.runs, matched=not asked.unmatched)), flush=True)


def _families(asked: argparse.Namespace) -> None:
    print("\n| seeds | behaviours × attacks | seed effect | sd of a run | any of 12 false, % | "
          "untrained counted, % | margin wrongly held, % |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    for seeds in asked.seeds:
        for spread in (0.0,) if seeds == 1 else (0.25, 0.65):
            world = World((0.4, 0.4), seeds, 100, 3, seed=spread)
            errors = (*family_error(world, asked.runs), wrong_better(world, asked.runs))
            cells = (f"{seeds}", "100 × 3", f"{spread}", f"{world.rate_spread(0.4):.2f}", *(f"{e:.1f}" for e in errors))
            print(f"| {' | '.join(cells)} |", flush=True)


def _line(world: World, row: Row) -> str:
    spread = world.rate_spread(world.rates[1])
    cells = [f"{world.seeds}", f"{world.behaviours} × {world.attacks}", f"{world.rates[0]}, {world.rates[1]}"]
    cells += [f"{number:.{digits}f}" for number, digits in ((spread, 3), (row.covered, 1), (row.below, 1))]
    cells += [f"{row.rejected:.1f}", f"{row.width:.1f}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
