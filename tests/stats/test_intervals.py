"""Shares and quartiles. The rates' intervals are tested in tests/evals/summary/test_rates.py."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from safekey.stats.intervals import design_effect, quantile, share_of, spread_of, wilson, wilson_interval


@pytest.mark.parametrize(("count", "n"), [(0, 10), (3, 10), (121, 313), (10, 10)])
def test_wilson_is_statsmodels(count: int, n: int) -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    expected = proportion.proportion_confint(count, n, method="wilson")
    assert wilson(count / n, n, quantile(0.05)) == pytest.approx(expected, abs=1e-9)


def test_quantiles() -> None:
    assert quantile(0.05) == pytest.approx(stats.norm.ppf(0.975), abs=1e-12)
    assert quantile(1e-12, 4) == pytest.approx(stats.t.isf(5e-13, 4), rel=1e-9)
    assert quantile(1e-30, 2) < float("inf")


@pytest.mark.parametrize(("k", "n"), [(0, 0), (0, 5), (5, 5), (1, 3), (35, 121), (999, 1000)])
def test_a_share_has_wilsons_interval(k: int, n: int) -> None:
    found = share_of([place < k for place in range(n)], [str(place) for place in range(n)])
    assert (found.low, found.high) == wilson_interval(k, n)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcdef")), min_size=2, max_size=40))
def test_design_effect(rows: list[tuple[bool, str]]) -> None:
    hits, clusters = [hit for hit, _ in rows], [cluster for _, cluster in rows]
    found = share_of(hits, clusters)
    groups, p = len(set(clusters)), sum(hits) / len(hits)
    if groups == len(hits):
        assert found.design_effect == 1.0
    elif groups == 1 or p in (0.0, 1.0):
        assert found.design_effect is None
    else:
        assert found.design_effect == pytest.approx(design_effect([float(hit) for hit in hits], clusters))


def test_alike_behaviours_widen_the_interval_by_the_root_of_their_size() -> None:
    hits = [True] * 4 * 10 + [False] * 4 * 10  # 20 behaviours, each four times the same
    found = share_of(hits, [str(place // 4) for place in range(80)])
    assert (found.k, found.n, found.rate, found.clusters) == (40, 80, 0.5, 20)
    assert found.widening == pytest.approx(2.0, rel=0.05)


def test_nothing_is_no_rate() -> None:
    found = share_of([], [])
    assert (found.rate, found.low, found.high, found.widening) == (None, 0.0, 1.0, None)


def test_quartiles() -> None:
    assert spread_of([]) is None
    found = spread_of([4, 1, 3, 2, 5])
    assert found is not None
    assert (found.lower, found.median, found.upper) == (2, 3, 4)
