"""One arm's rate: Wilson's for one run, never narrower than the seeds allow for several, and what is missing."""

from __future__ import annotations

import numpy as np
import pytest

from safekey.comparison.arm_rates import arm_rates, rate
from safekey.comparison.types import Outcome
from safekey.stats.intervals import interval, quantile, wilson_interval

OWN = np.arange(40)


def column(positive: int, n: int = 40) -> list[float]:
    return [float(i < positive) for i in range(n)]


def test_one_run_of_independent_prompts_is_wilsons() -> None:
    found = rate(np.array([column(10)]), OWN)
    assert (found.value, found.unscored, found.seeds, found.behaviours) == (0.25, 0, 1, 40)
    assert (found.low, found.high) == wilson_interval(10, 40)


def test_one_run_of_attacks_on_behaviours_is_clustered() -> None:
    clusters = OWN // 4
    found = rate(np.array([column(12)]), clusters)
    assert (found.low, found.high) == interval(column(12), clusters.tolist())[1:3]
    assert found.high - found.low > np.subtract(*wilson_interval(12, 40)[::-1])


def test_seeds_that_differ_widen_it_as_a_t_interval_on_their_means() -> None:
    counts = (4, 20, 36)
    found = rate(np.array([column(n) for n in counts]), OWN)
    means = np.array(counts) / 40
    half = quantile(0.05, 2) * means.std(ddof=1) / np.sqrt(3)
    assert found.per_seed == tuple(means)
    assert found.value == pytest.approx(0.5)
    assert found.high == 1.0
    assert half > 0.5
    assert found.low == 0.0


def test_the_margins_are_added_in_squares() -> None:
    rng = np.random.default_rng(0)
    table = (rng.random((4, 60)) < rng.random(60) * 0.3 + np.array([0.2, 0.3, 0.4, 0.5])[:, None]).astype(float)
    clusters = np.arange(60) // 3
    found = rate(table, clusters)
    cells = table.reshape(4, 20, 3).mean(axis=2)
    by_seed, by_behaviour = cells.mean(axis=1), cells.mean(axis=0)
    left = cells - by_seed[:, None] - by_behaviour + cells.mean()
    seed, behaviour = by_seed.var(ddof=1) / 4, by_behaviour.var(ddof=1) / 20
    rest = (left**2).sum() / (3 * 19) / 80
    half = np.sqrt(quantile(0.05, 3) ** 2 * seed + quantile(0.05, 19) ** 2 * max(behaviour - rest, 0))
    assert found.value - found.low == pytest.approx(half)
    assert found.high - found.value == pytest.approx(half)


def test_seeds_that_agree_by_chance_prove_nothing() -> None:
    found = rate(np.array([column(10)] * 3), OWN)
    pooled = interval([*column(10)] * 3, [*range(40)] * 3)
    assert found.high == pytest.approx(pooled.high)
    half = quantile(0.05, 39) * np.std(column(10), ddof=1) / np.sqrt(40)  # the behaviours' margin alone
    assert found.low == pytest.approx(0.25 - half)
    assert found.low < pooled.low
    none = rate(np.zeros((3, 40)), OWN)
    assert none.low == 0.0
    assert 0.05 < none.high < 0.15


def test_missing_outcomes_are_counted_and_bounded() -> None:
    table = np.array([column(10)])
    table[0, 35:] = np.nan
    found = rate(table, OWN)
    assert (found.value, found.unscored) == (10 / 35, 5)
    assert found.bounds == (10 / 40, 15 / 40)


def test_a_run_or_a_prompt_without_any_value_is_left_out() -> None:
    table = np.array([column(10), [np.nan] * 40])
    table[:, 39] = np.nan
    found = rate(table, OWN)
    assert found.seeds == 1
    assert found.behaviours == 39
    assert (found.low, found.high) == wilson_interval(10, 39)
    assert np.isnan(found.per_seed[1])


def test_outcomes_are_grouped_by_arm_and_anything() -> None:
    def outcome(arm: str, item: str, value: float | None, seed: int = 0, cluster: str = "") -> Outcome:
        return Outcome(arm, item, "asr", value, seed=seed, cluster=cluster, benchmark="b")

    rows = [outcome("a", "x", 1.0, 0, "one"), outcome("a", "y", 0.0, 0, "one"), outcome("a", "x", 1.0, 1, "one"),
            outcome("a", "y", 1.0, 1, "one"), outcome("b", "x", None)]  # fmt: skip
    found = arm_rates(rows, lambda row: row.metric)
    assert list(found) == [("a", "asr")]  # nothing is known of b
    assert found["a", "asr"].value == 0.75
    assert found["a", "asr"].behaviours == 1
    assert (found["a", "asr"].low, found["a", "asr"].high) == (0.0, 1.0)  # one behaviour shows nothing about others
