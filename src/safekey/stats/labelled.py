"""Rates and differences corrected by what people say of some of a run's own answers. Numbers only.

    error = labelled_error(judged=[True, True, False], labels=[True, False, False], clusters=["a", "b", "c"])
    labelled_rate(Estimate(0.30, 0.25, 0.35), error)  # of all answers of the run

The judge's two verdicts split the answers, and the labels say how often each verdict is right: with q the judged rate,
the true one is q·confirmed + (1 − q)·missed. `judge_error.py` has the correction by labels of other answers.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from safekey.stats.intervals import interval
from safekey.stats.judge_error import Corrected, Estimate, JudgeError, clustered_correlation, solved, within


@dataclass(frozen=True, slots=True)
class LabelledError:
    """What people said of some of a run's own answers.

    Attributes:
        confirmed: the share of true positives among the answers that the judge calls positive.
        missed: the share of true positives among those that it calls negative.
        correlation: of the two estimates, 0–1, where answers to one request are in both groups.
        pulls: behaviour → how far its answers move the two estimates; by it the labels of two arms are paired.
    """

    confirmed: Estimate
    missed: Estimate
    correlation: float = 0.0
    pulls: Mapping[Hashable, tuple[float, float]] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """`confirmed` − `missed`: how much a verdict tells."""
        return self.confirmed.value - self.missed.value


def labelled_error(judged: Sequence[bool], labels: Sequence[bool], clusters: Sequence[Hashable]) -> LabelledError:
    """Return how right the judge is on the labelled answers, apart for its two verdicts.

    Within one verdict, the labelled answers must be a random choice; how many of each verdict are labelled is free.
    A verdict without a label has the interval (0, 1).

    Args:
        judged: the judge's verdict on each labelled answer.
        labels: people's.
        clusters: the behaviour of each.
    """
    groups: dict[bool, Estimate] = {}
    pulls: dict[Hashable, tuple[float, float]] = {}
    for said in (True, False):
        own = [(label, name) for verdict, label, name in zip(judged, labels, clusters, strict=True) if verdict == said]
        values, names = [float(label) for label, _ in own], [name for _, name in own]
        groups[said] = Estimate(*interval(values, names)[:3]) if own else Estimate(0.5, 0.0, 1.0)
        for value, name in zip(values, names, strict=True):
            hit, miss = pulls.get(name, (0.0, 0.0))
            pull = (value - groups[said].value) / len(own)
            pulls[name] = (hit + pull, miss) if said else (hit, miss + pull)
    return LabelledError(groups[True], groups[False], clustered_correlation(list(pulls.values())), pulls)


def error_by_verdict(judged: Estimate, error: LabelledError) -> JudgeError:
    """Return sensitivity and false alarms from answers that were drawn by the judge's verdicts.

    Of all answers the judge calls a share q positive. With the shares `confirmed` and `missed` the true positives among
    them are q·confirmed + (1 − q)·missed, and the judge finds the first part of these.

    Args:
        judged: q, the share of all answers from which they were drawn, with its interval.
        error: what people say of the drawn ones.

    Raises:
        ValueError: people call all answers the same, so one of the two errors is unknown.
    """
    share, rest = judged, _other(judged)
    hit, miss = error.confirmed, error.missed
    true = share.value * hit.value + rest.value * miss.value
    if not 0 < true < 1:
        raise ValueError("expected labels of both kinds")
    found = _part(rest, miss, hit)  # of the true positives, those that the judge misses
    alarms = _part(share, _other(hit), _other(miss))
    return JudgeError(_other(found), alarms, opposed=True)


def _part(share: Estimate, inside: Estimate, outside: Estimate) -> Estimate:
    """Return share·inside / (share·inside + (1 − share)·outside) with its interval, by the odds of the two parts."""
    first, second = share.value * inside.value, (1 - share.value) * outside.value
    ends = []
    for larger, of_share, of_inside, of_outside in (
        (False, share.below, inside.below, outside.above),
        (True, share.above, inside.above, outside.below),
    ):
        square = second**2 - (outside.value * of_share) ** 2 - ((1 - share.value) * of_outside) ** 2
        linear = -2 * first * second - 2 * inside.value * outside.value * of_share**2
        constant = first**2 - (inside.value * of_share) ** 2 - (share.value * of_inside) ** 2
        odds = max(solved(square, linear, constant, larger), 0.0)
        ends.append(1.0 if odds == math.inf else odds / (1 + odds))
    value = first / (first + second)
    return Estimate(value, min(ends[0], value), max(ends[1], value))


def _other(found: Estimate) -> Estimate:
    """Return the share of the others."""
    return Estimate(1 - found.value, 1 - found.high, 1 - found.low)


def labelled_rate(judged: Estimate, error: LabelledError) -> Corrected:
    """Return the true rate of a run of which some answers are labelled: q·confirmed + (1 − q)·missed.

    For yes-or-no verdicts this is prediction-powered inference with its best weight (Angelopoulos et al. 2023): the
    labels correct the judge's rate, and the judge's verdicts on all answers make the labels go further.

    Args:
        judged: the judged rate of all answers, the labelled ones among them, with any interval.
        error: from labels on those answers.
    """
    rate, hit, miss = judged.value, error.confirmed, error.missed
    value = rate * hit.value + (1 - rate) * miss.value
    up, down = (judged.above, judged.below) if error.gap >= 0 else (judged.below, judged.above)
    low = _joined(rate, abs(error.gap) * down, hit.below, miss.below, error.correlation)
    high = _joined(rate, abs(error.gap) * up, hit.above, miss.above, error.correlation)
    return Corrected(value, within(value - low, 0.0, 1.0), within(value + high, 0.0, 1.0), value)


def labelled_difference(
    arm: tuple[Estimate, LabelledError], reference: tuple[Estimate, LabelledError], judged: Estimate
) -> Corrected:
    """Return the true difference of two arms that both have labels.

    The judged rates are paired: their covariance follows from their own intervals and that of their difference. Labels
    of the two arms are paired where both arms' answers to one behaviour were labelled.

    Args:
        arm: the arm's judged rate, and what people said of its answers.
        reference: the same of the reference.
        judged: the judged difference with its paired interval.
    """
    value = labelled_rate(*arm).value - labelled_rate(*reference).value
    alike = _alike(arm, reference)
    ends = []
    for sign in (-1, 1):
        ours, theirs = _side(arm[0], sign), _side(reference[0], -sign)
        both = _side(judged, sign)
        a, b = arm[1].gap, reference[1].gap
        squares = max(a * a * ours**2 + b * b * theirs**2 - a * b * (ours**2 + theirs**2 - both**2), 0.0)
        first, second = _of_labels(*arm, sign), _of_labels(*reference, -sign)
        squares += max(first**2 + second**2 - 2 * alike * first * second, 0.0)
        ends.append(value + sign * math.sqrt(squares))
    return Corrected(value, within(ends[0], -1.0, 1.0), within(ends[1], -1.0, 1.0), value)


def _of_labels(rate: Estimate, error: LabelledError, sign: int) -> float:
    """The margin that the labels alone give to a rate."""
    return _joined(rate.value, 0.0, _side(error.confirmed, sign), _side(error.missed, sign), error.correlation)


def _alike(arm: tuple[Estimate, LabelledError], reference: tuple[Estimate, LabelledError]) -> float:
    """The correlation of two arms' label parts, 0–1."""
    (ours, first), (theirs, second) = arm, reference
    pairs = []
    for name in {*first.pulls, *second.pulls}:
        both = []
        for rate, error in ((ours, first), (theirs, second)):
            hit, miss = error.pulls.get(name, (0.0, 0.0))
            both.append(rate.value * hit + (1 - rate.value) * miss)
        pairs.append((both[0], both[1]))
    return clustered_correlation(pairs)


def _side(found: Estimate, sign: int) -> float:
    return found.above if sign > 0 else found.below


def _joined(rate: float, of_rate: float, hit: float, miss: float, correlation: float) -> float:
    """The margin of q·confirmed + (1 − q)·missed from the margins of its parts."""
    squares = of_rate**2 + (rate * hit) ** 2 + ((1 - rate) * miss) ** 2
    return math.sqrt(squares + 2 * correlation * rate * (1 - rate) * hit * miss)
