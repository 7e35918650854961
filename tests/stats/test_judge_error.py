"""Rates and differences corrected for a judge's error: the formulas, the edges, and the coverage of the intervals."""

from __future__ import annotations

import numpy as np
import pytest

from safekey.stats.intervals import wilson_interval
from safekey.stats.judge_error import Counts, Estimate, JudgeError, corrected_difference, corrected_rate, judge_error
from safekey.stats.labelled import LabelledError, error_by_verdict, labelled_difference, labelled_error, labelled_rate


def share(k: int, n: int) -> Estimate:
    return Estimate(k / n, *wilson_interval(k, n))


def single(hits: int, misses: int, alarms: int, passes: int) -> list[Counts]:
    """Counts of requests with one answer each."""
    return [(1, 0, 0, 0)] * hits + [(0, 1, 0, 0)] * misses + [(0, 0, 1, 0)] * alarms + [(0, 0, 0, 1)] * passes


PERFECT = JudgeError(Estimate(1.0, 1.0, 1.0), Estimate(0.0, 0.0, 0.0))


def test_the_error_is_that_of_two_shares() -> None:
    error = judge_error(single(90, 10, 5, 95))
    assert error.sensitivity == share(90, 100)
    assert error.alarms == share(5, 100)
    assert error.specificity.value == pytest.approx(0.95)
    assert error.gain.value == pytest.approx(0.85)
    assert error.correlation == 0
    assert error.usable


def test_rogan_and_gladens_estimate() -> None:
    found = corrected_rate(share(30, 100), judge_error(single(90, 10, 5, 95)))
    assert found.value == pytest.approx((0.30 - 0.05) / 0.85)
    assert found.low < found.value < found.high


def test_a_perfect_judge_changes_nothing() -> None:
    rate, difference = share(30, 100), Estimate(-0.1, -0.2, 0.01)
    assert corrected_rate(rate, PERFECT)[:3] == pytest.approx(rate)
    assert corrected_difference(difference, PERFECT)[:3] == pytest.approx(difference)


@pytest.mark.parametrize("q", [0.0, 0.02, 0.1, 0.5, 0.9, 1.0])
def test_intervals_stay_in_range_and_hold_the_estimate(q: float) -> None:
    for counts in (single(9, 1, 1, 9), single(50, 0, 0, 50), single(60, 40, 30, 70)):
        found = corrected_rate(share(round(200 * q), 200), judge_error(counts))
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.high > found.low


def test_a_rate_below_the_false_alarms_has_no_short_interval() -> None:
    error = judge_error(single(95, 5, 20, 80))
    at, below = corrected_rate(Estimate(0.20, 0.15, 0.26), error), corrected_rate(Estimate(0.01, 0.0, 0.04), error)
    assert below.raw < 0
    assert below.value == below.low == 0
    assert below.high > 0.03  # a cut interval would be empty
    assert at.low == 0


def test_a_useless_judge_is_refused() -> None:
    for counts in (single(5, 5, 5, 5), single(6, 4, 4, 6), single(1, 9, 9, 1)):
        error = judge_error(counts)
        assert not error.usable
        with pytest.raises(ValueError, match="chance"):
            corrected_rate(share(10, 20), error)
        with pytest.raises(ValueError, match="chance"):
            corrected_difference(Estimate(0.1, 0.0, 0.2), error)
    with pytest.raises(ValueError, match="both kinds"):
        judge_error(single(5, 1, 0, 0))


def test_a_corrected_difference_has_the_sign_and_the_zero_of_the_judged_one() -> None:
    error = judge_error(single(80, 20, 10, 90))
    for judged in (
        Estimate(0.2, 0.1, 0.3),
        Estimate(-0.2, -0.3, -0.1),
        Estimate(0.1, -0.05, 0.2),
        Estimate(0, -0.1, 0.1),
    ):
        found = corrected_difference(judged, error)
        assert found.value == pytest.approx(judged.value / 0.7)
        assert found.low <= found.value <= found.high
        assert (found.low <= 0 <= found.high) == (judged.low <= 0 <= judged.high)
        assert found.high - found.low > judged.high - judged.low
    up, down = (
        corrected_difference(Estimate(0.2, 0.1, 0.3), error),
        corrected_difference(Estimate(-0.2, -0.3, -0.1), error),
    )
    assert (up.low, up.high) == pytest.approx((-down.high, -down.low))


def test_requests_that_repeat_widen_the_interval() -> None:
    alone, alike = (
        judge_error(single(80, 20, 10, 90)),
        judge_error([(4, 0, 0, 0)] * 20 + [(0, 4, 0, 0)] * 5 + [(0, 0, 0, 10)] * 9 + [(0, 0, 10, 0)]),
    )
    assert alike.sensitivity.value == alone.sensitivity.value
    assert alike.sensitivity.below > 1.5 * alone.sensitivity.below
    mixed = judge_error([(2, 0, 2, 0), (0, 2, 0, 2)] * 10)  # the judge goes by the request
    assert mixed.correlation == pytest.approx(1)


def test_labels_of_the_runs_own_answers() -> None:
    judged, labels = [True] * 10 + [False] * 10, [True] * 8 + [False] * 2 + [True] * 1 + [False] * 9
    error = labelled_error(judged, labels, range(20))
    assert (error.confirmed.value, error.missed.value) == (0.8, 0.1)
    found = labelled_rate(share(60, 200), error)
    assert found.value == pytest.approx(0.3 * 0.8 + 0.7 * 0.1)
    assert 0 <= found.low < found.value < found.high <= 1
    nobody = labelled_error([True] * 10, labels[:10], range(10))
    assert nobody.missed == Estimate(0.5, 0.0, 1.0)


def test_labels_on_all_answers_give_the_labels_own_interval() -> None:
    """The margins of the two verdicts and of the judged rate make up that of a plain share of n."""
    n = 400
    judged = [i < 160 for i in range(n)]
    labels = [i < 120 or i >= 380 for i in range(n)]
    found = labelled_rate(share(160, n), labelled_error(judged, labels, range(n)))
    plain = share(sum(labels), n)
    assert found.value == pytest.approx(plain.value)
    assert found.high - found.low == pytest.approx(plain.high - plain.low, rel=0.05)


def test_a_difference_of_labelled_arms_uses_that_they_are_paired() -> None:
    sure = LabelledError(Estimate(1, 1, 1), Estimate(0, 0, 0))
    judged = Estimate(0.1, 0.06, 0.14)
    found = labelled_difference((Estimate(0.4, 0.3, 0.5), sure), (Estimate(0.3, 0.2, 0.4), sure), judged)
    assert found[:3] == pytest.approx(judged)


def test_labels_of_the_same_prompts_are_paired() -> None:
    judged, labels = [i < 20 for i in range(40)], [i < 16 or i > 35 for i in range(40)]
    rate, difference = share(100, 200), Estimate(0.0, -0.05, 0.05)
    error, same, others = (labelled_error(judged, labels, [f"{name}{i}" for i in range(40)]) for name in "aab")
    paired = labelled_difference((rate, error), (rate, same), difference)
    apart = labelled_difference((rate, error), (rate, others), difference)
    assert paired.value == apart.value == 0
    assert apart.high - apart.low > 1.5 * (paired.high - paired.low)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("p", [0.1, 0.7])
def test_corrected_intervals_cover_and_judged_ones_do_not(p: float) -> None:
    draw, draws, hits, plain = rng(), 400, 0, 0
    for _ in range(draws):
        judged = share(int(draw.binomial(300, p * 0.85 + (1 - p) * 0.1)), 300)
        error = JudgeError(share(int(draw.binomial(100, 0.85)), 100), share(int(draw.binomial(100, 0.1)), 100))
        found = corrected_rate(judged, error)
        hits += found.low <= p <= found.high
        plain += judged.low <= p <= judged.high
    assert 0.93 <= hits / draws <= 0.99
    assert plain / draws < 0.9


def test_the_error_by_answers_drawn_by_verdict() -> None:
    n = 1000
    judged = [i < 300 for i in range(n)]
    labels = [i < 240 or i >= 950 for i in range(n)]
    found = error_by_verdict(share(300, n), labelled_error(judged, labels, range(n)))
    whole = judge_error(single(240, 50, 60, 650))
    assert found.sensitivity.value == pytest.approx(whole.sensitivity.value)
    assert found.specificity.value == pytest.approx(whole.specificity.value)
    for one, other in ((found.sensitivity, whole.sensitivity), (found.alarms, whole.alarms)):
        assert one.high - one.low == pytest.approx(other.high - other.low, rel=0.15)
    assert found.gain.low < whole.gain.low  # the two errors pull against each other
    with pytest.raises(ValueError, match="both kinds"):
        error_by_verdict(share(3, 10), labelled_error([True, False], [False, False], range(2)))
