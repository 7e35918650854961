"""Tests and intervals for two columns, against scipy, statsmodels and the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from safekey.stats.intervals import quantile
from safekey.stats.paired import adjusted_wald, holm, mcnemar, tango_interval

counts = st.integers(0, 60)


@settings(deadline=None)
@given(counts, counts)
def test_mcnemar_is_statsmodels_and_the_binomial_test(b: int, c: int) -> None:
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    assert mcnemar(b, c) == pytest.approx(tables.mcnemar([[7, b], [c, 5]], exact=True).pvalue, abs=1e-9)
    if b + c:
        assert mcnemar(b, c) == pytest.approx(stats.binomtest(b, b + c, 0.5).pvalue, abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_statsmodels(seed: int) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    rng = np.random.default_rng(seed)
    p_values = (rng.random(seed + 1) ** 4).round(3).tolist()  # small ones, ties and zeros
    assert holm(p_values) == pytest.approx(list(multitest.multipletests(p_values, method="holm")[1]), abs=1e-9)


def test_holm_of_nothing() -> None:
    assert holm([]) == []


def score_by_definition(b: int, c: int, n: int, delta: float) -> float:
    """(b − c − nΔ)/sd, with the nuisance probability found by maximising the multinomial likelihood."""

    def loss(q: float) -> float:
        cells = [(b, q + delta), (c, q), (n - b - c, 1 - 2 * q - delta)]
        return -sum(k * math.log(max(p, 1e-300)) for k, p in cells if k)

    q = optimize.minimize_scalar(
        loss, bounds=(max(0, -delta), (1 - delta) / 2), method="bounded", options={"xatol": 1e-12}
    ).x
    return float((b - c - n * delta) / math.sqrt(n * (2 * q + delta - delta**2)))


@pytest.mark.parametrize(("b", "c", "n"), [(40, 20, 160), (9, 31, 200), (1, 0, 50), (12, 2, 50), (5, 5, 20)])
def test_tango_interval_ends_where_the_score_is_z(b: int, c: int, n: int) -> None:
    z = quantile(0.05)
    low, high = tango_interval(b, c, n, z)
    assert score_by_definition(b, c, n, low) == pytest.approx(z, abs=1e-4)
    assert score_by_definition(b, c, n, high) == pytest.approx(-z, abs=1e-4)


@settings(deadline=None)
@given(counts, counts, st.integers(0, 200), st.floats(0.5, 4))
def test_tango_interval_is_symmetric_and_within_its_range(b: int, c: int, rest: int, z: float) -> None:
    n = b + c + rest
    if n == 0:
        return
    low, high = tango_interval(b, c, n, z)
    assert -1 <= low <= (b - c) / n + 1e-9
    assert (b - c) / n - 1e-9 <= high <= 1
    assert tango_interval(c, b, n, z) == pytest.approx((-high, -low), abs=1e-9)
    assert low < high


def test_tango_interval_without_discordant_pairs_is_wilson_like() -> None:
    low, high = tango_interval(0, 0, 100, 2.0)
    assert high == pytest.approx(4 / 104)  # z²/(n + z²)
    assert low == pytest.approx(-4 / 104)


def test_tango_leaves_zero_out_exactly_when_mcnemars_statistic_exceeds_z() -> None:
    z = (31 - 9) / math.sqrt(40)
    assert tango_interval(31, 9, 200, z)[0] == pytest.approx(0, abs=1e-9)


def test_adjusted_wald_is_bonett_and_prices_for_counts() -> None:
    b, c, n, z = 12, 5, 90, 1.96
    first, second = (b + 1) / (n + 2), (c + 1) / (n + 2)
    half = z * math.sqrt((first + second - (first - second) ** 2) / (n + 2))
    expected = first - second - half, first - second + half
    assert adjusted_wald((b - c) / n, (b + c) / n, n, z) == pytest.approx(expected, abs=1e-12)
