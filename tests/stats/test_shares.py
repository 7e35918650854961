"""Shares against the evaluation's own statistics: the same numbers, although neither room may import the other."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safekey.stats.intervals import design_effect, wilson_interval
from safekey.stats.shares import share_of, spread_of, wilson


@pytest.mark.parametrize(("k", "n"), [(0, 0), (0, 5), (5, 5), (1, 3), (35, 121), (999, 1000)])
def test_wilson(k: int, n: int) -> None:
    assert wilson(k, n) == pytest.approx(wilson_interval(k, n), abs=1e-9)


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
