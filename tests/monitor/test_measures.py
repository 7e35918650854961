"""Measures of scores, against formulas written out and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from safekey.monitor.measures import measure


def scores(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    harmful = draw.random(n) < 0.4
    return np.round(draw.normal(size=n) + harmful, 1), harmful  # rounded: with ties


def test_auroc_is_the_share_of_pairs_and_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    z, y = scores()
    pairs = [(a > b) + 0.5 * (a == b) for a in z[y] for b in z[~y]]
    found = measure(z.tolist(), y.tolist(), range(len(z)), [0.5] * len(z), draws=50)
    assert found.auroc.value == pytest.approx(np.mean(pairs)) == pytest.approx(metrics.roc_auc_score(y, z))
    assert (found.harmful, found.benign) == (y.sum(), (~y).sum())


@pytest.mark.parametrize("seed", range(4))
def test_tpr_is_the_best_one_that_the_rate_allows(seed: int) -> None:
    z, y = scores(seed=seed)
    found = measure(z.tolist(), y.tolist(), range(len(z)), [0.5] * len(z), draws=0)
    for fpr, ours in ((0.01, found.tpr_at_1), (0.05, found.tpr_at_5)):
        naive = max((z[y] > limit).mean() for limit in np.unique(z) if (z[~y] > limit).mean() <= fpr)
        assert ours.value == pytest.approx(naive)


def test_ece_by_hand() -> None:
    probabilities, harmful = [0.05, 0.05, 0.95, 0.95, 1.0], [False, True, True, True, True]
    found = measure(probabilities, harmful, range(5), probabilities, draws=0)
    assert found.ece.value == pytest.approx((abs(0.1 - 1) + abs(2.9 - 3)) / 5)


def test_intervals_draw_behaviours() -> None:
    z, y = scores(60)
    alone = measure(z.tolist(), y.tolist(), range(60), [0.5] * 60)
    copied = measure([*z, *z, *z], [*y, *y, *y], [*range(60)] * 3, [0.5] * 180)
    taken = measure([*z, *z, *z], [*y, *y, *y], range(180), [0.5] * 180)
    assert copied.behaviours == 60

    def width(found: object) -> float:
        return found.auroc.high - found.auroc.low  # type: ignore[attr-defined]

    assert width(copied) == pytest.approx(width(alone), rel=1e-9)
    assert width(taken) < 0.7 * width(copied)
    assert alone.auroc.low < alone.auroc.value < alone.auroc.high


def test_without_two_behaviours_of_each_class_there_is_no_interval() -> None:
    found = measure([0.1, 0.2, 0.9], [False, False, True], ["a", "b", "c"], [0.1, 0.2, 0.9])
    assert found.auroc == (found.auroc.__class__)(1.0, None, None)
    with pytest.raises(ValueError, match="both classes"):
        measure([0.1], [True], ["a"], [0.1])
