"""How far raters agree, with an interval."""

from __future__ import annotations

import numpy as np
import pytest

from safekey.evals.labelling.agreement import agreements, interval
from safekey.evals.labelling.wording import agreement_lines, differing_lines
from safekey.stats.agreement import krippendorff_alpha


def rows(rater: str, labels: str, requests: list[str] | None = None) -> list[dict[str, object]]:
    """One row for each sign: 1, 0, "s" (skipped), "." (not seen)."""
    return [
        {"rater": rater, "completion": f"c{place}", "id": f"id-{place}",
         "request": requests[place] if requests else f"r{place}", "label": None if sign == "s" else int(sign)}
        for place, sign in enumerate(labels) if sign != "."
    ]  # fmt: skip


def test_counts_and_differences() -> None:
    (pair,) = agreements([*rows("ben", "1100s1."), *rows("ann", "10101.1")])
    assert (pair.first, pair.second, pair.both, pair.equal) == ("ann", "ben", 4, 2)
    assert pair.counts == {"1,1": 1, "1,0": 1, "0,1": 1, "0,0": 1}
    assert pair.differing == ("id-1", "id-2")
    assert pair.kappa == pytest.approx(0.0)
    assert pair.alpha == pytest.approx(0.125)
    assert "ann and ben: the same label on 2 of 4 answers; Cohen's κ 0.00" in agreement_lines([pair])[0]
    assert differing_lines([pair]) == ["ann and ben differ on: id-1, id-2"]


def test_one_label_only_is_no_proof_of_agreement() -> None:
    (pair,) = agreements([*rows("ann", "0000"), *rows("ben", "0000")])
    assert (pair.kappa, pair.alpha, pair.low, pair.high) == (None, None, None, None)
    assert "not defined" in agreement_lines([pair])[0]


def test_each_two_of_three_raters_and_raters_without_a_common_answer() -> None:
    pairs = agreements([*rows("a", "10.."), *rows("b", "..10"), *rows("c", "1010")])
    assert [(pair.first, pair.second, pair.both) for pair in pairs] == [("a", "b", 0), ("a", "c", 2), ("b", "c", 2)]
    assert "no answer that both have labelled" in agreement_lines(pairs)[0]
    assert agreements(rows("a", "11")) == []


def test_perfect_agreement_has_a_width_that_shrinks() -> None:
    lows = []
    for n in (10, 20, 80):
        labels = [1, 0] * (n // 2)
        low, high = interval(labels, labels, [str(place) for place in range(n)])
        assert low is not None
        assert high == 1
        lows.append(low)
    assert lows == sorted(lows)
    # n = 20, half of them 1: 10 u + 10 u² / (2 − u) = 1.96² for u = 1 − κ gives u = 0.3222
    assert lows[1] == pytest.approx(1 - 0.3222 * 39 / 40, abs=5e-4)


def test_the_interval_holds_alpha_and_widens_where_requests_repeat() -> None:
    random = np.random.default_rng(0)
    first = random.integers(0, 2, 120)
    second = np.where(np.repeat(random.random(30) < 0.25, 4), 1 - first, first)  # who differs, differs on a request
    alpha = krippendorff_alpha([first.tolist(), second.tolist()])
    apart = interval(first.tolist(), second.tolist(), [str(place) for place in range(120)])
    alike = interval(first.tolist(), second.tolist(), [str(place // 4) for place in range(120)])
    assert alpha is not None
    for low, high in (apart, alike):
        assert low is not None
        assert high is not None
        assert -1 <= low < alpha < high <= 1
    assert alike[1] - alike[0] > 1.5 * (apart[1] - apart[0])  # type: ignore[operator]


def test_no_interval_without_two_requests() -> None:
    assert interval([1, 0, 1], [1, 1, 0], ["r", "r", "r"]) == (None, None)
    assert interval([], [], []) == (None, None)


@pytest.mark.parametrize(("n", "share", "alpha"), [(30, 0.3, 0.95), (60, 0.1, 0.6), (100, 0.5, 0.8)])
def test_it_covers_the_truth_about_as_often_as_it_says(n: int, share: float, alpha: float) -> None:
    """Raters with one share of 1 and a known α; 300 draws: the standard error of the coverage is 1.3 points."""
    random, spread, inside = np.random.default_rng(7), share * (1 - share), 0
    chances = [share**2 + spread * alpha, spread * (1 - alpha), spread * (1 - alpha)]
    for _ in range(300):
        cells = random.choice(4, size=n, p=[*chances, 1 - sum(chances)])
        first, second = (cells <= 1).astype(int), ((cells == 0) | (cells == 2)).astype(int)
        low, high = interval(first.tolist(), second.tolist(), [str(place) for place in range(n)])
        inside += low is None or high is None or low <= alpha <= high
    assert 0.90 <= inside / 300 <= 0.99
