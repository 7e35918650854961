"""Means and AUROC with intervals by behaviour: against formulas written out, scikit-learn, and simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from safekey.stats.auroc import auroc
from safekey.stats.means import mean_of


def test_one_row_a_cluster_is_the_usual_t_interval() -> None:
    values = [0.2, 1.4, 0.9, 3.0, 0.1]
    found = mean_of(values, range(5))
    assert found is not None
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values), low, high))


def test_rows_of_one_behaviour_count_once() -> None:
    once = mean_of([1.0, 2.0, 4.0], ["a", "b", "c"])
    thrice = mean_of([1.0] * 3 + [2.0] * 3 + [4.0] * 3, [name for name in "abc" for _ in range(3)])
    assert once is not None
    assert thrice is not None
    assert thrice[:3] == pytest.approx(once[:3])
    assert (thrice.rows, thrice.clusters) == (9, 3)


def test_one_behaviour_has_no_interval_and_no_row_no_mean() -> None:
    assert mean_of([1.0, 2.0], ["a", "a"]) == (1.5, None, None, 2, 1)
    assert mean_of([], []) is None


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    draw = np.random.default_rng(0)
    scores = draw.integers(0, 6, 40).tolist()  # with ties
    label = (draw.random(40) < 0.4).tolist()
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, up in zip(scores, label, strict=True)
        if up
        for b, other in zip(scores, label, strict=True)
        if not other
    ]
    found = auroc(scores, label, range(40))
    assert found is not None
    assert found.value == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
    from sklearn.metrics import roc_auc_score

    assert found.value == pytest.approx(roc_auc_score(label, scores), abs=1e-12)


def test_its_variance_is_that_of_placement_values() -> None:
    """DeLong's, as all rows are clusters of their own: the interval is Wilson's for that number of samples."""
    draw = np.random.default_rng(1)
    label = np.repeat([True, False], 30)
    scores = draw.normal(label * 1.0, 1.0)
    found = auroc(scores.tolist(), label.tolist(), range(60))
    assert found is not None
    up, down = scores[label], scores[~label]
    first = np.array([np.mean(a > down) for a in up]) - found.value
    second = np.array([np.mean(up > b) for b in down]) - found.value
    variance = 60 / 59 * ((first @ first) / 30**2 + (second @ second) / 30**2)
    number, t = found.value * (1 - found.value) / variance, stats.t.ppf(0.975, 59)
    centre = (found.value + t * t / (2 * number)) / (1 + t * t / number)
    inner = found.value * (1 - found.value) / number + t * t / (4 * number**2)
    half = t * math.sqrt(inner) / (1 + t * t / number)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))


def test_strata_are_compared_within() -> None:
    """Two folds on different scales: each in order, together not."""
    scores, label = [10.0, 9.0, 1.0, 0.0], [True, False, True, False]
    pooled, within = auroc(scores, label, range(4)), auroc(scores, label, range(4), [0, 0, 1, 1])
    assert pooled is not None
    assert within is not None
    assert (pooled.value, within.value) == (0.75, 1.0)
    assert auroc([1.0, 2.0], [True, False], range(2), ["a", "b"]) is None
    assert auroc([1.0, 2.0], [True, True], range(2)) is None


def test_scores_all_in_order_keep_an_interval() -> None:
    found = auroc([3.0, 2.0, 1.0, 0.0], [True, True, False, False], range(4))
    assert found is not None
    assert found.high == 1.0
    assert found.low < 0.6


@pytest.mark.parametrize(("gap", "clusters"), [(0.0, 40), (1.0, 40), (2.5, 24)])
def test_intervals_cover(gap: float, clusters: int) -> None:
    """Rows of one behaviour share a shift. The true AUROC lies in at least 92 % of 400 intervals."""
    draw = np.random.default_rng(7)
    truth = stats.norm.cdf(gap / math.sqrt(2 * (1 + 0.5)))
    hits = 0
    for _ in range(400):
        label = np.repeat(np.arange(clusters) % 2 == 0, 3)
        names = np.repeat(np.arange(clusters), 3)
        shift = np.repeat(draw.normal(0, math.sqrt(0.5), clusters), 3)
        scores = draw.normal(label * gap, 1.0) + shift
        found = auroc(scores.tolist(), label.tolist(), names.tolist())
        assert found is not None
        hits += found.low <= truth <= found.high
    assert hits >= 368
