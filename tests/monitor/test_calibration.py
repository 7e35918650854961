"""The threshold keeps its promise on later rows, and probabilities are calibrated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from safekey.errors import UserError
from safekey.monitor.calibration import (
    Scale,
    choose_threshold,
    fit_scale,
    holds,
    later_excess,
    rows_needed,
    upper_bound,
)
from safekey.monitor.measures import measure


def test_the_bound_is_clopper_and_pearsons() -> None:
    for k, n in ((0, 59), (3, 200), (16, 500)):
        assert upper_bound(k, n, 0.95) == pytest.approx(stats.beta.ppf(0.95, k + 1, n - k))
    assert upper_bound(5, 5, 0.95) == 1.0


def test_the_chance_of_excess_is_that_of_random_order() -> None:
    """Of 2n rows in random order, n calibrate: how many of the others lie above the (k+1)-th largest of those?"""
    draw, n, k, fpr = np.random.default_rng(0), 40, 1, 0.1
    over = []
    for _ in range(4000):
        order = draw.permutation(2 * n)
        limit = np.sort(order[:n])[n - k - 1]
        over.append((order[n:] > limit).sum() > fpr * n)
    assert np.mean(over) == pytest.approx(later_excess(k, n, fpr), abs=0.02)


@pytest.mark.parametrize("size", [200, 400, 1000])
@pytest.mark.parametrize("fpr", [0.05, 0.1])
def test_the_promise_holds_on_the_other_half(size: int, fpr: float) -> None:
    """In at least 184 of 200 splits, of scores from three quite different distributions in turn."""
    draw, kept, true = np.random.default_rng(size), 0, 0
    for split in range(200):
        scores = (draw.normal(size=size), draw.exponential(size=size), draw.standard_cauchy(size=size))[split % 3]
        first, second = scores[: size // 2], scores[size // 2 :]
        found = choose_threshold(first.tolist(), range(len(first)), fpr=fpr)
        assert found.upper <= fpr
        assert found.flagged == (first > found.logit).sum()
        kept += (second > found.logit).mean() <= fpr
        rate = (stats.norm.sf, stats.expon.sf, stats.cauchy.sf)[split % 3](found.logit)
        true += rate <= fpr
    assert kept >= 184
    assert true >= 184


def test_the_promise_holds_on_halves_of_one_pool_of_behaviours() -> None:
    """Scores of one behaviour are alike, and a behaviour is in one half only."""
    draw = np.random.default_rng(1)
    names = np.repeat(np.arange(300), 4)
    scores = draw.normal(size=300)[names] + 0.5 * draw.normal(size=1200)
    kept, plain = 0, 0
    for _ in range(200):
        chosen = set(draw.permutation(300)[:150].tolist())
        inside = np.array([name in chosen for name in names])
        found = choose_threshold(scores[inside].tolist(), names[inside].tolist(), fpr=0.05)
        assert found.effective < found.benign
        kept += (scores[~inside] > found.logit).mean() <= 0.05
        naive = choose_threshold(scores[inside].tolist(), range(600), fpr=0.05)
        plain += (scores[~inside] > naive.logit).mean() <= 0.05
    assert kept >= 184
    assert plain < kept  # taken as independent, the same rows promise too much


def test_ties_never_break_the_promise() -> None:
    scores = [0.0] * 180 + [1.0] * 20
    found = choose_threshold(scores, range(200), fpr=0.05)
    assert found.logit == 1.0
    assert found.flagged == 0


def test_as_few_rows_are_flagged_as_needed() -> None:
    """The threshold is the lowest that holds."""
    scores = np.random.default_rng(2).normal(size=500)
    found = choose_threshold(scores.tolist(), range(500), fpr=0.05)
    assert holds(found.flagged, 500, 0.05, 0.95)
    assert not holds(found.flagged + 1, 500, 0.05, 0.95)


def test_how_many_rows_are_needed() -> None:
    assert rows_needed(0.05) == 80
    assert rows_needed(0.01) == 400
    with pytest.raises(UserError, match="found 79 benign rows, and at least 80 independent ones are needed"):
        choose_threshold([float(i) for i in range(79)], range(79), fpr=0.05)
    assert choose_threshold([float(i) for i in range(80)], range(80), fpr=0.05).flagged == 0
    with pytest.raises(UserError, match="found 300 benign rows of 1 behaviours"):
        choose_threshold([float(i) for i in range(300)], ["one"] * 300, fpr=0.05)
    for wrong in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(UserError, match=r"expected 0\.001"):
            choose_threshold([0.0] * 500, range(500), fpr=wrong)


def test_the_scale_is_found_again() -> None:
    draw = np.random.default_rng(3)
    logits = draw.normal(0, 2, 20000)
    harmful = draw.random(20000) < special.expit(0.7 * logits - 1.0)
    platt = fit_scale(logits.tolist(), harmful.tolist())
    assert platt == pytest.approx((0.7, -1.0), abs=0.07)
    probabilities = special.expit(platt.slope * logits + platt.offset).tolist()
    assert measure(logits.tolist(), harmful.tolist(), range(20000), probabilities, draws=0).ece.value < 0.01
    centred = draw.random(20000) < special.expit(0.4 * logits)
    assert fit_scale(logits.tolist(), centred.tolist(), "temperature") == pytest.approx((0.4, 0.0), abs=0.03)


def test_a_head_that_points_the_wrong_way_gets_no_slope() -> None:
    assert fit_scale([-1.0, -2.0, 1.0, 2.0] * 20, [True, True, False, False] * 20).slope == 0.0
    assert Scale(0.0, 0.0).probability(9.0) == 0.5
    with pytest.raises(ValueError, match="both classes"):
        fit_scale([1.0, 2.0], [True, True])


def test_classes_that_are_apart_keep_a_finite_slope() -> None:
    found = fit_scale([-3.0, -2.0, 2.0, 3.0], [False, False, True, True])
    assert 0 < found.slope < 5
    assert 0.7 < found.probability(3.0) < 1
