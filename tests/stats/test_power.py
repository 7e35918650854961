"""Power figures against simulation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from safekey.stats.difference import Difference, difference
from safekey.stats.paired import mcnemar
from safekey.stats.power import minimal_difference, needed, power, scaled


def single(n: int, discordant: float, attacks: int = 1, seed: int = 0) -> Difference:
    rng = np.random.default_rng(seed)
    flips = rng.choice([-1, 0, 1], n, p=[discordant / 2, 1 - discordant, discordant / 2])
    reference = np.where(flips == -1, 1.0, 0.0)
    return difference((reference + flips)[None, :], reference[None, :], np.arange(n) // attacks)


@pytest.mark.parametrize(
    ("n", "share", "alpha"), [(300, 0.2, 0.05), (300, 0.2, 0.05 / 12), (100, 0.1, 0.05), (250, 0.02, 0.05)]
)
def test_mcnemar_power_by_simulation(n: int, share: float, alpha: float) -> None:
    found = single(n, share)
    delta = minimal_difference(found, alpha)
    assert delta is not None
    square = max(found.square, delta)
    rng = np.random.default_rng(1)
    cells = rng.multinomial(n, [(square + delta) / 2, (square - delta) / 2, 1 - square], size=4000)
    hits = np.mean([mcnemar(int(b), int(c)) <= alpha for b, c, _ in cells])
    assert hits == pytest.approx(0.8, abs=0.02)


def test_power_without_discordant_pairs_is_a_run_of_heads() -> None:
    """0 against 0 on 100 prompts: six one-sided pairs are the fewest with p ≤ .05, so about 8 % must truly differ."""
    found = difference(np.zeros((1, 100)), np.zeros((1, 100)), np.arange(100))
    delta = minimal_difference(found, 0.05)
    assert delta is not None
    assert stats.binom.sf(5, 100, delta) == pytest.approx(0.8, abs=0.01)


def clustered(rng: np.random.Generator, delta: float, seeds: int, spread: float) -> Difference:
    """Rates near one half, differences of known size; behaviours of 3, and seeds that differ by `spread`."""
    behaviour = rng.normal(0, 0.1, 60).repeat(3)
    lift = delta + rng.normal(0, spread, (seeds, 1)) + behaviour
    arm = (rng.random((seeds, 180)) < np.clip(0.4 + lift, 0, 1)).astype(float)
    reference = (rng.random((seeds, 180)) < 0.4).astype(float)
    return difference(arm, reference, np.repeat(np.arange(60), 3))


@pytest.mark.parametrize(
    ("seeds", "spread", "alpha"), [(1, 0.0, 0.05), (3, 0.03, 0.05), (5, 0.06, 0.05), (5, 0.03, 0.01)]
)
def test_crossed_power_by_simulation(seeds: int, spread: float, alpha: float) -> None:
    """The minimal difference, at the typical estimate of the variances, is found about 4 times in 5."""
    rng = np.random.default_rng(2)
    pilots = [clustered(rng, 0.0, seeds, spread) for _ in range(150)]
    seed_variance = float(np.mean([pilot.seed_variance for pilot in pilots]))
    item_variance = float(np.mean([pilot.item_variance for pilot in pilots]))
    typical = dataclasses.replace(
        pilots[0], seed_variance=seed_variance, item_variance=item_variance, estimate=0.0, square=0.48
    )
    delta = minimal_difference(typical, alpha)
    assert delta is not None
    hits = np.mean([clustered(rng, delta, seeds, spread).p_value() <= alpha for _ in range(500)])
    assert hits == pytest.approx(0.8, abs=0.08)


def test_more_prompts_and_more_seeds_show_smaller_differences() -> None:
    rng = np.random.default_rng(3)
    found = clustered(rng, 0.05, 4, 0.05)
    now = minimal_difference(found, 0.05)
    more_seeds, more_items = (
        minimal_difference(scaled(found, 1, 3), 0.05),
        minimal_difference(scaled(found, 3, 1), 0.05),
    )
    assert now is not None
    assert more_seeds is not None
    assert more_items is not None
    assert more_seeds < now
    assert more_items <= now
    assert power(found, 0.1, 0.05) > power(found, 0.05, 0.05)


def test_needed_size_would_show_the_difference_seen() -> None:
    rng = np.random.default_rng(4)
    found = dataclasses.replace(clustered(rng, 0.04, 3, 0.03), estimate=0.06)
    size = needed(found, 0.05)
    assert size.seeds is not None
    again = scaled(found, 1.0, size.seeds / 3)
    assert power(again, abs(found.estimate), 0.05) >= 0.79


def test_needed_items_for_a_single_run() -> None:
    found = dataclasses.replace(single(300, 0.2), estimate=0.02)
    size = needed(found, 0.05)
    assert size.seeds is None
    # Connor's sample size for paired proportions: (z·√ψ + z'·√(ψ − δ²))²/δ²
    square = found.square
    connor = ((1.96 * square**0.5 + 0.8416 * (square - 0.02**2) ** 0.5) / 0.02) ** 2
    assert size.items == pytest.approx(connor, rel=0.05)


def test_no_size_shows_no_difference() -> None:
    found = difference(np.zeros((1, 50)), np.zeros((1, 50)), np.arange(50))
    assert needed(found, 0.05).items is None
    one = difference(np.ones((1, 50)), np.zeros((1, 50)), np.zeros(50, dtype=int))
    assert minimal_difference(one, 0.05) is None
    assert needed(one, 0.05).items is None


def test_two_prompts_can_show_nothing() -> None:
    found = difference(np.array([[1.0, 0.0]]), np.array([[0.0, 0.0]]), np.arange(2))
    assert minimal_difference(found, 0.05) is None
