"""Cohen's κ and Krippendorff's α of two raters: values, and intervals that hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from safekey.stats.agreement import cohen_kappa, krippendorff_alpha
from safekey.stats.judge_error import Counts
from safekey.stats.two_raters import alpha, kappa


def single(both: int, first: int, second: int, neither: int) -> list[Counts]:
    """Counts of requests with one answer each."""
    return [(1, 0, 0, 0)] * both + [(0, 1, 0, 0)] * first + [(0, 0, 1, 0)] * second + [(0, 0, 0, 1)] * neither


def test_the_values_are_those_of_agreement() -> None:
    cells = single(20, 5, 10, 15)
    ratings = [[row[0] + row[1] for row in cells], [row[0] + row[2] for row in cells]]
    for found, theirs, by_hand in (
        (kappa(cells), cohen_kappa(*ratings), 0.4),  # Cohen's example: 0.7 observed, 0.5 by chance
        (alpha(cells), krippendorff_alpha(ratings), 1 - 99 * 15 / (55 * 45)),
    ):
        assert found is not None
        assert found.value == pytest.approx(theirs)
        assert found.value == pytest.approx(by_hand)
        assert found.low < found.value < found.high


def test_one_label_only_is_no_proof_of_agreement() -> None:
    for cells in (single(10, 0, 0, 0), single(0, 0, 0, 4), [], [(0, 0, 0, 0)]):
        assert kappa(cells) is None
        assert alpha(cells) is None


def test_one_request_says_nothing_of_others() -> None:
    for found in (kappa([(20, 5, 10, 15)]), alpha([(20, 5, 10, 15), (0, 0, 0, 0)])):
        assert found is not None
        assert found[1:] == (-1.0, 1.0)


def test_perfect_agreement_has_a_width_that_shrinks() -> None:
    for of in (kappa, alpha):
        lows = []
        for n in (10, 20, 80):
            found = of(single(n // 2, 0, 0, n // 2))
            assert found is not None
            assert found.value == found.high == 1
            lows.append(found.low)
        assert lows == sorted(lows)
        assert lows[-1] < 0.99
    found = alpha(single(10, 0, 0, 10))
    assert found is not None
    # n = 20, half of them 1: 10 u + 10 u² / (2 − u) = 1.96² for u = 1 − α gives u = 0.3222
    assert found.low == pytest.approx(1 - 0.3222 * 39 / 40, abs=5e-4)


def test_intervals_widen_where_requests_repeat() -> None:
    apart, alike = single(56, 4, 4, 56), [(4, 0, 0, 0)] * 14 + [(0, 4, 0, 0), (0, 0, 4, 0)] + [(0, 0, 0, 4)] * 14
    for of in (kappa, alpha):
        one, other = of(apart), of(alike)
        assert one is not None
        assert other is not None
        assert one.value == pytest.approx(other.value)
        assert other.high - other.low > 1.4 * (one.high - one.low)


@pytest.mark.parametrize(("n", "share", "truth"), [(30, 0.3, 0.95), (60, 0.1, 0.6), (100, 0.5, 0.8)])
def test_alphas_interval_covers_the_truth_about_as_often_as_it_says(n: int, share: float, truth: float) -> None:
    """Raters with one share of 1 and a known α; 300 draws: the standard error of the coverage is 1.3 points."""
    random, spread, inside = np.random.default_rng(7), share * (1 - share), 0
    chances = [share**2 + spread * truth, spread * (1 - truth), spread * (1 - truth)]
    for _ in range(300):
        both, first, second, neither = random.multinomial(n, [*chances, 1 - sum(chances)]).tolist()
        found = alpha(single(both, first, second, neither))
        inside += found is None or found.low <= truth <= found.high
    assert 0.90 <= inside / 300 <= 0.99
